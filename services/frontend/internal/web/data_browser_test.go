package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestBrowserData downloads all of a person's data, and erases them, on a phone and with the
// keyboard.
func TestBrowserData(t *testing.T) {
	p := newPaced()
	g := newGated(t, p.play)
	at := g.start(time.Hour)
	b := newBrowser(t, 390, 844)
	b.expect("422")
	b.do(chromedp.Navigate(at + "/invitation"))
	b.join(at, "ada", g.code("invite", "ada"))
	b.ask("hello")
	p.words <- "A pangolin."
	p.words <- ""
	b.wait(answerText + "?.includes('pangolin')")

	all := value[string](b, "fetch('/account/data/export?format=json').then(r => r.text())")
	for _, part := range []string{`"name": "ada"`, `"sessions"`, `"keys"`, "hello"} {
		if !strings.Contains(all, part) {
			t.Errorf("the export lacks %s: %s", part, all)
		}
	}

	b.do(chromedp.Navigate(at+"/account"), chromedp.Click(".tabs a[href='/account/data']"))
	b.wait("location.pathname === '/account/data' && " +
		"document.querySelectorAll('a[download]').length === 2")
	b.noOverflow()
	b.do(chromedp.SendKeys("input[name=current]", "a wrong password\r"))
	b.wait("document.querySelector('.banner.bad')?.innerText.includes('another one')")
	b.do(chromedp.SendKeys("input[name=current]", signInPassword), chromedp.KeyEvent("\t"),
		chromedp.KeyEvent("\r"))
	b.wait("document.querySelector('h1').innerText === 'Everything has been erased'")
	b.noOverflow()
	if left := g.backend.Questions(); len(left) > 0 {
		t.Errorf("%q are left", left)
	}

	b.do(chromedp.Click("a[href='/sign-in']"))
	b.signIn("ada")
	b.wait("document.querySelector('.banner.bad')?.innerText.includes('do not belong together')")
}
