package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestBrowserKeys makes a key by the keyboard, uses it, and revokes it on a phone.
func TestBrowserKeys(t *testing.T) {
	g := newGated(t, newPaced().play)
	at := g.start(time.Hour)
	b := newBrowser(t, 1280, 800)
	b.join(at, "ada", g.code("invite", "ada", "--admin"))

	b.do(chromedp.Navigate(at+"/account"), chromedp.Focus(".tabs a[href='/account/keys']"),
		chromedp.KeyEvent("\r"))
	b.wait("document.body.innerText.includes('There is no key yet.')")
	b.do(chromedp.Focus("input[name=name]"), chromedp.KeyEvent("my editor\r"))
	b.wait("document.body.innerText.includes('The key is made')")
	key := value[string](b, "document.querySelector('section.card code').innerText")
	if !strings.HasPrefix(key, "cck_") {
		t.Fatalf("the key is %q", key)
	}
	shots := func(name string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			b.do(media("prefers-color-scheme", scheme))
			b.noOverflow()
			b.screenshot(fmt.Sprintf("keys-%s-%s", name, scheme))
		}
	}
	shots("desktop")

	// No model is behind the gate here: what it refuses is the key.
	asks := func() int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := asks(); got == http.StatusUnauthorized || got == http.StatusForbidden {
		t.Errorf("with the key the API answers %d", got)
	}

	b.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(at+"/account/keys"))
	b.wait("document.body.innerText.includes('my editor')")
	if strings.Contains(value[string](b, "document.documentElement.outerHTML"), key) {
		t.Error("the key is shown a second time")
	}
	shots("phone")

	b.do(chromedp.Focus("button[name=revoke]"), chromedp.KeyEvent("\r"))
	b.wait("document.body.innerText.includes('There is no key yet.')")
	if got := asks(); got != http.StatusUnauthorized {
		t.Errorf("with a key that was revoked the API answers %d", got)
	}
}
