package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// paced is a model whose words the test sends.
type paced struct{ words chan string }

func newPaced() *paced { return &paced{make(chan string)} }

// play writes the words until one is empty or the answer is stopped.
func (p *paced) play(_ string, a *fakebackend.Answer) {
	for {
		select {
		case w, ok := <-p.words:
			if !ok || w == "" {
				a.Done()
				return
			}
			a.Text(w)
		case <-a.Stopped():
			return
		}
	}
}

const answerText = "document.querySelector('article.answer:last-of-type .body')?.innerText"

// TestBrowserChat uses the page as a person does: ask, watch, reload, copy, ask again,
// stop, rename, delete.
func TestBrowserChat(t *testing.T) {
	p := newPaced()
	s := newSite(t, p.play)
	b := newBrowser(t, 1280, 800)
	b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("#message"))
	b.wait("document.documentElement.classList.contains('js') && document.activeElement.id === 'message'")
	if !value[bool](b, "document.getElementById('send').disabled") {
		t.Error("an empty message can be sent")
	}

	// An input method's Enter and Shift+Enter do not send the message.
	b.do(chromedp.SendKeys("#message", "first line"))
	b.do(script(`document.getElementById('message').dispatchEvent(new KeyboardEvent('keydown',
		{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))`))
	b.do(chromedp.KeyEvent("\r", chromedp.KeyModifiers(8)),
		chromedp.SendKeys("#message", "second line"))
	if got := value[string](b, "document.getElementById('message').value"); got != "first line\nsecond line" {
		t.Errorf("the message is %q", got)
	}

	b.do(chromedp.KeyEvent("\r"))
	p.words <- "Here is **bo"
	b.wait(answerText + "?.includes('Here is')")
	b.wait("location.pathname === '/c/c1' && !document.getElementById('stop').hidden && " +
		"document.getElementById('send').hidden")
	b.wait("document.querySelector('.question .bubble').innerText === 'first line\\nsecond line'")
	p.words <- "ld** code:\n\n```go\nfunc main() {\n"
	b.wait(answerText + "?.includes('func main')")

	// A reload in the middle shows the text so far and goes on.
	b.do(chromedp.Reload())
	b.wait(answerText + "?.includes('func main')")
	if value[bool](b, "document.querySelector('.code span[class=k]') !== null") {
		t.Error("code that is still being written has colours")
	}
	p.words <- "\tprintln(1 < 2)\n}\n```\n"
	b.wait("document.querySelector('.code .k')?.innerText === 'func'")
	p.words <- ""
	b.wait("document.querySelector('article.answer').dataset.state === 'complete' && " +
		"document.getElementById('stop').hidden")
	b.wait("document.querySelector('.body strong')?.innerText === 'bold' && " +
		"document.querySelector('.code-lang').innerText === 'go' && " +
		"document.querySelector('.code .k')?.innerText === 'func'")
	b.wait("document.querySelector('.item .title').innerText.startsWith('first line')")
	b.wait("document.getElementById('live').textContent.startsWith('Answer: Here is bold')")

	// Copy buttons, through the real clipboard.
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		for _, name := range []string{"clipboard-read", "clipboard-write"} {
			params := browser.SetPermissionParams{
				Permission: &browser.PermissionDescriptor{Name: name},
				Setting:    browser.PermissionSettingGranted,
			}
			if _, err := chromedp.CallBrowser(ctx, browser.SetPermission, params); err != nil {
				return err
			}
		}

		return nil
	}))

	b.do(chromedp.Click(".code .copy"))
	b.wait("document.querySelector('.code .copy').innerText === 'Copied'")
	const code = "func main() {\n\tprintln(1 < 2)\n}\n"
	if got := value[string](b, "navigator.clipboard.readText()"); got != code {
		t.Errorf("copied %q, want %q", got, code)
	}

	b.do(chromedp.Click(".copy-message"))
	b.wait("document.querySelector('.copy-message').dataset.copied === 'yes'")
	if got := value[string](b, "navigator.clipboard.readText()"); !strings.HasPrefix(got,
		"Here is **bold** code:\n\n```go\n") {
		t.Errorf("copied %q", got)
	}

	// Ask again in the same conversation, and stop.
	b.ask("and now?")
	p.words <- "Never ending"
	b.wait(answerText + "?.includes('Never ending')")
	b.do(chromedp.Click("#stop"))
	b.wait("document.querySelector('article.answer:last-of-type').dataset.state === 'stopped' && " +
		"!document.getElementById('send').hidden")
	b.wait("document.querySelector('article.answer:last-of-type .note').innerText === 'Stopped'")
	b.noOverflow()

	// The skip link goes to the content and reloads nothing; back leaves the conversation.
	b.do(script("window.sameDocument = true; document.querySelector('.skip').focus()"),
		chromedp.KeyEvent("\r"))
	b.wait("location.hash === '#main' && window.sameDocument && document.activeElement.id === 'main'")

	// The test renames and deletes with clicks, as the driver's Enter on a link would also press
	// Enter in the dialog that it opens.
	b.do(chromedp.Click(".item .edit"), chromedp.WaitVisible("#edit-dialog"))
	b.wait("document.activeElement.id === 'edit-title'")
	b.do(chromedp.KeyEvent("A better name"), chromedp.KeyEvent("\r"))
	b.wait("document.getElementById('heading').innerText === 'A better name' && " +
		"document.querySelector('.item .title').innerText === 'A better name' && " +
		"document.title.startsWith('A better name')")
	b.do(chromedp.Click(".item .edit"), chromedp.WaitVisible("#edit-dialog"),
		chromedp.Click("#ask-delete"), chromedp.WaitVisible("#delete-dialog"))
	b.wait("document.activeElement.innerText === 'Keep'")
	b.do(chromedp.Click("#delete-form .danger"))
	b.wait("location.pathname === '/' && !document.querySelector('.item') && " +
		"document.querySelector('.greeting')")
}

