package web_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/markdown"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
)

// listener reads an answer's events as the page's script does.
type listener struct {
	t      *testing.T
	events *sse.Reader
	resp   *http.Response
	blocks []string
	names  []string
	id     string
	queue  []string
	end    struct{ State, Footer string }
}

func (v *visitor) listen(path string, header ...string) *listener {
	v.s.t.Helper()
	resp := v.open("GET", path, "", header...)
	v.s.t.Cleanup(func() { _ = resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != sse.ContentType {
		v.s.t.Fatalf("%s: %s %s", path, resp.Status, ct)
	}
	return &listener{t: v.s.t, events: sse.NewReader(resp.Body), resp: resp}
}

// next reads one event and returns its name.
func (l *listener) next() string {
	l.t.Helper()
	e, err := l.events.Next()
	if err != nil {
		l.t.Fatalf("after %v: %v", l.names, err)
	}

	l.names, l.id = append(l.names, e.Name), e.ID
	switch e.Name {
	case "blocks":
		var u markdown.Update
		l.decode(e, &u)
		if u.Keep > 0 {
			u.HTML[0] = string(utf16.Decode(utf16.Encode([]rune(l.blocks[u.From]))[:u.Keep])) + u.HTML[0]
		}
		l.blocks = append(l.blocks[:u.From], u.HTML...)
	case "queue":
		var q struct{ Text string }
		l.decode(e, &q)
		l.queue = append(l.queue, q.Text)
	case "end":
		l.decode(e, &l.end)
	}

	return e.Name
}

func (l *listener) decode(e sse.Event, into any) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(e.Data), into); err != nil {
		l.t.Fatalf("event %+v: %v", e, err)
	}
}

func (l *listener) until(name string) {
	l.t.Helper()
	for l.next() != name {
	}
}

// untilText reads until the answer holds the text.
func (l *listener) untilText(text string) {
	l.t.Helper()
	for !strings.Contains(l.html(), text) {
		l.next()
	}
}

func (l *listener) html() string { return strings.Join(l.blocks, "") }

func start(t *testing.T, v *visitor, message string) {
	t.Helper()
	if r := v.do("POST", "/chat", "message="+message, "Accept", "application/json"); r.StatusCode != 200 {
		t.Fatalf("%s %s", r.Status, r.body)
	}
}

func TestEventsRenderTheAnswer(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Queue(3)
		a.Queue(1)
		for c := range strings.SplitAfterSeq(sample, " ") {
			a.Text(c)
		}
		a.Done()
	})

	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.until("end")
	if want := string(markdown.New().Answer(sample)); l.html() != want {
		t.Errorf("got %s\nwant %s", l.html(), want)
	}

	if l.end.State != "complete" || !strings.Contains(l.end.Footer, "copy-message") ||
		strings.Contains(l.end.Footer, "<script") {
		t.Errorf("end %+v", l.end)
	}

	if strings.Join(l.queue, ", ") != "2 before you, You are next" {
		t.Errorf("queue %q", l.queue)
	}
	if l.names[0] != "start" {
		t.Errorf("events %v", l.names)
	}
}

// TestFirstTokenIsSentAtOnce checks that no timer delays the first word.
func TestFirstTokenIsSentAtOnce(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) { a.Text("First"); <-a.Stopped() })
	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	if l.next() != "start" || l.next() != "blocks" || l.html() != "<p>First</p>\n" {
		t.Errorf("%v %q", l.names, l.html())
	}
}

