package web_test

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

const (
	lastComplete = "document.querySelector('article.answer:last-of-type')?.dataset.state" +
		" === 'complete'"
	shown = "[...document.querySelectorAll('.bubble, .answer .body')]" +
		".map(e => e.innerText).join('|')"
)

// withoutScripts turns the scripts of pages off. The test's own still run.
func withoutScripts() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled,
			emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

// focus moves the focus to an element as a keyboard does: with Tab, and within so many steps.
func (b *chromium) focus(selector string) {
	b.t.Helper()
	for range 60 {
		if value[bool](b, "document.activeElement.matches('"+selector+"')") {
			return
		}
		b.do(chromedp.KeyEvent("\t"))
	}

	b.t.Fatalf("Tab does not reach %s, but %s", selector,
		value[string](b, "document.activeElement.outerHTML"))
}

func (b *chromium) askAll(questions ...string) {
	b.t.Helper()
	for _, q := range questions {
		b.ask(q)
		b.wait("document.querySelector('.question:last-of-type, .question:nth-last-child(2)') && " +
			shown + ".includes('" + q + "') && " + lastComplete)
	}
}

// TestBrowserAskAgain answers again with a click, and follows the new answer in
// the place of the old.
func TestBrowserAskAgain(t *testing.T) {
	s := newSite(t, numbered())
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.askAll("first", "second")
	b.wait("[...document.querySelectorAll('.again')].filter(e => e.checkVisibility()).length === 1")
	b.do(script("window.same = true"), chromedp.Click("article:last-of-type .again button"))
	b.wait(lastComplete + " && window.same && " + shown + " === 'first|answer 1|second|answer 3'")
	b.wait("document.activeElement.id === 'main' && document.getElementById('stop').hidden")

	// A second time, and then the question of the new answer: its link has followed.
	b.do(chromedp.Click("article:last-of-type .again button"))
	b.wait(lastComplete + " && " + shown + " === 'first|answer 1|second|answer 4'")
	b.do(script("[...document.querySelectorAll('.edit-question')].pop().click()"),
		chromedp.WaitVisible(".edit-form textarea"))
	b.do(chromedp.SendKeys(".edit-form textarea", " thought"),
		chromedp.Click(".edit-form .primary"))
	b.wait(lastComplete + " && " + shown + " === 'first|answer 1|second thought|answer 5'")
	b.do(chromedp.Reload())
	b.wait(shown + " === 'first|answer 1|second thought|answer 5'")

	// What came since the form was opened is not marked, and does not go.
	b.expect("409")
	b.wait("document.documentElement.classList.contains('js')")
	b.do(script("document.querySelector('.edit-question').click()"))
	b.askAll("third")
	b.do(chromedp.Click(".edit-form .primary"))
	b.wait("document.getElementById('alert-text').innerText.includes('has changed since')")
	b.do(chromedp.Click(".edit-form [data-cancel]"))
	b.wait(shown + " === 'first|answer 1|second thought|answer 5|third|answer 6'")

	// What is refused leaves everything as it is, and says why.
	b.expect("429")
	s.backend.Fail("POST /api/chat", problem.New(429, "full"))
	b.wait("document.documentElement.classList.contains('js')")
	b.do(chromedp.Click("article:last-of-type .again button"))
	b.wait("document.getElementById('alert-text').innerText.includes('Too many people')")
	if got := value[string](b, shown); !strings.HasSuffix(got, "|third|answer 6") {
		t.Errorf("refused, and the page shows %q", got)
	}

	s.backend.Fail("POST /api/chat", nil)
	b.do(chromedp.Click("#alert-retry"))
	b.wait(lastComplete + " && " + shown + " === 'first|answer 1|second thought|answer 5|third|answer 7'")
}

