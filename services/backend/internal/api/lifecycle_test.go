package api_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Any instance stops an answer: the readers everywhere see it at once, and the one that
// writes it lets go of ml.
func TestStopFromAnotherInstance(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	a := newInstance(t, redis.URL, ml.URL, options{})
	b := newInstance(t, redis.URL, ml.URL, options{})
	for name, tc := range map[string]struct {
		stopper  *instance
		text     string
		deletion bool
	}{
		"the same instance":             {a, "so far", false},
		"another instance":              {b, "so far", false},
		"before the first token":        {b, "", false},
		"by deleting its conversation":  {a, "so far", true},
		"by deleting it on another one": {b, "so far", true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, stopper := a.in(t), b.in(t), tc.stopper.in(t)
			gone := make(chan struct{})
			ml.Chat(func(s *mltest.Stream) {
				s.Open()
				if tc.text != "" {
					s.Text(tc.text)
				}
				s.Hold()
				close(gone)
			})

			g := a.send(alice, "", "Hi")
			readers := []*reader{a.follow(alice, g.ID, ""), b.follow(alice, g.ID, "")}
			for _, r := range readers {
				r.next() // start
				if tc.text != "" {
					if e := r.next(); delta(t, e) != tc.text {
						t.Errorf("got %+v", e)
					}
				}
			}

			path := "/api/generations/" + g.ID
			if tc.deletion {
				path = "/api/conversations/" + g.ConversationID
			}

			stopper.want(http.StatusNoContent, nil, http.MethodDelete, path, nil, alice)
			for _, r := range readers {
				if _, last, _ := r.rest(); last.Name != backendapi.EventStopped ||
					last.Data != "{}" {
					t.Errorf("last event %+v", last)
				}
			}

			soon(t, "the end of the request to ml", gone)
			if tc.deletion {
				a.refused(http.StatusNotFound, http.MethodGet, path, nil, alice)
				return
			}

			m := b.detail(alice, g.ConversationID).Messages[1]
			if m.State != backendapi.MessageStopped || m.Content != tc.text || m.Error != nil {
				t.Errorf("message %+v", m)
			}

			// again: nothing to do
			stopper.want(http.StatusNoContent, nil, http.MethodDelete, path, nil, alice)
			ml.Chat(func(s *mltest.Stream) { s.Text("on"); s.Done() })
			b.follow(alice, b.send(alice, g.ConversationID, "Go on").ID, "").rest()
		})
	}
}

// The reader goes away, the answer does not.
func TestReaderThatLeavesDoesNotCancel(t *testing.T) {
	i, ml, _ := stack(t)
	release := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("one "); <-release; s.Text("two"); s.Done() })
	resp := i.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"},
		alice.with("Accept", sse.ContentType))
	r := &reader{t: t, resp: resp, events: sse.NewReader(resp.Body)}
	var start backendapi.Start
	if err := json.Unmarshal([]byte(r.next().Data), &start); err != nil {
		t.Fatal(err)
	}

	id := r.next().ID
	resp.Body.Close()
	close(release)
	if text, last, _ := i.follow(alice, start.GenerationID,
		id).rest(); text != "two" || last.Name != backendapi.EventDone {
		t.Errorf("resumed: %q, %+v", text, last)
	}
}

// A stopping instance takes no new answer, completes those it writes, and its
// readers get the last event.
func TestDrainCompletesAnswers(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{drain: patience})
	release := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("one "); <-release; s.Text("two"); s.Done() })
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	r.next()
	// the listener will be closed: this one is through it
	second := begin(t, i.url, `{"message":"Hi"}`)
	i.stop()
	draining(t, i)
	if code, body := second.finish(t); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "/problems/draining") {
		t.Errorf("a new message while draining: %d %s", code, body)
	}

	close(release)
	if text, last, _ := r.rest(); text != "one two" || last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}
	if err := soon(t, "the end of the drain", i.stopped); err != nil {
		t.Errorf("drain: %v", err)
	}

	i.stopped <- nil // for the cleanup
}

