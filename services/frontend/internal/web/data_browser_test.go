package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// TestBrowserData downloads all of a person's data, and erases them, on a phone and with the
// keyboard.
func TestBrowserData(t *testing.T) {
	p := newPaced()
	g := newGated(t, p.play)
	g.change = func(c *gateenv.Config) { c.Audit = true }
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

	// Whoever runs the site reads what is stored, and the page says so.
	const reason = "case 4711 " + "of_a_name_without_a_space_in_it_that_is_wider_than_the_phone"
	read := g.command("127.0.0.1:1", time.Hour, "user", "--at=", "--by=carol", "read", "ada", reason)
	if out, err := read.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.do(chromedp.Reload())
	b.wait("document.querySelector('main').innerText.includes('" + reason + "')")
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