// TestBrowserKeyboard edits a question, asks again and searches with the keyboard alone.
func TestBrowserKeyboard(t *testing.T) {
	s := newSite(t, numbered())
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.askAll("first", "second")

	b.do(script("document.getElementById('main').focus()"))
	b.focus(".edit-question")
	b.wait("getComputedStyle(document.activeElement).opacity === '1'")
	b.do(script("document.activeElement.click()")) // as Enter on a link does
	b.wait("document.activeElement.matches('.edit-form textarea') && " +
		"document.activeElement.value === 'first'")
	b.wait("document.querySelector('.going-note').innerText === " +
		"'Asking again removes the 3 messages below.' && " +
		"document.querySelectorAll('.going').length === 3")
	b.do(chromedp.KeyEvent("\x1b"))
	b.wait("!document.querySelector('.edit-form, .going') && " +
		"document.activeElement.matches('.edit-question') && " +
		shown + " === 'first|answer 1|second|answer 2'")

	b.do(script("document.activeElement.click()"))
	b.wait("document.activeElement.matches('.edit-form textarea')")
	b.do(chromedp.KeyEvent("\r", chromedp.KeyModifiers(8)), chromedp.KeyEvent("line"))
	b.do(chromedp.KeyEvent("\r"))
	b.wait(lastComplete + " && " + shown + " === 'first\\nline|answer 3'")

	b.focus(".again button")
	b.do(chromedp.KeyEvent("\r"))
	b.wait(lastComplete + " && " + shown + " === 'first\\nline|answer 4'")

	b.do(script("document.getElementById('sidebar').focus()"))
	b.focus("#query")
	b.do(chromedp.KeyEvent("line"), chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/search' && document.querySelector('mark')?.innerText === 'line'")
	b.do(script("document.getElementById('main').focus()"))
	b.focus(".results a")
	b.do(script("document.activeElement.click()"))
	b.wait("location.pathname === '/c/c1' && " + shown + " === 'first\\nline|answer 4'")
}

// TestBrowserEditWhileAnAnswerIsWritten offers neither, and both when it is over.
func TestBrowserEditWhileAnAnswerIsWritten(t *testing.T) {
	p := newPaced()
	s := newSite(t, p.play)
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("question")
	p.words <- "so far"
	b.wait(answerText + "?.includes('so far')")
	const offered = "[...document.querySelectorAll('.edit-question, .again')]" +
		".filter(e => e.checkVisibility()).length"
	if n := value[int](b, offered); n != 0 {
		t.Errorf("%d are offered", n)
	}

	b.do(chromedp.Click("#stop"))
	b.wait("document.getElementById('stop').hidden && " + offered + " === 2")
}

// TestBrowserWithoutScripts goes the same ways on pages alone.
func TestBrowserWithoutScripts(t *testing.T) {
	s := newSite(t, numbered())
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.askAll("first", "second")
	b.do(withoutScripts(), chromedp.Reload())
	b.wait("!document.documentElement.classList.contains('js') && " + shown +
		" === 'first|answer 1|second|answer 2'")

	b.do(chromedp.Click("article:last-of-type .again button"))
	b.wait("location.pathname === '/c/c1' && " + shown + " === 'first|answer 1|second|answer 3'")
	b.do(script("document.querySelector('.edit-question').click()"))
	b.wait("location.pathname === '/c/c1/edit/g1' && " +
		"document.querySelector('.going-list').innerText === 'second'")
	b.noOverflow()
	b.do(chromedp.SendKeys("#question", "Now "), chromedp.Click(".card .primary"))
	b.wait("location.pathname === '/c/c1' && " + shown + " === 'Now first|answer 4'")

	b.do(chromedp.SendKeys("#query", "Now"), chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/search' && document.querySelector('mark')?.innerText === 'Now'")
	b.do(chromedp.Click(".results a"))
	b.wait("location.pathname === '/c/c1'")
}

// TestBrowserExport offers the files of the conversation whose dialog is open.
func TestBrowserExport(t *testing.T) {
	s := newSite(t, numbered())
	b := newBrowser(t, 1000, 700)
	b.do(chromedp.Navigate(s.url + "/"))
	b.askAll("first")
	b.do(script("document.querySelector('.item .edit').click()"),
		chromedp.WaitVisible("#edit-dialog"))
	for _, format := range []string{"markdown", "json"} {
		got := value[string](b, "document.getElementById('export-"+format+"').href")
		if !strings.HasSuffix(got, "/api/conversations/c1/export?format="+format) {
			t.Errorf("%s: %s", format, got)
		}
	}
}
