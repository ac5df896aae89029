package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// makesKey has the person who is signed in at the site make a key by the keyboard, and returns it.
func (b *chromium) makesKey(site string) string {
	b.t.Helper()
	b.do(chromedp.Navigate(site+"/account"), chromedp.Focus(".tabs a[href='/account/keys']"),
		chromedp.KeyEvent("\r"))
	b.wait("document.body.innerText.includes('There is no key yet.')")
	b.do(chromedp.Focus("input[name=name]"), chromedp.KeyEvent("my editor\r"))
	b.wait("document.body.innerText.includes('The key is made')")
	key := value[string](b, "document.querySelector('section.card code').innerText")
	if !strings.HasPrefix(key, "cck_") {
		b.t.Fatalf("the key is %q", key)
	}
	return key
}

// revokesKey has the person revoke the only key, on the page of keys that is there.
func (b *chromium) revokesKey() {
	b.t.Helper()
	b.do(chromedp.Focus("button[name=revoke]"), chromedp.KeyEvent("\r"))
	b.wait("document.body.innerText.includes('There is no key yet.')")
}

// wantKey wants the site's API to take the key, or to refuse it. No model is behind the gate here, so
// what it refuses is the key.
func wantKey(t *testing.T, site, key string, taken bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	refused := resp.StatusCode == http.StatusUnauthorized
	if refused == taken || resp.StatusCode == http.StatusForbidden {
		t.Errorf("with the key the API answers %s, is to take it: %t", resp.Status, taken)
	}
}

// TestBrowserKeys makes a key by the keyboard, uses it, and revokes it on a phone.
func TestBrowserKeys(t *testing.T) {
	g := newGated(t, newPaced().play)
	at := g.start(time.Hour)
	b := newBrowser(t, 1280, 800)
	b.join(at, "ada", g.code("invite", "ada", "--admin"))
	key := b.makesKey(at)
	shots := func(name string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			b.do(media("prefers-color-scheme", scheme))
			b.noOverflow()
			b.screenshot(fmt.Sprintf("keys-%s-%s", name, scheme))
		}
	}
	shots("desktop")
	wantKey(t, at, key, true)

	b.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(at+"/account/keys"))
	b.wait("document.body.innerText.includes('my editor')")
	if strings.Contains(value[string](b, "document.documentElement.outerHTML"), key) {
		t.Error("the key is shown a second time")
	}
	shots("phone")
	b.revokesKey()
	wantKey(t, at, key, false)
}
