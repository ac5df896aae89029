package main

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// ada is an admin at the provider.
var ada = oidctest.Person{Subject: "ada", Name: "Ada Lovelace", Claims: map[string]any{
	"groups": []string{"maintainers", "team", "golf"}, "sid": "session-1",
}}

// newProvided starts a gate whose people sign in at an OpenID provider, which is down
// first if it is said to be.
func newProvided(
	t *testing.T, down bool, changes ...func(*gateenv.Config),
) (*town, *oidctest.Provider) {
	t.Helper()
	r, f, p := redistest.Start(t), newFrontend(t), oidctest.Start(t)
	p.Down(down)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(oidctest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	base, stop, log := start(t, r.URL, f.URL, append(changes, func(c *gateenv.Config) {
		c.SignIn, c.PublicURL = gateenv.OIDC, "http://"+c.ListenAddr
		c.Provider = gateenv.Provider{
			Issuer:           p.Issuer,
			ClientID:         oidctest.ClientID,
			ClientSecretFile: secret,
			GroupsClaim:      "groups",
			AllowedGroups:    gateenv.Names{"team"},
			AdminGroups:      gateenv.Names{"maintainers"},
		}
	})...)

	p.Register(base)
	return &town{t: t, redis: r, base: base, frontend: f, stop: stop, log: log}, p
}

// newProvidedAda is newProvided with the audit and with commands, where ada has signed in as v and
// has the id.
func newProvidedAda(t *testing.T) (town *town, p *oidctest.Provider, v *visitor, id string) {
	t.Helper()
	town, p = newProvided(t, false, auditing)
	town.commandOf(p)
	p.SignIn(ada)
	v = town.visitor("192.0.2.1")
	v.through("/")
	v.signedIn()
	return town, p, v, town.person().ID
}

var linkPattern = regexp.MustCompile(`<a class="primary" href="([^"]*)"`)

// link returns where the page's main link leads.
func link(t *testing.T, page string) string {
	t.Helper()
	m := linkPattern.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no link on %s", page)
	}
	return html.UnescapeString(m[1])
}

// through signs in at the provider from the page to sign in, and returns the last answer.
func (v *visitor) through(back string) (*http.Response, string) {
	v.town.t.Helper()
	_, page := v.get("/sign-in?" + url.Values{"back": {back}}.Encode())
	follow := *v.client
	follow.CheckRedirect = nil
	req, err := http.NewRequestWithContext(v.town.t.Context(), http.MethodGet, link(v.town.t, page),
		nil)
	if err != nil {
		v.town.t.Fatal(err)
	}

	req.Header.Set("Accept", "text/html")

	resp, err := follow.Do(req)
	if err != nil {
		v.town.t.Fatal(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.town.t.Fatal(err)
	}

	return resp, string(body)
}

// TestProvider signs in at a provider, is known to the frontend, and signs out at both.
func TestProvider(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	v := town.visitor("192.0.2.1")
	if resp, _ := v.get("/c/1"); resp.Header.Get("Location") != "/sign-in?back=%2Fc%2F1" {
		t.Fatalf("%s to %s", resp.Status, resp.Header.Get("Location"))
	}

	resp, body := v.through("/c/1?x=y")
	if resp.StatusCode != http.StatusOK || body != "the page" ||
		resp.Request.URL.String() != town.base+"/c/1?x=y" {
		t.Fatalf("%s %s at %s", resp.Status, body, resp.Request.URL)
	}

	// The frontend gets the person's token, and nothing of the sign-in.
	got := town.frontend.last(t)
	opt, err := redis.ParseURL(town.redis.URL)
	if err != nil {
		t.Fatal(err)
	}

	client := redis.NewClient(opt)
	defer client.Close()
	verifier := identity.NewVerifier(identity.Backend, redisGet(client), identity.Gate)
	token := strings.TrimPrefix(got.Header.Get("Authorization"), "Bearer ")
	who, _, err := verifier.Verify(t.Context(), token)
	if err != nil || len(who.ID) != 26 || who.Name != "Ada Lovelace" || !who.Admin ||
		!slices.Equal(who.Groups, []string{"maintainers", "team"}) ||
		got.Header.Get("Cookie") != "" {
		t.Errorf("%+v, %v, cookies %q", who, err, got.Header.Get("Cookie"))
	}

	// The page to sign in is for those who have not.
	if resp, _ := v.get("/sign-in?back=/c/2"); resp.Header.Get("Location") != "/c/2" {
		t.Errorf("signed in: %s", resp.Status)
	}

	if _, page := v.get("/account"); !strings.Contains(page, "Ada Lovelace") ||
		strings.Contains(page, "password") {
		t.Errorf("the account: %s", page)
	}

	// Signed out here, one is signed out at the provider.
	resp, _ = v.post("/sign-out")
	left := resp.Header.Get("Location")
	if !strings.HasPrefix(left, "/oidc/signed-out?ticket=") {
		t.Fatalf("%s to %s", resp.Status, left)
	}

	resp, page := v.get(left)
	to := link(t, page)
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}

	if !strings.HasPrefix(to, p.Issuer) || resp.Header.Get("Refresh") != "0; url="+to ||
		u.Query().Get("id_token_hint") == "" {
		t.Errorf("%s, refresh %q", to, resp.Header.Get("Refresh"))
	}

	resp, err = v.client.Get(to)
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	if resp.Header.Get("Location") != town.base+"/sign-in" {
		t.Errorf("the provider answers %s, and sends to %s", resp.Status,
			resp.Header.Get("Location"))
	}

	if resp, _ := v.get("/"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("signed out: %s", resp.Status)
	}

	// What says who somebody is, or would let somebody in, is not in the log.
	hint := u.Query().Get("id_token_hint")
	if err := town.stop(); err != nil {
		t.Error(err)
	}

	for _, secret := range []string{hint, token, "Lovelace", oidctest.Secret} {
		if strings.Contains(town.log.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, town.log)
		}
	}
}

