package web_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
)

// through goes to the provider, which signs in whom it has been told of, from the page to sign in.
func (b *chromium) through() {
	b.t.Helper()
	b.wait("location.pathname === '/sign-in' && document.querySelector('a.primary')")
	b.do(chromedp.Click("a.primary"))
}

// TestBrowserProvider goes to an OpenID provider: first without being let in, then to ask, and
// again when the session has ended in the middle of the answer. It signs out at both, and is
// signed out by the provider. Somebody else of the team sees nothing of it, and has a key.
func TestBrowserProvider(t *testing.T) {
	p, provider := newPaced(), oidctest.Start(t)
	g := newGated(t, p.play)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(oidctest.Secret), 0o600); err != nil {
		t.Fatal(err)
	}

	site := ""
	g.change = func(c *gateenv.Config) {
		if site == "" {
			site = "http://" + c.ListenAddr
		}

		c.SignIn, c.PublicURL = gateenv.OIDC, site
		c.Provider = gateenv.Provider{
			Issuer: provider.Issuer, ClientID: oidctest.ClientID, ClientSecretFile: secret,
			GroupsClaim: "groups", AllowedGroups: gateenv.Names{"team"},
		}
	}

	lasting, brief := g.start(time.Hour), g.start(3*time.Second)
	provider.Register(lasting)

	provider.SignIn(oidctest.Person{Subject: "eve", Name: "Eve",
		Claims: map[string]any{"groups": []string{"golf"}}})
	b := newBrowser(t, 390, 844)
	b.expect("401")
	b.expect("403")
	b.do(chromedp.Navigate(lasting + "/"))
	b.through()
	b.wait("document.body.innerText.includes('in no group that is let in')")
	b.noOverflow()
	b.screenshot("provider-wrong-group")
	b.do(chromedp.Navigate(lasting + "/"))
	b.wait("location.pathname === '/sign-in'")

	provider.SignIn(oidctest.Person{Subject: "ada", Name: "Ada Lovelace",
		Claims: map[string]any{"groups": []string{"team"}, "sid": "session-1"}})
	b.through()
	signedIn := "document.querySelector('.account')?.textContent.trim() === 'Ada Lovelace'"
	b.wait("location.pathname === '/' && " + signedIn)

	// The session is idle at the other gate after seconds, during the answer.
	b.do(chromedp.Navigate(brief + "/"))
	b.ask("hello")
	p.words <- "Here is **bo"
	b.wait(answerText + "?.includes('Here is')")
	b.wait(signedOutShown)
	p.words <- "ld** text."
	p.words <- ""
	b.do(chromedp.Click("#signed-out a"))
	b.through()
	b.wait("location.pathname === '/c/c1' && " +
		"document.querySelector('.body strong')?.innerText === 'bold'")

	// Signed out here, one is signed out at the provider.
	b.do(chromedp.Navigate(lasting + "/account"))
	provider.Visits()
	b.do(chromedp.Click("form[action='/sign-out'] button"))
	b.wait("location.pathname === '/sign-in' && document.querySelector('a.primary')")
	if visits := provider.Visits(); !slices.Contains(visits, "/end_session") {
		t.Errorf("the provider was asked for %q", visits)
	}

	b.do(chromedp.Navigate(lasting + "/c/c1"))
	b.through()
	b.wait("location.pathname === '/c/c1' && " + signedIn)

	// The provider says that the session is over, in the middle of an answer.
	b.ask("and now?")
	p.words <- "Never "
	b.wait(answerText + "?.includes('Never')")
	resp, err := http.PostForm(lasting+"/oidc/back-channel",
		url.Values{"logout_token": {provider.Sign(provider.LogoutToken("ada", ""))}})
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("back-channel logout: %s", resp.Status)
	}

	b.wait(signedOutShown)
	close(p.words)

	// Somebody else, on a phone, sees nothing of it, and makes a key that works until it is revoked.
	provider.SignIn(oidctest.Person{Subject: "bob", Name: "Bob",
		Claims: map[string]any{"groups": []string{"team"}}})
	other := newBrowser(t, 390, 844)
	other.expect("401")
	other.expect("404")
	other.do(chromedp.Navigate(lasting + "/c/c1"))
	other.through()
	other.wait("document.body.innerText.includes('There is nothing here')")
	other.refused()
	if !slices.Contains(g.backend.Questions(), "hello") {
		t.Error("her question is gone")
	}

	key := other.makesKey(lasting)
	wantKey(t, lasting, key, true)
	other.revokesKey()
	wantKey(t, lasting, key, false)
}