// TestBrowserSecondTab checks that two tabs show one answer, and that stopping it in
// one stops it in both.
func TestBrowserSecondTab(t *testing.T) {
	p := newPaced()
	s := newSite(t, p.play)
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("question")
	p.words <- "One "
	b.wait(answerText + "?.includes('One')")
	ctx, cancel := chromedp.NewContext(b.ctx)
	defer cancel()
	second := &tab{b, ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate(s.url+"/c/c1")); err != nil {
		t.Fatal(err)
	}

	second.wait(answerText + "?.includes('One')")
	p.words <- "two "
	second.wait(answerText + "?.includes('One two')")
	b.wait(answerText + "?.includes('One two')")
	second.wait("!document.getElementById('stop').hidden")
	if err := chromedp.Do(ctx, script("document.getElementById('stop').click()")); err != nil {
		t.Fatal(err)
	}

	second.wait("document.querySelector('article.answer').dataset.state === 'stopped'")
	b.wait("document.querySelector('article.answer').dataset.state === 'stopped'")
}

// TestBrowserSurvivesADrain replaces the service behind the page while an answer is written.
func TestBrowserSurvivesADrain(t *testing.T) {
	p := newPaced()
	backend := fakebackend.New(time.Now(), p.play)
	bs := httptest.NewServer(backend)
	defer func() { bs.CloseClientConnections(); bs.Close() }()
	old, fresh := newSiteAt(t, backend, bs.URL), newSiteAt(t, backend, bs.URL)
	var now atomic.Pointer[httputil.ReverseProxy] // the edge
	now.Store(edgeTo(t, old.url))
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now.Load().ServeHTTP(w, r)
	}))
	defer func() { edge.CloseClientConnections(); edge.Close() }()
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(edge.URL + "/"))
	b.ask("question")
	p.words <- "Before "
	b.wait(answerText + "?.includes('Before')")
	now.Store(edgeTo(t, fresh.url))
	if err := old.app.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}

	p.words <- "after"
	b.wait(answerText + "?.includes('Before after')")
	p.words <- ""
	b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
}

func edgeTo(t *testing.T, to string) *httputil.ReverseProxy {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}

	return &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Host = r.In.Host
	}}
}

func TestBrowserErrorsAndRetry(t *testing.T) {
	var calls atomic.Int32
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		if calls.Add(1) == 1 {
			a.Text("Begun")
			a.Error(problem.New(502, "The model stopped answering."))
			return
		}
		a.Text("Fine now.")
		a.Done()
	})

	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.expect("429")
	s.backend.Fail("POST /api/chat", &problem.Problem{
		Title:         "Queue full",
		Status:        429,
		QueuePosition: 9,
	})

	b.ask("my question")
	b.wait("document.getElementById('alert-text').innerText.includes('8 before you') && " +
		"document.getElementById('message').value.trim() === 'my question'")
	s.backend.Fail("POST /api/chat", nil)
	b.do(chromedp.Click("#alert-retry"))
	b.wait("document.querySelector('.failure')?.innerText.includes('The model stopped " +
		"answering.') && document.getElementById('alert').hidden")
	b.do(chromedp.Click(".retry button"))
	b.wait(answerText + "?.includes('Fine now.')")
	b.wait("[...document.querySelectorAll('.question .bubble')].every((q) => q.innerText === 'my " +
		"question') && document.querySelectorAll('.question').length === 2")
	b.wait("document.getElementById('message').value.trim() === ''")
}

