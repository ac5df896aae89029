package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// gated is a site behind real gates, whose people have accounts.
type gated struct {
	*site
	binary, redis, frontend string

	// change changes the configuration of the gates; nil leaves it.
	change func(*gateenv.Config)
}

func newGated(t *testing.T, play func(string, *fakebackend.Answer)) *gated {
	t.Helper()
	g := &gated{site: newSite(t, play), binary: filepath.Join(t.TempDir(), "gate")}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", g.binary,
		"../../../gate").CombinedOutput()
	if err != nil {
		t.Fatalf("build the gate: %v\n%s", err, out)
	}

	f := httptest.NewServer(g.ungated)
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	g.redis, g.frontend = redistest.Start(t).URL, f.URL
	return g
}

// command returns the gate with an idle time of sessions, at the address.
func (g *gated) command(address string, idle time.Duration, args ...string) *exec.Cmd {
	g.t.Helper()
	cfg := &gateenv.Config{
		Common: contract.Common{Environment: "test", LogLevel: "error", ListenAddr: address,
			DrainTimeout: time.Second},
		RequiredRedis:     contract.RequiredRedis{RedisURL: g.redis},
		FrontendURL:       g.frontend,
		MLServiceURL:      "http://127.0.0.1:1", // no program asks
		Title:             "CodexContinue",
		SignIn:            gateenv.Accounts,
		SessionIdle:       idle,
		SessionLife:       time.Hour,
		GenerationTimeout: time.Minute,
	}
	if g.change != nil {
		g.change(cfg)
	}

	cmd := exec.Command(g.binary, args...)
	var err error
	if cmd.Env, err = contract.Environ(cfg); err != nil {
		g.t.Fatal(err)
	}

	return cmd
}

// start starts a gate and returns its URL.
func (g *gated) start(idle time.Duration) string {
	g.t.Helper()
	address := "127.0.0.1:" + peers.FreePort(g.t, "127.0.0.1")
	cmd := g.command(address, idle)
	cmd.Stderr = g.t.Output()
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}

	g.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})

	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return "http://" + address
			}
		}

		if time.Now().After(deadline) {
			g.t.Fatalf("the gate is not ready: %v", err)
		}
	}
}

// code returns the code that `gate user` prints.
func (g *gated) code(words ...string) string {
	g.t.Helper()
	out, err := g.command(":1", time.Hour, append([]string{"user"}, words...)...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("gate user %q: %v: %s", words, err, out)
	}
	return regexp.MustCompile(`[A-Z2-7]{26}`).FindString(string(out))
}

const (
	signInPassword = "a horse of another colour"
	signedOutShown = "document.getElementById('signed-out')?.innerText.includes('signed out')"
)

// join takes an invitation.
func (b *chromium) join(site, name, code string) {
	b.t.Helper()
	b.do(chromedp.Navigate(site+"/invitation"), chromedp.SendKeys("input[name=name]", name),
		chromedp.SendKeys("input[name=code]", code),
		chromedp.SendKeys("input[name=password]", signInPassword),
		chromedp.SendKeys("input[name=again]", signInPassword+"\r"))
	b.wait("document.querySelector('.account')?.textContent.trim() === '" + name + "'")
}

// signIn signs in with the keyboard, on the page that is there.
func (b *chromium) signIn(name string) {
	b.t.Helper()
	b.wait("location.pathname === '/sign-in' && document.activeElement.name === 'name'")
	b.do(chromedp.KeyEvent(name), chromedp.KeyEvent("\t"), chromedp.KeyEvent(signInPassword),
		chromedp.KeyEvent("\r"))
}