// TestProviderRefuses checks who is not let in, and that the page says so.
func TestProviderRefuses(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(oidctest.Person{Subject: "eve", Claims: map[string]any{"groups": []string{"golf"}}})
	v := town.visitor("192.0.2.1")
	if resp, page := v.through("/"); resp.StatusCode != http.StatusForbidden ||
		!strings.Contains(page, "in no group that is let in") {
		t.Errorf("%s %s", resp.Status, page)
	}

	if resp, _ := v.get("/"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("of a wrong group: %s", resp.Status)
	}

	for method, paths := range map[string][]string{
		http.MethodGet:  {"/oidc/callback", "/oidc/callback?state=x&code=y"},
		http.MethodPost: {"/oidc/back-channel", "/oidc/back-channel?logout_token=x"},
	} {
		for _, path := range paths {
			if resp, _ := v.do(method, path, nil); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}

	// Nobody has an account of the stack's own.
	for _, path := range []string{"/invitation", "/account/password", "/account/users", "/sign-in"} {
		resp, body := v.post(path, "name", "eve", "password", password)
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}

	if len(town.frontend.requests) > 0 {
		t.Errorf("the frontend got %v", town.frontend.requests[0].URL)
	}
}

// TestProviderSays checks that sessions end when the provider says so: one, or all of a person; an
// event stream within seconds.
func TestProviderSays(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	laptop, phone := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	other := town.visitor("192.0.2.3")
	laptop.through("/")
	again := ada
	again.Claims = map[string]any{"groups": "team", "sid": "session-2"}
	p.SignIn(again)
	phone.through("/")
	p.SignIn(oidctest.Person{Subject: "bob", Claims: map[string]any{"groups": "team"}})
	other.through("/")

	stream := *laptop.client
	resp, err := stream.Get(town.base + "/generations/1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}

	end := func(subject, sid string) {
		t.Helper()
		token := p.Sign(p.LogoutToken(subject, sid))
		for _, want := range []int{http.StatusOK, http.StatusBadRequest} { // it is good once
			resp, err := http.PostForm(town.base+"/oidc/back-channel",
				url.Values{"logout_token": {token}})
			if err != nil {
				t.Fatal(err)
			}

			resp.Body.Close()
			if resp.StatusCode != want || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s, want %d", resp.Status, want)
			}
		}
	}

	signedIn := func(v *visitor) bool {
		t.Helper()
		resp, _ := v.get("/")
		return resp.StatusCode == http.StatusOK
	}

	ended := time.Now()
	end("ada", "session-1")
	if signedIn(laptop) || !signedIn(phone) || !signedIn(other) {
		t.Error("not the one session has ended")
	}
	if _, err := io.ReadAll(resp.Body); err != nil || time.Since(ended) > streamEnds {
		t.Errorf("the stream ended after %s: %v", time.Since(ended), err)
	}

	// The groups that keys follow stay with the other sessions, and go with the person.
	groups := func() int { return len(town.redis.Client(t).Keys(t.Context(), "gate:groups:*").Val()) }
	if n := groups(); n != 2 {
		t.Errorf("the groups of %d people are kept, want 2", n)
	}
	end("ada", "")
	if n := groups(); n != 1 {
		t.Errorf("the groups of %d people are kept after the person's end, want 1", n)
	}
	if signedIn(phone) || !signedIn(other) {
		t.Error("not all sessions of the one person have ended")
	}
}

// TestProviderLater starts a gate before its provider.
func TestProviderLater(t *testing.T) {
	town, p := newProvided(t, true)
	p.SignIn(ada)
	v := town.visitor("192.0.2.1")
	resp, page := v.through("/")
	if resp.StatusCode != http.StatusServiceUnavailable ||
		!strings.Contains(page, "identity provider cannot be reached") {
		t.Errorf("%s %s", resp.Status, page)
	}

	p.Down(false)
	deadline := time.Now().Add(20 * time.Second)
	for resp.StatusCode != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatalf("%s %s", resp.Status, page)
		}
		time.Sleep(100 * time.Millisecond)
		resp, page = v.through("/")
	}
}