// What is not complete at the end of the drain is released: another instance goes on with it, and
// the readers of the one that stops, whose streams are cut, go on there.
func TestDrainReleasesWhatIsLeft(t *testing.T) {
	t.Parallel()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	// Three seconds of the drain are left for the release, and no lease expires before it.
	leased := options{drain: 8 * time.Second, store: func(o *store.Options) { o.Lease = patience }}
	i := newInstance(t, redis.URL, ml.URL, leased)
	const words = 300
	stopped := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		if s.SoFar() == "" {
			s.Text(mltest.Words(words / 3))
			<-stopped
			s.Text(strings.TrimPrefix(mltest.Words(words/2), mltest.Words(words/3)))
			s.Hold()
			return
		}

		mltest.Count(words, 0)(s)
	})
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	text := some(t, r, len(mltest.Words(words/3)))
	i.stop()
	next := newInstance(t, redis.URL, ml.URL, leased)
	draining(t, i)
	close(stopped)
	rest, last, ids := r.rest()
	if last.Name != backendapi.EventDelta {
		t.Errorf("%q, %+v", rest, last)
	}
	text += rest
	if err := soon(t, "the end of the drain", i.stopped); err != nil {
		t.Errorf("drain: %v", err)
	}

	i.stopped <- nil
	rest, last, _ = next.follow(alice, g.ID, ids[len(ids)-1]).rest()
	if text += rest; text != mltest.Words(words) || last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	if m := next.detail(alice,
		g.ConversationID).Messages[1]; m.State != backendapi.MessageComplete || m.Content != text {
		t.Errorf("message %+v", m)
	}

	if retries := redis.Client(t).HGet(t.Context(), "generation:"+g.ID,
		"retries").Val(); retries != "" {
		t.Errorf("a release counts as %s interruptions", retries)
	}
}

// The answers of other instances do not keep one that stops: its readers go on elsewhere.
func TestDrainCutsReadersOfOtherInstances(t *testing.T) {
	t.Parallel()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{drain: 6 * time.Second}) // half of it is for the end
	other := newInstance(t, redis.URL, ml.URL, options{drain: time.Second})
	release := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("one "); <-release; s.Text("two"); s.Done() })
	g := other.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	text := some(t, r, 4)
	i.stop()
	if rest, last, _ := r.rest(); rest != "" || last.Name != "" {
		t.Errorf("%q, %+v", rest, last)
	}
	if err := soon(t, "the end of the drain", i.stopped); err != nil {
		t.Errorf("drain: %v", err)
	}

	i.stopped <- nil
	close(release)
	rest, last, _ := other.follow(alice, g.ID, "").rest()
	if rest != text+"two" || last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", rest, last)
	}
}

// A reader that does not read holds up neither the answer nor other readers, and is let go of.
func TestSlowReader(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{
		drain: time.Second,
		timing: func(g *generation.Timing) {
			g.Write = 3 * time.Second // a fast reader is never that slow, on a busy machine either
		},
	})

	piece := strings.Repeat("x", 8<<10)
	const pieces = 60 // 480 KiB, and twice as much once more in the later reader's one event
	goOn := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		s.Open()
		<-goOn
		for range pieces {
			s.Text(piece)
		}
		s.Done()
	})

	g := i.send(alice, "", "Hi")
	slow, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()

	if err := slow.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(slow,
		"GET /api/generations/"+g.ID+"/events HTTP/1.1\r\nHost: x\r\n"+wire.OwnerHeader+
			": alice\r\n\r\n"); err != nil {
		t.Fatal(err)
	}

	fast := i.follow(alice, g.ID, "")
	close(goOn)
	if text, last, _ := fast.rest(); text != strings.Repeat(piece, pieces) ||
		last.Name != backendapi.EventDone {
		t.Errorf("the fast reader got %d bytes and %s", len(text), last.Name)
	}

	if m := i.detail(alice, g.ConversationID).Messages[1]; len(m.Content) != pieces*len(piece) {
		t.Errorf("stored %d bytes", len(m.Content))
	}

	i.metric("backend_event_readers 0")
}