// refused has the page ask for the conversation c1 and its answer g1, which are somebody else's.
func (b *chromium) refused() {
	b.t.Helper()
	b.expect("403")
	for request, want := range map[string]int{
		"GET /c/c1":                                        404,
		"GET /c/c1/edit":                                   404,
		"GET /c/c1/edit/g1":                                404,
		"GET /c/c1/rate/g1":                                404,
		"POST /c/c1/rename title=x":                        404,
		"POST /c/c1/replace from=g1&to=g1":                 404,
		"POST /c/c1/rate/g1 verdict=up":                    404,
		"POST /c/c1/rate/g1/submit verdict=up&consent=yes": 404,
		"POST /chat conversation_id=c1&message=x":          404,
		"GET /generations/g1/events":                       404,
		"POST /generations/g1/stop x=1":                    404,
		"GET /passages/g1":                                 404,
		"GET /review":                                      403,

		"GET /api/conversations/c1":                             404,
		"GET /api/conversations/c1/export":                      404,
		`PATCH /api/conversations/c1 {"title":"x"}`:             404,
		"DELETE /api/conversations/c1":                          404,
		`PUT /api/conversations/c1/ratings/g1 {"verdict":"up"}`: 404,
		`POST /api/chat {"conversation_id":"c1","message":"x"}`: 404,
		"GET /api/generations/g1/events":                        404,
		"DELETE /api/generations/g1":                            404,
		"GET /api/reviews":                                      403,

		// These answer everybody, without what is hers.
		"POST /c/c1/delete x=1":  200,
		"GET /search?q=hello":    200,
		"GET /fragments/sidebar": 200,
		"GET /api/conversations": 200,
	} {
		method, path, _ := strings.Cut(request, " ")
		path, body, _ := strings.Cut(path, " ")
		got := value[struct {
			Status int    `json:"status"`
			Text   string `json:"text"`
		}](b, fmt.Sprintf("fetch(%q, {method: %q, body: %q || undefined, headers: "+
			"{'Content-Type': 'application/x-www-form-urlencoded'}})"+
			".then(async r => ({status: r.status, text: await r.text()}))", path, method, body))
		if got.Status != want || strings.Contains(got.Text, "bold") ||
			strings.Contains(got.Text, `href="/c/c1"`) || strings.Contains(got.Text, `"c1"`) {
			b.t.Errorf("%s: %d\n%s", request, got.Status, got.Text)
		}
	}
}

// TestBrowserSignIn takes an invitation, asks, is signed out in the middle of the answer, and finds
// the answer and the draft after signing in again.
func TestBrowserSignIn(t *testing.T) {
	p := newPaced()
	g := newGated(t, p.play)
	const idle = 7 * time.Second // longer than a busy browser takes from a page to a question
	lasting, brief := g.start(time.Hour), g.start(idle)
	b := newBrowser(t, 1280, 800)
	b.expect("401")
	b.do(chromedp.Navigate(lasting + "/c/c1"))
	b.wait("location.pathname === '/sign-in' && location.search === '?back=%2Fc%2Fc1'")
	b.join(lasting, "ada", g.code("invite", "ada", "--admin"))

	// The cookie is that of the host, whatever the port. The session is idle there after seconds,
	// during the answer.
	b.do(chromedp.Navigate(brief + "/"))
	b.ask("hello")
	p.words <- "Here is **bo"
	b.wait(answerText + "?.includes('Here is')")
	b.do(chromedp.SendKeys("#message", "my draft"))
	b.wait(signedOutShown)
	b.screenshot("signed-out")
	p.words <- "ld** text."
	p.words <- ""
	b.do(chromedp.Click("#signed-out a"))
	b.signIn("ada")
	b.wait("location.pathname === '/c/c1' && " +
		"document.querySelector('.body strong')?.innerText === 'bold'")
	b.wait("document.getElementById('message').value === 'my draft'")

	// Who asks when the session has ended is told, and keeps the question.
	time.Sleep(idle + 2*time.Second)
	b.do(chromedp.SendKeys("#message", "\r"))
	b.wait(signedOutShown + " && document.getElementById('alert').hidden")
	b.do(chromedp.Click("#signed-out a"))
	b.signIn("ada")
	b.wait("location.pathname === '/c/c1' && " +
		"document.getElementById('message').value.trim() === 'my draft'")

	// Somebody else sees nothing of it.
	other := newBrowser(t, 390, 844)
	other.expect("404")
	other.join(lasting, "bob", g.code("invite", "bob"))
	other.do(chromedp.Navigate(lasting + "/c/c1"))
	other.wait("document.body.innerText.includes('There is nothing here')")
	other.refused()
	if !slices.Contains(g.backend.Questions(), "hello") {
		t.Error("her question is gone")
	}

	other.do(chromedp.Navigate(lasting + "/account"))
	other.wait("document.body.innerText.includes('bob') && " +
		"!document.body.innerText.includes('People')")
	other.noOverflow()

	// Signed out everywhere, in another browser of the same person.
	second := newBrowser(t, 1280, 800)
	second.expect("401")
	second.do(chromedp.Navigate(lasting + "/"))
	second.signIn("ada")
	second.ask("and now?")
	p.words <- "Never "
	second.wait(answerText + "?.includes('Never')")

	// The first browser's session, idle at the brief gate since its last click, has ended by now.
	time.Sleep(idle + 2*time.Second)
	b.do(chromedp.Navigate(lasting + "/account/sessions"))
	b.signIn("ada")
	b.wait("document.querySelectorAll('section.card').length === 2")
	b.do(chromedp.Click("button[value=everywhere]"))
	b.wait("location.pathname === '/sign-in'")
	second.wait(signedOutShown)
	close(p.words)
	second.do(chromedp.Click("#signed-out a"))
	second.signIn("ada")
	second.wait(answerText + "?.includes('Never')")

	// And here.
	second.do(chromedp.Click(".account"))
	second.wait("location.pathname === '/account'")
	second.do(chromedp.Click("form[action='/sign-out'] button"))
	second.wait("location.pathname === '/sign-in'")
	second.do(chromedp.Navigate(lasting + "/"))
	second.wait("location.pathname === '/sign-in'")
}