// TestProviderFiles checks what a gate says whose files are not there.
func TestProviderFiles(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for want, change := range map[string]func(*gateenv.Config){
		"OIDC_CLIENT_SECRET_FILE: open /nowhere": func(c *gateenv.Config) {
			c.ClientSecretFile = "/nowhere"
		},
		"OIDC_CA_FILE: open /nowhere": func(c *gateenv.Config) {
			c.ProviderCAFile = "/nowhere"
		},
		"OIDC_CA_FILE: " + empty + " holds no certificate": func(c *gateenv.Config) {
			c.ProviderCAFile = empty
		},
	} {
		env := environ(t, "127.0.0.1:0", "redis://127.0.0.1:1/0", "http://127.0.0.1:1",
			func(c *gateenv.Config) {
				c.SignIn, c.PublicURL = gateenv.OIDC, "https://chat.example.com"
				c.Provider = gateenv.Provider{Issuer: "https://id.example.com", ClientID: "c",
					Everybody: true}
				change(c)
			})

		err := run(t.Context(), nil, env, io.Discard, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}

// TestStarts checks that a stranger cannot fill Redis with sign-ins that only begin.
func TestStarts(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	start := func(address string) *http.Response {
		resp, _ := town.visitor(address).get("/oidc/start")
		return resp
	}

	var refused *http.Response
	for range 200 {
		if resp := start("192.0.2.1"); resp.StatusCode != http.StatusSeeOther {
			refused = resp
			break
		}
	}

	if refused == nil || refused.StatusCode != http.StatusTooManyRequests ||
		refused.Header.Get("Retry-After") == "" {
		t.Errorf("200 sign-ins from one address: %v", refused)
	}
	if resp := start("192.0.2.2"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("from another address: %s", resp.Status)
	}
}

// TestStartsEnded checks that a sign-in that comes to its end does not count.
func TestStartsEnded(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	redis := town.redis.Client(t)
	count := func() (n int) {
		for _, key := range redis.Keys(t.Context(), "gate:attempts:start*").Val() {
			sum, err := redis.Get(t.Context(), key).Int()
			if err != nil {
				t.Fatal(err)
			}
			n += sum
		}
		return n
	}

	town.visitor("192.0.2.1").get("/oidc/start")
	if n := count(); n != 2 { // for the address, and in all
		t.Errorf("one sign-in that began: %d", n)
	}

	if resp, _ := town.visitor("").through("/"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	if n := count(); n != 2 {
		t.Errorf("after one that ended: %d", n)
	}
}