// The number of readers is bounded, and a place is given back.
func TestTooManyReaders(t *testing.T) {
	i, ml, redis := stack(t)
	g := i.send(alice, "", "Hi")
	i.follow(alice, g.ID, "").rest()
	var places []func()
	for {
		release, err := i.jobs.Admit(strconv.Itoa(len(places)))
		if err != nil {
			break
		}
		places = append(places, release)
	}

	if len(places) != store.MaxReaders {
		t.Errorf("%d places, want %d", len(places), store.MaxReaders)
	}

	before := redis.Client(t).DBSize(t.Context()).Val()
	i.refused(http.StatusServiceUnavailable, http.MethodGet, "/api/generations/"+g.ID+"/events",
		nil, alice)
	i.refused(http.StatusServiceUnavailable, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi"}, alice.with("Accept", sse.ContentType))
	if after := redis.Client(t).DBSize(t.Context()).Val(); after != before {
		t.Error("a refused message left something")
	}

	places[0]()
	ml.Chat(func(s *mltest.Stream) { s.Refuse(problem.New(http.StatusNotFound, "no such model")) })
	for range 3 { // a refused request gives its place back
		i.refused(http.StatusNotFound, http.MethodPost, "/api/chat",
			backendapi.ChatRequest{Message: "Hi"}, alice.with("Accept", sse.ContentType))
	}

	i.follow(alice, g.ID, "").rest()
}

func TestKeepAlive(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{
		drain: time.Second,
		timing: func(g *generation.Timing) {
			g.KeepAlive = 50 * time.Millisecond
		},
	})

	ml.Chat(func(s *mltest.Stream) { s.Open(); s.Hold() })
	g := i.send(alice, "", "Hi")
	resp := i.do(http.MethodGet, "/api/generations/"+g.ID+"/events", nil, alice)
	found := make(chan bool, 1)
	go func() {
		buf, all := make([]byte, 512), ""
		for strings.Count(all, ": keep-alive\n\n") < 2 {
			n, err := resp.Body.Read(buf)
			if all += string(buf[:n]); err != nil {
				break
			}
		}

		found <- strings.Count(all, ": keep-alive\n\n") >= 2
	}()

	if !soon(t, "comments", found) {
		t.Error("no comments came")
	}
}

func TestAnswerTimeout(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{timing: func(g *generation.Timing) {
		g.Answer = 200 * time.Millisecond
	}})
	gone := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("so far"); s.Hold(); close(gone) })
	g := i.send(alice, "", "Hi")
	text, last, _ := i.follow(alice, g.ID, "").rest()
	if last.Name != backendapi.EventError || !strings.Contains(last.Data, `"status":504`) ||
		text != "so far" {
		t.Errorf("%q, %+v", text, last)
	}

	soon(t, "the end of the request to ml", gone)
}

// ml does not answer in time: the request counts as taken, and a later refusal is an event.
func TestLateRefusal(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{timing: func(g *generation.Timing) {
		g.Admission = 20 * time.Millisecond
	}})
	release := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		<-release
		s.Refuse(&problem.Problem{Title: "Queue full", Status: 429, RetryAfter: 3})
	})

	g := i.send(alice, "", "Hi")
	close(release)
	_, last, _ := i.follow(alice, g.ID, "").rest()
	var p problem.Problem
	if err := json.Unmarshal([]byte(last.Data), &p); err != nil || p.Status != 429 ||
		p.RetryAfter != 3 {
		t.Errorf("%+v: %v", last, err)
	}

	if m := i.detail(alice, g.ConversationID).Messages[1]; m.State != backendapi.MessageFailed {
		t.Errorf("%+v", m)
	}
}

// Redis dies while an answer is written: the reader is let go, requests are refused with a
// reason, nothing hangs.
func TestRedisDies(t *testing.T) {
	i, ml, redis := stack(t)
	gone := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		s.Text("so far")
		for s.HTTP.Context().Err() == nil {
			s.Text("x")
			select {
			case <-s.HTTP.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}

		close(gone)
	})

	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	r.next()
	r.next()
	redis.Kill(t)
	for {
		if _, err := r.events.Next(); err != nil {
			break
		}
	}

	soon(t, "the end of the request to ml", gone)
	p := i.refused(http.StatusServiceUnavailable, http.MethodGet, "/api/conversations", nil, alice)
	if !strings.Contains(p.Detail, "Redis") || p.RetryAfter == 0 {
		t.Errorf("%+v", p)
	}

	i.refused(http.StatusServiceUnavailable, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi"}, alice)
}
