package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// lossyEdge forwards requests to a site. It drops the connection of messages instead of their
// reply, or before the site gets them, as a network may.
type lossyEdge struct {
	url         string
	losses      atomic.Int64 // how many replies to POST /chat will be lost
	unreachable atomic.Bool  // POST /chat does not reach the site
	after       atomic.Bool  // unreachable from the first lost reply on
	posts       atomic.Int64
	to          atomic.Pointer[httputil.ReverseProxy] // nil while the site is away
}

func newLossyEdge(t *testing.T, site string) *lossyEdge {
	t.Helper()
	e := &lossyEdge{}
	e.to.Store(edgeTo(t, site))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := e.to.Load()
		if r.URL.Path == "/chat" {
			e.posts.Add(1)
			if e.unreachable.Load() {
				panic(http.ErrAbortHandler)
			}

			if e.losses.Add(-1) >= 0 {
				to.ServeHTTP(httptest.NewRecorder(), r)
				e.unreachable.Store(e.after.Load())
				panic(http.ErrAbortHandler)
			}
		}

		if to == nil {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"title":"Bad Gateway","status":502}`)
			return
		}

		to.ServeHTTP(w, r)
	}))

	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	e.url = s.URL
	return e
}

// TestBrowserLostReply checks that the page sends a message again whose reply is lost, and
// that it is one message.
func TestBrowserLostReply(t *testing.T) {
	s := newSite(t, echo)
	e := newLossyEdge(t, s.url)
	b := newBrowser(t, 1000, 700)
	b.expect("ERR_EMPTY_RESPONSE")
	b.do(chromedp.Navigate(e.url + "/"))
	// Chromium itself sends a request again that got no reply over a connection
	// that was used before.
	e.losses.Store(1000)
	b.ask("only once")
	b.wait("!document.getElementById('sending').hidden && " +
		"document.getElementById('message').value.trim() === 'only once'")
	e.losses.Store(0)
	b.wait(answerText + "?.includes('You said: only once')")
	b.wait("document.getElementById('sending').hidden && " +
		"document.getElementById('message').value.trim() === '' && " +
		"document.querySelectorAll('.question').length === 1")
	if got := s.backend.Questions(); !slices.Equal(got, []string{"only once"}) {
		t.Errorf("the messages are %q", got)
	}

	// The next message is another one, also with the same text.
	b.ask("only once")
	b.wait("document.querySelectorAll('.question').length === 2")
	if got := s.backend.Questions(); len(got) != 2 {
		t.Errorf("the messages are %q", got)
	}
}

// TestBrowserGivesUpSending checks that the person is asked after some seconds. The button, and a
// reload of the page, send the same message.
func TestBrowserGivesUpSending(t *testing.T) {
	s := newSite(t, echo)
	e := newLossyEdge(t, s.url)
	b := newBrowser(t, 1000, 700)
	b.expect("ERR_EMPTY_RESPONSE")
	// The pauses are shortened; they add up to fifteen seconds.
	b.do(chromedp.Navigate(e.url+"/"),
		script("window.slow = setTimeout; window.setTimeout = (f, ms) => slow(f, ms / 50)"))
	e.losses.Store(1)
	e.after.Store(true) // the message is stored, and then nothing gets through
	b.ask("stored already")
	b.wait("!document.getElementById('alert-retry').hidden && " +
		"document.getElementById('alert-text').innerText.includes('cannot be reached') && " +
		"document.getElementById('sending').hidden")
	if n := e.posts.Load(); n < 7 {
		t.Errorf("given up after %d tries", n)
	}

	e.unreachable.Store(false)
	b.do(chromedp.Reload())
	b.wait("document.getElementById('message')?.value.trim() === 'stored already' && " +
		"!document.getElementById('send').disabled")
	b.do(chromedp.Click("#send"))
	b.wait(answerText + "?.includes('You said: stored already')")
	if got := s.backend.Questions(); !slices.Equal(got, []string{"stored already"}) {
		t.Errorf("the messages are %q", got)
	}
}

// TestBrowserFrontendRestarts kills the only frontend in the middle of an answer and starts it
// again after some seconds.
func TestBrowserFrontendRestarts(t *testing.T) {
	p := newPaced()
	backend := fakebackend.New(time.Now(), p.play)
	bs := httptest.NewServer(backend)
	defer func() { bs.CloseClientConnections(); bs.Close() }()
	old := newSiteAt(t, backend, bs.URL)
	e := newLossyEdge(t, old.url)
	b := newBrowser(t, 1000, 700)
	b.expect("ERR_INCOMPLETE_CHUNKED_ENCODING")
	b.expect("502")
	b.do(chromedp.Navigate(e.url + "/"))
	b.ask("question")
	p.words <- "Before "
	b.wait(answerText + "?.includes('Before')")
	e.to.Store(nil)
	old.kill()
	p.words <- "while "
	time.Sleep(3 * time.Second) // as long as a start takes
	e.to.Store(edgeTo(t, newSiteAt(t, backend, bs.URL).url))
	begin := time.Now()
	p.words <- "after"
	b.wait(answerText + "?.includes('Before while after')")
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the text flowed again after %s", took)
	}

	p.words <- ""
	b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
}

// TestBrowserAnswerIsGone checks that a page whose answer is gone shows that
// at once, with a button.
func TestBrowserAnswerIsGone(t *testing.T) {
	p := newPaced()
	s := newSite(t, p.play)
	b := newBrowser(t, 1000, 700)
	b.expect("410")
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("question")
	p.words <- "Some "
	b.wait(answerText + "?.includes('Some')")
	s.backend.Fail("GET /api/generations/{id}/events", problem.New(410, "gone"))
	b.do(chromedp.Reload())
	b.wait("document.querySelector('.failure button')?.innerText === 'Show what there is'")
	s.backend.Fail("GET /api/generations/{id}/events", nil)
	b.do(chromedp.Click(".failure button"))
	p.words <- "more"
	b.wait(answerText + "?.includes('Some more')")
	p.words <- ""
	b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
}

// TestBrowserThinking checks that the reasoning is folded above the answer, grows while it is open,
// and stays after a reload.
func TestBrowserThinking(t *testing.T) {
	steps := make(chan func(*fakebackend.Answer))
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		for f := range steps {
			f(a)
		}
		a.Done()
	})

	b := newBrowser(t, 390, 800)
	b.do(chromedp.Navigate(s.url + "/"))
	b.ask("think")
	steps <- func(a *fakebackend.Answer) { a.LeftOut(12); a.Think("First <b>this</b> 🤔, ") }
	b.wait("document.querySelector('.left-out')?.innerText === 'The assistant no longer sees the " +
		"first 12 messages of this conversation.'")
	b.wait("document.querySelector('.thinking summary')?.innerText === 'Thinking…' && " +
		"!document.querySelector('.thinking').open")
	b.do(chromedp.Click(".thinking summary"))
	b.wait("document.querySelector('.thoughts').innerText === 'First <b>this</b> 🤔, " +
		"'.trimEnd() || document.querySelector('.thoughts').textContent === 'First <b>this</b> 🤔, '")
	b.do(chromedp.Reload())
	b.wait("document.querySelector('.thinking summary')?.innerText === 'Thinking…'")
	steps <- func(a *fakebackend.Answer) {
		a.Think("then that.\n" + strings.Repeat("unbreakable", 30))
	}
	b.wait("document.querySelector('.thoughts').textContent.startsWith('First <b>this</b> 🤔, " +
		"then that.')")
	steps <- func(a *fakebackend.Answer) { a.Text("The answer.") }
	b.wait("document.querySelector('.thinking summary').innerText === 'Thought for a moment' && " +
		answerText + " === 'The answer.'")
	close(steps)
	b.wait("document.querySelector('article.answer').dataset.state === 'complete'")
	b.wait("document.getElementById('live').textContent === 'Answer: The answer.'")
	b.do(chromedp.Click(".thinking summary"))
	b.noOverflow()
	b.do(chromedp.Reload())
	b.wait("document.querySelector('.thinking summary')?.innerText === 'Thought for a moment' && " +
		"!document.querySelector('.thoughts b') && " +
		"document.querySelector('.left-out').innerText.includes('first 12')")
}

// TestBrowserEarlierMessages checks that the links lead to the earlier messages, and to
// the latest ones again.
func TestBrowserEarlierMessages(t *testing.T) {
	s := newSite(t, echo)
	b := newBrowser(t, 390, 800)
	b.do(chromedp.Navigate(s.url + "/"))
	s.backend.Add(ownerOf(t, b), longConversation())
	s.backend.PageSize(4)
	b.do(chromedp.Navigate(s.url + "/c/long"))
	b.wait("document.querySelectorAll('.question').length === 2 && " +
		"document.getElementById('message')")
	b.do(chromedp.Click("#earlier"))
	b.wait("document.querySelector('.question .bubble').innerText === 'Question 2' && " +
		"!document.getElementById('composer')")
	b.noOverflow()
	b.do(chromedp.Click(".past-note a"))
	b.wait("document.querySelector('.question .bubble')?.innerText === 'Question 4' && " +
		"document.getElementById('composer')")
	b.ask("next")
	b.wait(answerText + "?.includes('You said: next')")
}

func longConversation() backendapi.ConversationDetail {
	d := backendapi.ConversationDetail{Conversation: backendapi.Conversation{
		ID:        "long",
		Title:     "A long conversation",
		CreatedAt: time.Now(),
		UpdatedAt: time.Now(),
	}}

	for _, n := range []string{"1", "2", "3", "4", "5"} {
		d.Messages = append(d.Messages,
			backendapi.Message{
				Role:      "user",
				Content:   "Question " + n,
				State:     backendapi.MessageComplete,
				CreatedAt: time.Now(),
			},
			backendapi.Message{
				Role: "assistant",
				Content: "The answer to question " + n +
					" is a sentence of some length, so that there is something to read here.",
				State:     backendapi.MessageComplete,
				CreatedAt: time.Now(),
			})
	}

	return d
}