// TestScreenshotsSignIn saves pictures of the gate's pages, as TestScreenshots does.
func TestScreenshotsSignIn(t *testing.T) {
	if os.Getenv("CODEXCONTINUE_SCREENSHOTS") == "" {
		t.Skip("CODEXCONTINUE_SCREENSHOTS is not set: no pictures are taken")
	}

	g := newGated(t, newPaced().play)
	at := g.start(time.Hour)
	for i, size := range []struct {
		name string
		w, h int
	}{{"desktop", 1280, 800}, {"phone", 390, 844}} {
		for j, scheme := range []string{"light", "dark"} {
			t.Run(size.name+"-"+scheme, func(t *testing.T) {
				b := newBrowser(t, size.w, size.h)
				b.expect("403")
				b.expect("422")
				b.expect("409")
				shot := func(name string) {
					b.noOverflow()
					b.screenshot(fmt.Sprintf("%s-%s-%s", name, size.name, scheme))
				}

				b.do(media("prefers-color-scheme", scheme), chromedp.Navigate(at+"/"))
				b.wait("location.pathname === '/sign-in'")
				shot("sign-in")
				b.do(chromedp.SendKeys("input[name=name]", "ada"),
					chromedp.SendKeys("input[name=password]", "wrong\r"))
				b.wait("document.querySelector('.banner.bad') !== null")
				shot("sign-in-refused")
				b.do(chromedp.Navigate(at + "/invitation"))
				shot("invitation")
				name := fmt.Sprintf("ada%d%d", i, j)
				b.join(at, name, g.code("invite", name, "--admin"))
				shot("chat-signed-in")
				if size.w < 700 {
					b.do(chromedp.Click("#open-drawer"))
					b.wait("document.body.classList.contains('drawer-open')")
					shot("drawer-signed-in")
				}

				for _, page := range []string{
					"/account", "/account/sessions", "/account/data", "/account/users",
				} {
					b.do(chromedp.Navigate(at + page))
					shot("gate" + regexp.MustCompile(`/`).ReplaceAllString(page, "-"))
				}

				b.do(chromedp.SendKeys("input[type=text][name=name]",
					fmt.Sprintf("grace%d%d", i, j)),
					chromedp.Click("button[value=invite]"))
				b.wait("document.querySelector('section.card code') !== null")
				shot("invited")
				b.do(chromedp.Click("form:last-of-type button[value=remove]"))
				b.wait("document.querySelector('.banner') !== null")
				shot("removed")

				b.do(chromedp.Navigate(at+"/account/data"),
					chromedp.SendKeys("input[name=current]", "wrong\r"))
				b.wait("document.querySelector('.banner.bad') !== null")
				shot("erase-refused")
				b.do(chromedp.SendKeys("input[name=current]", signInPassword+"\r"))
				b.wait("document.querySelector('a[href=\"/sign-in\"]') !== null || " +
					"document.body.innerText.includes('another admin')")
				shot("erased")
			})
		}
	}
}
