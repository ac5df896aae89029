package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
)

// thoughts collects the reasoning from the events, as the page's script does.
type thoughts struct {
	units []rune // a character of these tests is one UTF-16 unit
	note  string
	names []string
}

func (th *thoughts) read(t *testing.T, resp *http.Response, until string) {
	t.Helper()
	r := sse.NewReader(resp.Body)
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("after %v: %v", th.names, err)
		}

		th.names = append(th.names, e.Name)
		switch e.Name {
		case "thinking":
			var d struct {
				From int
				Text string
			}

			if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
				t.Fatal(err)
			}

			th.units = append(th.units[:d.From], []rune(d.Text)...)
		case "history":
			var d struct{ Text string }
			if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
				t.Fatal(err)
			}
			th.note = d.Text
		case until:
			return
		}

		if until == string(th.units) {
			return
		}
	}
}

// TestThinking checks that the reasoning is sent before the answer, is not part of it, and
// is stored and escaped.
func TestThinking(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.LeftOut(4)
		a.Think("Let me <b>see</b>. ")
		<-release
		a.Think("Done.")
		a.Text("The answer")
		a.Done()
	})

	v := s.visitor()
	start(t, v, "x")
	first := v.open("GET", "/generations/g1/events", "")
	defer first.Body.Close()
	var th thoughts
	th.read(t, first, "Let me <b>see</b>. ")
	if th.note != "The assistant no longer sees the first 4 messages of this conversation." {
		t.Errorf("the note is %q", th.note)
	}

	mustContain(t, v.get("/c/c1").body, "Thinking…",
		"Let me &lt;b&gt;see&lt;/b&gt;.", "the first 4 messages")
	close(release)
	th.read(t, first, "end")
	// A browser that resumes gets all the reasoning in one piece.
	second := v.open("GET", "/generations/g1/events?after=1700000000000-4", "")
	defer second.Body.Close()
	var again thoughts
	again.read(t, second, "end")
	for _, got := range []thoughts{th, again} {
		if string(got.units) != "Let me <b>see</b>. Done." {
			t.Errorf("thought %q by %v", string(got.units), got.names)
		}
	}

	page := v.get("/c/c1").body
	mustContain(t, page, "Thought for a moment", "Let me &lt;b&gt;see&lt;/b&gt;. Done.",
		`<template class="source">The answer</template>`, "the first 4 messages")
	if strings.Contains(page, "<b>see") {
		t.Error("the reasoning is markup")
	}
}

// TestThinkingAlone checks that an answer of nothing but reasoning has no text to copy.
func TestThinkingAlone(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) { a.Think("Hm."); <-a.Stopped() })
	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	l.until("thinking")
	v.do("POST", "/generations/g1/stop", "")
	l.until("end")
	if strings.Contains(l.end.Footer, "copy-message") ||
		!strings.Contains(l.end.Footer, "Stopped before the first word") {
		t.Errorf("%+v", l.end)
	}
}

// TestEarlierMessages reads a long conversation in pages, without scripts.
func TestEarlierMessages(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	d := backendapi.ConversationDetail{Conversation: backendapi.Conversation{
		ID:    "long",
		Title: "Long",
	}}

	for _, text := range []string{"one", "two", "three", "four", "five"} {
		d.Messages = append(d.Messages,
			backendapi.Message{
				Role:    "user",
				Content: "question " + text,
				State:   backendapi.MessageComplete,
			},
			backendapi.Message{
				Role:    "assistant",
				Content: "answer " + text,
				State:   backendapi.MessageComplete,
			})
	}

	s.backend.Add(v.jar.m[ownerCookie].Value, d)
	s.backend.PageSize(4)
	page := v.get("/c/long").body
	mustContain(t, page, "question four", "answer five", `href="/c/long?before=6"`, `id="composer"`)
	if strings.Contains(page, "three") {
		t.Error("the last page holds more than its messages")
	}

	page = v.get("/c/long?before=6").body
	mustContain(t, page, "question two", "answer three", `href="/c/long?before=2"`,
		`href="/c/long#latest"`)
	if strings.Contains(page, "four") || strings.Contains(page, `id="composer"`) {
		t.Error("a page of earlier messages holds later ones, or a form whose message would " +
			"stand after them")
	}

	page = v.get("/c/long?before=2").body
	mustContain(t, page, "question one")
	if strings.Contains(page, "Earlier messages") {
		t.Error("there are no messages before the first")
	}
}

// TestBackendIsAway checks that the browser's stream goes on when a backend that is replaced is
// away for some seconds.
func TestBackendIsAway(t *testing.T) {
	words := make(chan string)
	backend := fakebackend.New(time.Now(), func(_ string, a *fakebackend.Answer) {
		for w := range words {
			a.Text(w)
		}
		a.Done()
	})

	bs := httptest.NewServer(backend)
	defer bs.Close()
	addr := bs.Listener.Addr().String()
	s := newSiteAt(t, backend, bs.URL)
	v := s.visitor()
	start(t, v, "x")
	l := v.listen("/generations/g1/events")
	words <- "before "
	l.untilText("before")
	bs.Listener.Close()
	bs.CloseClientConnections()
	time.Sleep(2500 * time.Millisecond) // as long as a replacement takes
	next := httptest.NewUnstartedServer(backend)
	next.Listener.Close()
	next.Listener = listenAt(t, addr)
	next.Start()
	defer func() { next.CloseClientConnections(); next.Close() }()
	words <- "after"
	close(words)
	l.until("end")
	if l.html() != "<p>before after</p>\n" || l.end.State != "complete" {
		t.Errorf("%q %+v", l.html(), l.end)
	}

	for _, name := range l.names {
		if name == "again" {
			t.Error("the browser noticed")
		}
	}
}