func TestResume(t *testing.T) {
	more := make(chan string)
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		for text := range more {
			a.Text(text)
		}
		a.Done()
	})

	v := s.visitor()
	start(t, v, "x")
	first := v.listen("/generations/g1/events")
	more <- "One.\n\n"
	more <- "Two **bo"
	first.untilText("Two")
	_ = first.resp.Body.Close()
	if first.id == "" {
		t.Fatal("events have no id: the browser cannot resume")
	}

	second := v.listen("/generations/g1/events", "Last-Event-ID", first.id)
	third := v.listen("/generations/g1/events?after=" + first.id)
	whole := v.listen("/generations/g1/events?whole=1")
	for _, l := range []*listener{second, third, whole} {
		l.until("blocks")
		if !strings.Contains(l.html(), "<p>One.</p>") || !strings.Contains(l.html(), "Two") {
			t.Errorf("the first thing after a resume is %q, not all there is", l.html())
		}
	}

	more <- "ld**"
	close(more)
	for _, l := range []*listener{second, third, whole} {
		l.until("end")
		if l.html() != "<p>One.</p>\n<p>Two <strong>bold</strong></p>\n" {
			t.Errorf("%q", l.html())
		}
	}

	late := v.listen("/generations/g1/events")
	late.until("end")
	if late.html() != second.html() {
		t.Errorf("after the end: %q", late.html())
	}
}

// TestBackendStreamIsTakenUpAgain checks that the browser does not notice when a backend that is
// replaced cuts its streams.
func TestBackendStreamIsTakenUpAgain(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		for _, c := range []string{"a", "b", "c", "d", "e"} {
			a.Text(c)
		}
		a.Done()
	})

	v := s.visitor()
	s.backend.CutStreams(2)
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.until("end")
	if l.html() != "<p>abcde</p>\n" || l.end.State != "complete" {
		t.Errorf("%q %+v", l.html(), l.end)
	}
}

func TestStop(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) { a.Text("Some words"); <-a.Stopped() })
	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.untilText("Some words")
	if r := s.visitor().do("POST", "/generations/g1/stop", "", "Accept", "application/json"); r.StatusCode != 404 {
		t.Errorf("a stranger's stop: %s", r.Status)
	}

	if r := v.do("POST", "/generations/g1/stop", "back=/c/c1"); r.StatusCode != 303 ||
		r.Header.Get("Location") != "/c/c1" {
		t.Errorf("stop: %s to %q", r.Status, r.Header.Get("Location"))
	}

	l.until("end")
	if l.end.State != "stopped" || !strings.Contains(l.end.Footer, "Stopped") {
		t.Errorf("%+v", l.end)
	}
	if r := v.do("POST", "/generations/g1/stop", "", "Accept", "application/json"); r.StatusCode != 204 {
		t.Errorf("stop of what has ended: %s", r.Status)
	}
}

func TestFailedAnswer(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Text("Begin")
		a.Error(&problem.Problem{
			Title:     "Bad Gateway",
			Status:    502,
			Detail:    "The <model> died.",
			RequestID: "r-7",
		})
	})

	v := s.visitor()
	start(t, v, "question")
	l := v.listen("/generations/g1/events")
	l.until("end")
	if l.end.State != "failed" || !strings.Contains(l.end.Footer, "The &lt;model&gt; died.") ||
		!strings.Contains(l.end.Footer, "Try again") || !strings.Contains(l.end.Footer, "r-7") {
		t.Errorf("%+v", l.end)
	}

	mustContain(t, v.get("/c/c1").body, "The &lt;model&gt; died.",
		`name="message" value="question"`, "<p>Begin</p>")
}

func TestEventsOfSomebodyElse(t *testing.T) {
	s := newSite(t, echo)
	start(t, s.visitor(), "x")
	if r := s.visitor().get("/generations/g1/events"); r.StatusCode != 404 {
		t.Errorf("%s", r.Status)
	}
}

// TestDrainSendsBrowsersElsewhere checks that a service that stops ends its streams with the
// request to connect again.
func TestDrainSendsBrowsersElsewhere(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) { a.Text("x"); <-a.Stopped() })
	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.untilText("x")
	if err := s.app.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}

	l.until("again")
	if _, err := l.events.Next(); err == nil {
		t.Error("the stream goes on")
	}
}

// TestRenderingIsThrottled checks that a burst of tokens is sent as few events.
func TestRenderingIsThrottled(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		for range 2000 {
			a.Text("word ")
		}
		a.Done()
	})

	v := s.visitor()
	begin := time.Now()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.until("end")
	if most := 4 + int(time.Since(begin)/(40*time.Millisecond)); len(l.names) > most {
		t.Errorf("%d events in %s, at most %d were due", len(l.names), time.Since(begin), most)
	}
}
