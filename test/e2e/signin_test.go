package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestSignIn opens a stack to the network, by HTTPS and for people with accounts: an admin is invited
// by the command, invites another person on the page, chats, and lets a program ask. Neither sees
// what the other wrote, and who signs out is out.
func TestSignIn(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, port, password = "e2e-sign-in", "29443", "open-sesame-by-https"
	const site = "https://" + publicName + ":" + port
	c := newCheckout(t)
	c.remove(t, stack)
	values := "overlay: prod\nportOffset: 21000\nmodel: {base: tiny}\nedge: {address: 0.0.0.0, port: 8443"
	c.settings(t, stack, values+"}")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", password)
	c.refused(t, stack, time.Minute, "codexcontinue:edge.tls: is not set", "{internal: true}")
	values += ", host: " + publicName + ", tls: "
	c.change(t, stack, values+"{internal: true}}")
	c.refused(t, stack, time.Minute, "signIn: is none", "{accounts: true}")
	with := func(tls string) string { return values + tls + "}\nsignIn: {accounts: true}" }
	c.change(t, stack, with("{internal: true}"))
	said := c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	if !strings.Contains(said, "https://") {
		t.Errorf("up tells no address of HTTPS:\n%s", said)
	}

	ada := c.invite(t, stack, site, "ada", "--admin")
	bob := ada.invite(t, "bob")
	b := newBrowser(t, chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP "+publicName+" 127.0.0.1"))
	b.signIn(t, ada, site)
	chat(t, b, site+"/")
	b.screenshot(t, "signed-in")
	noChanges(t, c, stack)

	path, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname"))
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[*person]int{ada.at(t, site): 200, bob: 404, {name: "nobody"}: 401} {
		resp, err := who.client().Get(site + "/api/conversations/" + strings.TrimPrefix(path, "/c/"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s gets %s, want %d", who.name, resp.Status, want)
		}
	}

	t.Run("a program asks with a key", func(t *testing.T) { asksByKey(t, bob) })
	t.Run("what people use is counted", func(t *testing.T) {
		await(t, "what both have used", func() bool {
			said := c.must(t, time.Minute, "bin/codexctl", "usage", "--json", stack)
			lacks := func(want string) bool { return !strings.Contains(said, want) }
			return !slices.ContainsFunc(
				[]string{`"name": "ada"`, `"name": "bob"`, `"questions": 1,`}, lacks)
		})
	})
	t.Run("an operator looks inside", func(t *testing.T) { looksInside(t, c, stack) })
	t.Run("a command of its own", func(t *testing.T) { runsOnce(t, c, stack) })
	t.Run("another container than the edge is not believed", func(t *testing.T) {
		spoofs(t, c, stack)
	})
	t.Run("the audit has it", func(t *testing.T) { audited(t, c, stack) })
	t.Run("the audit has the commands", func(t *testing.T) { commandsAudited(t, c, stack) })
	t.Run("the history has the up", func(t *testing.T) { history(t, c, stack) })
	t.Run("who signs out everywhere is out", func(t *testing.T) {
		other := bob.at(t, site)
		bob.post(t, "/account/sessions", url.Values{"end": {"everywhere"}})
		if err := page(t.Context(), other.client(), site); err == nil {
			t.Error("the other session goes on")
		}
	})
	t.Run("whom an operator signs out is out", func(t *testing.T) {
		other := bob.at(t, site)
		said := c.must(t, time.Minute, "bin/codexctl", "user", "sign-out", "--stack", stack, "bob")
		if err := page(t.Context(), other.client(), site); err == nil {
			t.Errorf("the session goes on after\n%s", said)
		}
	})
	t.Run("another certificate replaces nothing else", func(t *testing.T) {
		replacesCertificate(t, c, stack, site, with)
	})
	t.Run("the audit has the ups, and the one that failed", func(t *testing.T) {
		table := c.must(t, time.Minute, "bin/codexctl", "audit", stack)
		for _, outcome := range []string{"intent", "done", "failed"} {
			if !regexp.MustCompile(`configuration +` + outcome).MatchString(table) {
				t.Errorf("no configuration is %s in\n%s", outcome, table)
			}
		}
	})
	t.Run("the secrets show nowhere", func(t *testing.T) {
		own := stacks.File{Secret: stacks.RedisPassword, Content: stacks.SecretFor("redis user gate")}
		for _, value := range []string{password, own.Text(password), ada.password} {
			showsNowhere(t, c, stack, value, map[string]string{"up": said})
		}
	})
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// asksByKey makes a key on the page and asks the API with it, until it is revoked.
func asksByKey(t *testing.T, p *person) {
	t.Helper()
	form := url.Values{"name": {"editor"}, "scope": {"chat", "models"}, "days": {"1"}}
	key := regexp.MustCompile(`cck_[A-Za-z0-9]+`).FindString(p.post(t, "/account/keys", form))
	if key == "" {
		t.Fatal("the page shows no key")
	}

	ask := func() (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			p.site+"/v1/chat/completions", strings.NewReader(
				`{"model": "codexcontinue", "messages": [{"role": "user", "content": "Hello"}]}`))
		if err != nil {
			t.Fatal(err)
		}

		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := (&http.Client{Transport: insecure(), Timeout: time.Minute}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}

	if status, body := ask(); status != http.StatusOK || !strings.Contains(body, answer) {
		t.Errorf("%d %s", status, body)
	}

	resp, err := p.client().Get(p.site + "/account/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	list, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`name="revoke" value="([^"]+)"`).FindSubmatch(list)
	if id == nil || strings.Contains(string(list), key) {
		t.Fatalf("the list of keys:\n%s", list)
	}

	p.post(t, "/account/keys", url.Values{"revoke": {string(id[1])}})
	if status, body := ask(); status != http.StatusUnauthorized {
		t.Errorf("with a revoked key: %d %s", status, body)
	}
}

// publicName is the name of a stack that is opened to a network. It is of this machine, for a test.
const publicName = "chat.example.com"

// audited has codexctl read and check what was done in the stack so far.
func audited(t *testing.T, c *checkout, stack string) {
	table := c.must(t, time.Minute, "bin/codexctl", "audit", stack)
	for _, want := range []string{
		"ada", "bob", "configuration", "user-invited", "password", "sign-in", "question", "answer",
		"key-made", "command", "redis sh 7",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("%s is not in the audit:\n%s", want, table)
		}
	}

	theirs := c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--person", "account:bob")
	for what, want := range map[string]bool{"bob": true, "question": true, "configuration": false} {
		if strings.Contains(theirs, what) != want {
			t.Errorf("of bob %s is in the audit: %v, want %v:\n%s", what, !want, want, theirs)
		}
	}

	file := filepath.Join(t.TempDir(), "audit.jsonl")
	c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--export", file)
	said := c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--against", file)
	if !strings.Contains(said, "are as they were written") || !strings.Contains(said, "in the stack") {
		t.Errorf("the check says\n%s", said)
	}
}

// spoofs signs in with a wrong password from the container of Redis, which names another address. The
// audit has its own, and those of people as the edge has them.
func spoofs(t *testing.T, c *checkout, stack string) {
	t.Helper()
	const claimed = "198.51.100.77"
	const script = `exec 3<>/dev/tcp/gate/8003
		form='name=ada&password=not-the-password'
		printf 'POST /sign-in HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n' >&3
		printf 'X-Forwarded-For: %s\r\nX-Forwarded-Proto: https\r\n' "$1" >&3
		printf 'Content-Type: application/x-www-form-urlencoded\r\n' >&3
		printf 'Content-Length: %s\r\n\r\n%s' "${#form}" "$form" >&3
		cat <&3`
	said := c.must(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis, "--",
		"bash", "-c", script, "spoof", claimed)
	if !strings.Contains(said, "422") {
		t.Errorf("the gate answers another container\n%s", said)
	}

	addresses := map[string]bool{}
	for service, running := range c.containers(t, stack) {
		if service != stacks.Redis && service != stacks.Edge {
			continue
		}
		for _, one := range running {
			var seen []struct {
				NetworkSettings struct {
					Networks map[string]struct{ IPAddress string }
				}
			}
			inspect(t, c, &seen, "container", one.ID)
			for _, n := range seen[0].NetworkSettings.Networks {
				addresses[n.IPAddress] = service == stacks.Redis
			}
		}
	}

	file := filepath.Join(t.TempDir(), "audit.jsonl")
	c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--export", file)
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	records := string(written)
	if strings.Contains(records, claimed) {
		t.Error("the audit has the address that was claimed")
	}
	for address, want := range addresses {
		if strings.Contains(records, `"`+address+`"`) != want {
			t.Errorf("the audit has %s: %v, want %v:\n%s", address, !want, want, records)
		}
	}
}

// history reads who made the stack what it is.
func history(t *testing.T, c *checkout, stack string) {
	var updates []struct {
		Kind, Result string
		Release      struct {
			By, Revision, Settings, Model string
			Images                        map[string]string
		}
	}
	said := c.must(t, time.Minute, "bin/codexctl", "history", "--json", "-n", "1", stack)
	if err := json.Unmarshal([]byte(said), &updates); err != nil || len(updates) != 1 {
		t.Fatalf("%v:\n%s", err, said)
	}

	up := updates[0]
	if up.Kind != "update" || up.Result != "succeeded" || up.Release.By == "" ||
		len(up.Release.Settings) != 64 || !strings.HasPrefix(up.Release.Model, "codexcontinue:") ||
		!strings.HasPrefix(up.Release.Images[stacks.Backend], "codexcontinue/backend:") {
		t.Errorf("the last update is\n%s", said)
	}

	table := c.must(t, time.Minute, "bin/codexctl", "history", stack)
	line := strings.Join(strings.Fields(table), " ")
	if !strings.Contains(line, up.Release.By+" up succeeded") ||
		!strings.Contains(line, up.Release.Revision+" create") {
		t.Errorf("the table is\n%s", table)
	}
}

// insecure returns a transport that takes a certificate of whatever authority: that of a test is the
// stack's own.
func insecure() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, strings.Replace(address, publicName+":", "127.0.0.1:", 1))
	}
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return t
}

// code matches the code of an invitation, by itself in a line of the command's output, and marked
// on the page.
var code = regexp.MustCompile(`(?m)^  ([A-Z0-9-]{16,})$|Code <code>([^<]+)</code>`)

// person has an account of a stack.
type person struct {
	name, password string

	// site is where the person's cookies are good.
	site string
	jar  http.CookieJar
}

// invite makes an account of a stack that is up, as a person does who is invited by the command, and
// signs in.
func (c *checkout) invite(t *testing.T, stack, site, name string, flags ...string) *person {
	t.Helper()
	args := append([]string{"user", "invite", "--stack", stack, name}, flags...)
	return join(t, site, name, c.must(t, time.Minute, "bin/codexctl", args...))
}

// invite makes an account, as a person does whom an admin invites on the page.
func (p *person) invite(t *testing.T, name string) *person {
	t.Helper()
	page := p.post(t, "/account/users", url.Values{"act": {"invite"}, "name": {name}})
	return join(t, p.site, name, page)
}

// join accepts the invitation that was said.
func join(t *testing.T, site, name, said string) *person {
	t.Helper()
	m := code.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("the invitation of %s has no code:\n%s", name, said)
	}

	p := &person{name: name, password: "correct horse battery of " + name}
	p.enter(t, site, "/invitation", url.Values{
		"name": {name}, "code": {m[1] + m[2]},
		"password": {p.password}, "again": {p.password},
	})
	return p
}

// at returns the person signed in at another address of the stack.
func (p *person) at(t *testing.T, site string) *person {
	t.Helper()
	q := &person{name: p.name, password: p.password}
	q.enter(t, site, "/sign-in", url.Values{"name": {p.name}, "password": {p.password}})
	return q
}

// enter sends a form that signs the person in.
func (p *person) enter(t *testing.T, site, path string, form url.Values) {
	t.Helper()
	var err error
	if p.jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}

	p.site = site
	p.post(t, path, form)
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.jar.Cookies(u) {
		if strings.HasSuffix(c.Name, "codexcontinue_session") {
			return
		}
	}

	t.Fatalf("%s is not signed in after %s", p.name, path)
}

// post sends a form and returns the page.
func (p *person) post(t *testing.T, path string, form url.Values) string {
	t.Helper()
	client := p.client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}

	resp, err := client.PostForm(p.site+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 {
		t.Fatalf("POST %s of %s: %s, %v\n%s", path, p.name, resp.Status, err, page)
	}

	return string(page)
}

// client returns a client with the person's cookies.
func (p *person) client() *http.Client {
	return &http.Client{Transport: insecure(), Jar: p.jar, Timeout: time.Minute}
}

// signIn signs the person in by the browser's own form, which the front page leads to.
func (b *browser) signIn(t *testing.T, p *person, site string) {
	t.Helper()
	b.run(t, time.Minute, chromedp.Navigate(site+"/"), chromedp.WaitVisible("input[name=password]"))
	b.screenshot(t, "sign-in")
	b.run(t, time.Minute, chromedp.SendKeys("input[name=name]", p.name),
		chromedp.SendKeys("input[name=password]", p.password+"\n"),
		chromedp.WaitVisible("textarea[name=message]"))
}

// members are as many people as the number says, of whom the first is an admin.
func (c *checkout) members(t *testing.T, stack, site string, number int) []*person {
	t.Helper()
	admin := c.invite(t, stack, site, "ada", "--admin")
	all := []*person{admin}
	for i := range number - 1 {
		all = append(all, admin.invite(t, fmt.Sprintf("member-%d", i+1)))
	}
	return all
}