// TestBrowserModelBuild checks that a person can write while the model is built, and send when it
// is ready without a reload.
func TestBrowserModelBuild(t *testing.T) {
	s := newSite(t, echo)
	s.backend.Build(mlapi.Build{
		Name:      "codexcontinue",
		State:     mlapi.BuildPulling,
		Completed: 1e9,
		Total:     4e9,
	})

	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url+"/"), chromedp.SendKeys("#message", "early"))
	b.wait("document.getElementById('send').disabled && document.querySelector('progress').value " +
		"=== 1e9 && document.body.innerText.includes('25 %')")
	s.backend.Build(mlapi.Build{Name: "codexcontinue", State: mlapi.BuildReady}, mlapi.ModelInfo{
		Name:    "codexcontinue",
		Default: true,
	})

	b.wait("!document.getElementById('send').disabled && !document.querySelector('progress') && " +
		"document.getElementById('model').value === 'codexcontinue'")
	b.do(chromedp.SendKeys("#message", "\r"))
	b.wait(answerText + "?.includes('You said: early')")
}

// TestBrowserBackendReturns checks that a page that was shown without its backend completes itself.
func TestBrowserBackendReturns(t *testing.T) {
	s := newSite(t, echo)
	down := problem.New(502, "The storage does not answer.")
	s.backend.Fail("GET /api/models", down)
	s.backend.Fail("GET /api/conversations", down)
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url+"/"), chromedp.SendKeys("#message", "kept"))
	b.wait("document.querySelector('#model-state .banner')?.innerText.includes('The storage does " +
		"not answer.')")
	s.backend.Fail("GET /api/models", nil)
	s.backend.Fail("GET /api/conversations", nil)
	b.wait("!document.querySelector('main[data-degraded]') && " +
		"document.getElementById('message')?.value === 'kept'")
}

// TestBrowserPhone checks that a narrow window never scrolls sideways, and has a drawer.
func TestBrowserPhone(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Text(sample + "\n\n" + strings.Repeat("unbreakable", 40) + "\n\n```\n" +
			strings.Repeat("long line ", 60) + "\n```\n\n|" + strings.Repeat("column|",
			30) + "\n|" +
			strings.Repeat("---|", 30) + "\n\nhttps://example.com/" + strings.Repeat("path/", 50))
		a.Done()
	})

	b := newBrowser(t, 360, 740)
	b.do(chromedp.Navigate(s.url + "/"))
	b.noOverflow()
	b.ask(strings.Repeat("x", 200))
	b.wait("document.querySelector('article.answer')?.dataset.state === 'complete'")
	b.noOverflow()
	b.wait("[...document.querySelectorAll('.code pre')].some((p) => p.scrollWidth > p.clientWidth)")
	if size := value[string](b, "getComputedStyle(document.getElementById('message')).fontSize"); size != "16px" {
		t.Errorf("a phone zooms into a box with text of %s", size)
	}

	b.do(chromedp.Click("#open-drawer"))
	b.wait("document.getElementById('sidebar').getBoundingClientRect().left === 0 && " +
		"document.getElementById('sidebar').contains(document.activeElement)")
	b.noOverflow()
	b.do(chromedp.KeyEvent("\x1b"))
	b.wait("document.getElementById('sidebar').getBoundingClientRect().right <= 0 && " +
		"document.activeElement.id === 'open-drawer'")
	for _, path := range []string{"/status", "/c/c1/edit"} {
		b.do(chromedp.Navigate(s.url + path))
		b.noOverflow()
	}
}

func TestBrowserColours(t *testing.T) {
	s := newSite(t, echo)
	b := newBrowser(t, 1000, 700)
	background := "getComputedStyle(document.body).backgroundColor"
	b.do(media("prefers-color-scheme", "dark"), chromedp.Navigate(s.url+"/"))
	dark := value[string](b, background)
	b.do(media("prefers-color-scheme", "light"))
	b.wait(background + " !== '" + dark + "'")
	light := value[string](b, background)
	b.do(chromedp.Click(`button[value="dark"]`))
	b.wait(background + " === '" + dark + "'")
	b.do(chromedp.Reload(), chromedp.WaitVisible("#message"))
	b.wait(background + " === '" + dark +
		"' && document.querySelector('[value=dark]').getAttribute('aria-pressed') === 'true'")
	b.do(chromedp.Click(`button[value="auto"]`))
	b.wait(background + " === '" + light + "'")
}

// TestBrowserCodeColours checks that every colour of code can be read, in both schemes.
func TestBrowserCodeColours(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Text("```go\n// f\nfunc f(s string) { return \"a\", 1 }\n```\n\n")
		a.Text("```diff\n@@ -1 +1 @@\n-a\n+b\n```\n")
		a.Done()
	})
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("code")
	b.wait("document.querySelector('article.answer')?.dataset.state === 'complete'")
	const contrasts = `(() => {
		const light = (colour) => {
			const [r, g, b] = colour.match(/\d+/g).slice(0, 3).map((v) => v / 255)
				.map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const ground = light(getComputedStyle(document.querySelector(".code")).backgroundColor);
		const plain = getComputedStyle(document.querySelector(".code code")).color;
		return Object.fromEntries([...document.querySelectorAll(".code pre span")].map((span) => {
			const { color } = getComputedStyle(span);
			const [dim, bright] = [light(color), ground].sort((a, b) => a - b);
			return [span.className, color === plain ? 0 : (bright + 0.05) / (dim + 0.05)];
		}));
	})()`
	for _, scheme := range []string{"light", "dark"} {
		b.do(media("prefers-color-scheme", scheme))
		got := value[map[string]float64](b, contrasts)
		for _, class := range []string{"k", "kt", "nf", "s", "m", "c", "gd", "gi", "gh"} {
			if got[class] < 4.5 {
				t.Errorf("%s: the contrast of %s is %.2f", scheme, class, got[class])
			}
		}
	}
}

// TestBrowserScroll checks that a reader who scrolled up is left there, and one at the
// end is kept at the end.
func TestBrowserScroll(t *testing.T) {
	p := newPaced()
	s := newSite(t, p.play)
	b := newBrowser(t, 1000, 600)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("long")
	p.words <- strings.Repeat("A paragraph.\n\n", 60)
	atEnd := "(() => { const s = document.getElementById('scroll'); return s.scrollHeight > " +
		"s.clientHeight && s.scrollHeight - s.scrollTop - s.clientHeight < 80 })()"
	b.wait(atEnd + " && document.getElementById('jump').hidden")
	b.do(script("document.getElementById('scroll').scrollTop = 100"))
	b.wait("!document.getElementById('jump').hidden")
	p.words <- strings.Repeat("More.\n\n", 20)
	b.wait(answerText + ".includes('More.')")
	if top := value[float64](b, "document.getElementById('scroll').scrollTop"); top != 100 {
		t.Errorf("the reader was moved to %v", top)
	}

	b.do(chromedp.Click("#jump"))
	b.wait(atEnd + " && document.getElementById('jump').hidden")
	p.words <- ""
	b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
}

// TestBrowserHostileAnswer checks that markup of a model runs nothing, loads nothing and does
// not break the policy.
func TestBrowserHostileAnswer(t *testing.T) {
	const hostile = "<img src=x onerror=\"document.title='owned'\">" +
		"<script>document.title='owned'</script>\n\n" +
		"[x](javascript:document.title='owned') ![y](http://127.0.0.1:9/track.png)\n\n" +
		"<style>body{display:none}</style>\n\n<svg onload=\"document.title='owned'\">"

	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		for c := range strings.SplitAfterSeq(hostile, "=") {
			a.Text(c)
		}
		a.Done()
	})

	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("attack")
	b.wait("document.querySelector('article.answer')?.dataset.state === 'complete'")
	for range 2 {
		b.wait("document.querySelector('.body') && !document.querySelector('.body img, .body " +
			"script, .body style, .body svg, .body [onerror], .body a[href^=javascript]') && " +
			"!document.title.includes('owned') && getComputedStyle(document.body).display !== 'none'")
		b.do(chromedp.Reload())
	}
}

// tab is another tab of a browser.
type tab struct {
	b   *chromium
	ctx context.Context
}

func (t *tab) wait(expr string) {
	t.b.t.Helper()
	(&chromium{t: t.b.t, ctx: t.ctx}).wait(expr)
}
