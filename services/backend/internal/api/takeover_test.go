package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// dead is a backend that does nothing more than the test makes it do: one that was killed does
// nothing.
func dead(t testing.TB, redis store.Address, lease time.Duration) *store.Store {
	t.Helper()
	s, err := store.New(store.Options{Address: redis, TTL: time.Hour, Keep: time.Hour, Lease: lease,
		Outage: patience})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { s.Close() })
	return s
}

// orphan is an answer whose writer was killed after it had written the text.
func orphan(t testing.TB, s *store.Store, text string) store.Begun {
	t.Helper()
	b, err := s.Begin(t.Context(), store.Turn{Owner: "alice", Title: "T", Model: "m:1",
		Message: "Count"}, "T")
	if err != nil {
		t.Fatal(err)
	}

	if text != "" {
		if err := s.Append(t.Context(), b.Generation, 0, text); err != nil {
			t.Fatal(err)
		}
	}

	return b
}

// stored waits until the answer is stored as it ended, without a look at it that would make
// somebody take it over.
func stored(t testing.TB, s *store.Store, conversation string) backendapi.Message {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, page, err := s.Detail(t.Context(), "alice", conversation, 10, "")
		if err != nil {
			t.Fatal(err)
		}
		if m := page.Messages[len(page.Messages)-1]; m.State != backendapi.MessageStreaming {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody ends the answer")
		}
	}
}

// Nobody visits the answer of a backend that was killed: another one goes on with it all the same.
func TestOrphanNobodyVisits(t *testing.T) {
	for name, start := range map[string]func(testing.TB) (store.Address, string){
		"one Redis": func(t testing.TB) (store.Address, string) {
			return store.Address{URL: redistest.StartAs(t, stacks.Backend).URL}, ""
		},
		"a Cluster": func(t testing.TB) (store.Address, string) {
			return store.Address{URL: "redis://unused:1",
				Cluster: redistest.StartCluster(t).Addrs()[:1]}, "{alice}:"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := start(t)
			ml := mltest.Start(t)
			requests := make(chan mlapi.ChatRequest, 8)
			ml.Chat(func(s *mltest.Stream) { requests <- s.Request; mltest.Count(6, 0)(s) })
			s := dead(t, address, lease)
			b := orphan(t, s, "0 1 2 ")
			silent := orphan(t, s, "")
			i := newInstanceAt(t, address, ml.URL, options{})
			for _, o := range []store.Begun{b, silent} {
				if m := stored(t, s, o.ConversationID); m.State != backendapi.MessageComplete ||
					m.Content != "0 1 2 3 4 5 " {
					t.Errorf("%+v", m)
				}

				if text, last, _ := i.follow(alice, o.ID, "").rest(); text != "0 1 2 3 4 5 " ||
					last.Name != backendapi.EventDone {
					t.Errorf("%q, %+v", text, last)
				}
			}

			asked := map[string]bool{}
			for range 2 {
				r := soon(t, "a request to ml", requests)
				if r.Model != "m:1" || r.Messages[0].Content != "Count" {
					t.Errorf("%+v", r)
				}
				asked[r.Messages[len(r.Messages)-1].Content] = true
			}

			if d := cmp.Diff(map[string]bool{"0 1 2 ": true, "Count": true}, asked); d != "" {
				t.Errorf("ml was asked (-want +got):\n%s", d)
			}

			for name, err := range map[string]error{
				"append": s.Append(t.Context(), b.Generation, 6, "x"), "renew": s.Renew(t.Context(),
					b.Generation), "end": s.End(t.Context(), b.Generation, store.Stopped()),
			} {
				if !errors.Is(err, store.ErrEnded) && !errors.Is(err, store.ErrSuperseded) {
					t.Errorf("%s of the old writer: %v", name, err)
				}
			}

			if o, err := s.Orphans(t.Context()); err != nil || len(o) != 0 {
				t.Errorf("%v, %v", o, err)
			}
		})
	}
}

// The reader finds the orphan as well as the sweeper does, and sees the text go on.
func TestReaderSeesTheAnswerGoOn(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	s := dead(t, store.Address{URL: redis.URL}, lease)
	b := orphan(t, s, "0 1 2 ")
	ml.Chat(mltest.Count(50, 10*time.Millisecond))
	r := newInstance(t, redis.URL, ml.URL, options{}).follow(alice, b.ID, "")
	start := time.Now()
	text := some(t, r, 7)
	if d := time.Since(start); d > patience {
		t.Errorf("text goes on after %s", d)
	}

	if rest, last, _ := r.rest(); text+rest != mltest.Words(50) ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text+rest, last)
	}
}

// A backend that was only slow wakes up when another one writes its answer: it stops without a
// word.
func TestOldWriterWakesUp(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	release := make(chan struct{})
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		if requests.Add(1) == 1 {
			s.Text("0 1 ")
			<-release
			s.Text("x ")
			s.Done()
			return
		}

		mltest.Count(5, 0)(s)
	})

	old := newInstance(t, redis.URL, ml.URL, options{})
	g := old.send(alice, "", "Hi")
	r := old.follow(alice, g.ID, "")
	text := some(t, r, 4)
	other := newInstance(t, redis.URL, ml.URL, options{})
	// Somebody else held its lease for expired, which its writer may renew before that is found out.
	rdb, key := redis.Client(t), "generation:"+g.ID
	for rdb.HGet(t.Context(), key, "fence").Val() == "1" {
		if err := rdb.HSet(t.Context(), key, "expires", 0).Err(); err != nil {
			t.Fatal(err)
		}
		err := other.jobs.Revive(t.Context(), store.Generation{ID: g.ID, Owner: "alice",
			ConversationID: g.ConversationID})
		if err != nil && !errors.Is(err, store.ErrEnded) { // its sweep was faster, and has written it
			t.Fatal(err)
		}
	}

	close(release)
	if rest, last, _ := r.rest(); text+rest != mltest.Words(5) ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text+rest, last)
	}

	old.metric(`backend_generations_total{state="superseded"} 1`)
	other.metric(`backend_generations_total{state="complete"} 1`)
	if m := old.detail(alice,
		g.ConversationID).Messages[1]; m.State != backendapi.MessageComplete ||
		m.Content != mltest.Words(5) {
		t.Errorf("%+v", m)
	}
}

// A writer that waits for the model learns of the takeover when it renews its lease. It is
// counted all the same.
func TestOldWriterWaits(t *testing.T) {
	i, ml, redis := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Open(); s.Hold() })
	g := i.send(alice, "", "Hi")
	if err := redis.Client(t).HIncrBy(t.Context(), "generation:"+g.ID, "fence", 1).Err(); err != nil {
		t.Fatal(err)
	}

	i.metric(`backend_generations_total{state="superseded"} 1`)
	i.idle()
}

// An answer whose writers die again and again is ended, and the person is told what to do.
func TestTakenOverTooOften(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	address := store.Address{URL: redis.URL}
	s := dead(t, address, 20*time.Millisecond)
	b := orphan(t, s, "so far")
	for n := 1; n <= store.MaxRetries; {
		c, err := s.Claim(t.Context(), b.Generation)
		if errors.Is(err, store.ErrLeased) {
			continue
		}
		if err != nil || c.Retries != n || c.Fence != int64(n+1) || c.Text != "so far" {
			t.Fatalf("takeover %d: %+v, %v", n, c, err)
		}

		n++
	}

	ml.Chat(func(s *mltest.Stream) { t.Error("ml is asked once more"); s.Done() })
	newInstance(t, redis.URL, ml.URL, options{})
	m := stored(t, s, b.ConversationID)
	if m.State != backendapi.MessageFailed || m.Content != "so far" || m.Error == nil ||
		!strings.Contains(m.Error.Detail, `press "Try again"`) {
		t.Errorf("%+v", m)
	}
}

// Redis answers nothing for five seconds, longer than any lease: the answer is complete, whoever
// writes it in the end.
func TestRedisAwayForFiveSeconds(t *testing.T) {
	t.Parallel()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	a := newInstance(t, redis.URL, ml.URL, options{outage: patience})
	b := newInstance(t, redis.URL, ml.URL, options{outage: patience})
	const words = 700
	ml.Chat(mltest.Count(words, 10*time.Millisecond))
	g := a.send(alice, "", "Hi")
	r := b.follow(alice, g.ID, "")
	text := some(t, r, 50)
	resume := redis.Pause(t)
	waits := map[string]func() *http.Response{
		"a page": func() *http.Response {
			return b.do(http.MethodGet, "/api/conversations/"+g.ConversationID, nil, alice)
		},
		"a message": func() *http.Response {
			return b.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"},
				alice.with(wire.KeyHeader, "k"))
		},
	}

	statuses := make(chan string, len(waits))
	for name, ask := range waits {
		go func() { statuses <- fmt.Sprint(name, " ", ask().StatusCode) }()
	}

	<-time.After(5 * time.Second)
	resume()
	got := []string{soon(t, "an answer", statuses), soon(t, "an answer", statuses)}
	slices.Sort(got)
	if want := []string{"a message 202", "a page 200"}; !slices.Equal(got, want) {
		t.Errorf("who asks meanwhile gets %q, want %q", got, want)
	}

	complete(t, r, text, mltest.Words(words))
	if m := a.detail(alice, g.ConversationID).Messages[1]; m.State != backendapi.MessageComplete ||
		m.Content != mltest.Words(words) {
		t.Errorf("%s with %d bytes", m.State, len(m.Content))
	}
}

// The clock is set by an hour, forward and back, while an answer is written and another backend
// looks for orphans: nobody takes it over, and its text is whole.
func TestClockIsSetMeanwhile(t *testing.T) {
	t.Parallel()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	long := options{store: func(o *store.Options) { o.Lease = 4 * time.Second }}
	a, b := newInstance(t, redis.URL, ml.URL, long), newInstance(t, redis.URL, ml.URL, long)
	n := count(ml)
	g := a.send(alice, "", "Hi")
	r := b.follow(alice, g.ID, "")
	text := some(t, r, 50)

	c := redis.Client(t)
	for _, by := range []time.Duration{time.Hour, -time.Hour} { // to Redis it is the same when the times are set
		if err := c.HIncrBy(t.Context(), "generation:"+g.ID, "expires", -by.Milliseconds()).Err(); err != nil {
			t.Fatal(err)
		}
		text += some(t, r, 1000) // longer than a sweep
	}

	complete(t, r, text, n.end(t))
	if got := c.HGet(t.Context(), "generation:"+g.ID, "retries").Val(); got != "" {
		t.Errorf("the answer was taken over %s times", got)
	}
}

// ml or Ollama dies in the middle of an answer: it is asked again with the text so far, and the
// answer goes on.
func TestModelServiceDies(t *testing.T) {
	i, ml, redis := stack(t)
	for name, die := range map[string]func(*mltest.Stream){
		"the connection is cut": func(s *mltest.Stream) { s.Cut() },
		"the stream ends":       func(*mltest.Stream) {},
		"a line is cut":         func(s *mltest.Stream) { s.Raw(`{"te`) },
		"Ollama cannot be reached": func(s *mltest.Stream) {
			s.Send(mlapi.Chunk{Error: problem.New(502, "gone")})
		},
		"Ollama falls silent": func(s *mltest.Stream) {
			s.Send(mlapi.Chunk{Error: problem.New(504, "it took too long")})
		},
		"ml is being stopped": func(s *mltest.Stream) {
			s.Send(mlapi.Chunk{Error: &problem.Problem{Type: problem.TypeDraining, Title: "x",
				Status: 503}})
		},
		"ml is killed and restarts": (*mltest.Stream).Hold,
	} {
		t.Run(name, func(t *testing.T) {
			i := i.in(t)
			var requests atomic.Int32
			second := make(chan mlapi.ChatRequest, 1)
			ml.Chat(func(s *mltest.Stream) {
				if requests.Add(1) == 1 {
					s.Text("0 1 ")
					s.Text("2 ")
					die(s)
					return
				}

				second <- s.Request
				mltest.Count(6, 0)(s)
			})

			g := i.send(alice, "", "Count")
			r := i.follow(alice, g.ID, "")
			text := some(t, r, 6)
			if strings.Contains(name, "killed") {
				ml.Kill()
				ml.Restart(t)
			}

			rest, last, _ := r.rest()
			if text += rest; text != mltest.Words(6) || last.Name != backendapi.EventDone {
				t.Errorf("%q, %+v", text, last)
			}

			want := []mlapi.Message{{Role: "user", Content: "Count"}, {Role: "assistant",
				Content: "0 1 2 "}}
			if d := cmp.Diff(want, soon(t, "the second request", second).Messages); d != "" {
				t.Errorf("ml was asked (-want +got):\n%s", d)
			}

			if m := i.detail(alice,
				g.ConversationID).Messages[1]; m.State != backendapi.MessageComplete ||
				m.Content != text {
				t.Errorf("%+v", m)
			}

			counted, want2 := redis.Client(t).HGet(t.Context(), "generation:"+g.ID,
				"retries").Val(), "1"
			if strings.Contains(name, "stopped") {
				want2 = ""
			}
			if counted != want2 {
				t.Errorf("counted as %q interruptions, want %q", counted, want2)
			}
		})
	}
}

// A request that ml dies of is sent a few times only; what ml refuses for good is not sent again.
func TestModelServiceDiesEachTime(t *testing.T) {
	i, ml, _ := stack(t)
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) { requests.Add(1); s.Text("x"); s.Cut() })
	g := i.send(alice, "", "Hi")
	text, last, _ := i.follow(alice, g.ID, "").rest()
	if requests.Load() != 1+store.MaxRetries || text != strings.Repeat("x", 1+store.MaxRetries) ||
		last.Name != backendapi.EventError || !strings.Contains(last.Data, "Try again") {
		t.Errorf("%d requests, %q, %+v", requests.Load(), text, last)
	}

	requests.Store(0)
	ml.Chat(func(s *mltest.Stream) {
		requests.Add(1)
		s.Text("x")
		s.Send(mlapi.Chunk{Error: problem.New(http.StatusBadRequest, "no")})
	})

	g = i.send(alice, "", "Hi")
	if _, last, _ := i.follow(alice, g.ID, "").rest(); requests.Load() != 1 ||
		last.Name != backendapi.EventError {
		t.Errorf("%d requests, %+v", requests.Load(), last)
	}
}

// An answer whose time is over at ml is not asked for again, whether it has begun or not, and the
// person is told what to do.
func TestAnswerTakesTooLong(t *testing.T) {
	i, ml, _ := stack(t)
	over := &problem.Problem{
		Type: problem.TypeTimeout, Title: "Gateway Timeout", Status: http.StatusGatewayTimeout,
	}
	for name, end := range map[string]func(*mltest.Stream){
		"before its first word": func(s *mltest.Stream) {
			s.Send(mlapi.Chunk{Queue: 1})
			s.Send(mlapi.Chunk{Error: over})
		},
		"after it": func(s *mltest.Stream) { s.Text("so far"); s.Send(mlapi.Chunk{Error: over}) },
	} {
		t.Run(name, func(t *testing.T) {
			i := i.in(t)
			var requests atomic.Int32
			ml.Chat(func(s *mltest.Stream) { requests.Add(1); end(s) })
			g := i.send(alice, "", "Hi")
			_, last, _ := i.follow(alice, g.ID, "").rest()
			if n := requests.Load(); n != 1 || last.Name != backendapi.EventError ||
				!strings.Contains(last.Data, problem.TypeTimeout) ||
				!strings.Contains(last.Data, "ask the model to go on") {
				t.Errorf("%d requests, %+v", n, last)
			}
		})
	}

	// Refused before ml took it, by one that was slow to say so.
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) { requests.Add(1); s.Refuse(over) })
	p := i.refused(http.StatusGatewayTimeout, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi"}, alice)
	if n := requests.Load(); n != 1 || p.Type != problem.TypeTimeout {
		t.Errorf("%d requests, %+v", n, p)
	}
}

// The model's template cannot continue a text: the answer begins again behind a mark, and what was
// seen stays.
func TestAnswerBeginsAgain(t *testing.T) {
	i, ml, _ := stack(t)
	soFar := []string{}
	ml.Chat(func(s *mltest.Stream) {
		soFar = append(soFar, s.SoFar())
		switch len(soFar) {
		case 1:
			s.Text("```go\nfunc")
			s.Cut()
		case 2:
			s.Send(mlapi.Chunk{Again: true})
			s.Text("Once ")
			s.Cut()
		default:
			s.Text("more")
			s.Done()
		}
	})

	g := i.send(alice, "", "Hi")
	const want = "```go\nfunc\n```\n\n---\n\n" +
		"*The answer was interrupted here and begins again:*\n\nOnce more"
	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != want ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	if d := cmp.Diff([]string{"", "```go\nfunc", "Once "}, soFar); d != "" {
		t.Errorf("ml was asked to go on from (-want +got):\n%s", d)
	}
	if m := i.detail(alice, g.ConversationID).Messages[1]; m.Content != want {
		t.Errorf("%q", m.Content)
	}
}

// An ml of the former version refuses a text so far: the answer begins again.
func TestModelServiceOfTheFormerVersion(t *testing.T) {
	i, ml, _ := stack(t)
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		switch {
		case requests.Add(1) == 1:
			s.Text("Half")
			s.Cut()
		case s.SoFar() != "":
			s.Refuse(problem.New(http.StatusBadRequest, "the last message must be the user's"))
		default:
			s.Text("Whole")
			s.Done()
		}
	})

	text, last, _ := i.follow(alice, i.send(alice, "", "Hi").ID, "").rest()
	if !strings.HasPrefix(text, "Half\n\n---\n") || !strings.HasSuffix(text, ":*\n\nWhole") ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}
}

// ml cannot be reached when the message comes: the answer waits for it, up to the outage that it
// bears.
func TestModelServiceComesLate(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{timing: func(g *generation.Timing) {
		g.Admission = 20 * time.Millisecond
	}, outage: patience})
	ml.Kill()
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	ml.Restart(t)
	if text, last, _ := r.rest(); text != "hello" || last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	down := newInstance(t, redis.URL, "http://127.0.0.1:1",
		options{timing: func(g *generation.Timing) { g.Admission = 20 * time.Millisecond },
			outage: 100 * time.Millisecond})
	if _, last, _ := down.follow(alice, down.send(alice, "", "Hi").ID,
		"").rest(); last.Name != backendapi.EventError || !strings.Contains(last.Data,
		`"status":502`) {
		t.Errorf("%+v", last)
	}
}

// What an answer waits for its turn is not part of its time.
func TestWaitingDoesNotCount(t *testing.T) {
	const answer = 2 * time.Second // of which it needs next to nothing, also on a busy machine
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	patient := newInstance(t, redis.URL, ml.URL, options{timing: func(g *generation.Timing) {
		g.Answer, g.Wait = answer, patience
	}})

	ml.Chat(func(s *mltest.Stream) {
		s.Send(mlapi.Chunk{Queue: 1})
		<-time.After(answer + answer/2)
		s.Text("at last")
		s.Done()
	})

	if text, last, _ := patient.follow(alice, patient.send(alice, "", "Hi").ID,
		"").rest(); text != "at last" || last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	hasty := newInstance(t, redis.URL, ml.URL, options{timing: func(g *generation.Timing) {
		g.Answer, g.Wait = patience, 2*time.Second // ml has long taken it by then
	}})
	ml.Chat(func(s *mltest.Stream) { s.Send(mlapi.Chunk{Queue: 1}); s.Hold() })
	if _, last, _ := hasty.follow(alice, hasty.send(alice, "", "Hi").ID,
		"").rest(); last.Name != backendapi.EventError || !strings.Contains(last.Data,
		"waited for the model") {
		t.Errorf("%+v", last)
	}
}

// Reasoning is streamed and kept beside the answer, and so is what the model's context does not
// hold.
func TestThinkingAndHistory(t *testing.T) {
	i, ml, _ := stack(t)
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		s.Send(mlapi.Chunk{LeftOut: 3})
		s.Send(mlapi.Chunk{Thinking: "Hm, "})
		s.Send(mlapi.Chunk{Thinking: "\"so\"."})
		if requests.Add(1) == 1 {
			s.Cut()
		}

		s.Send(mlapi.Chunk{Thinking: strings.Repeat("x", generation.MaxThinking)})
		s.Text("Yes.")
		s.Done()
	})

	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	thinking, text, leftOut := "", "", 0
	for last := ""; last != backendapi.EventDone; {
		e := r.next()
		switch last = e.Name; e.Name {
		case backendapi.EventThinking:
			thinking += delta(t, e)
		case backendapi.EventDelta:
			text += delta(t, e)
		case backendapi.EventHistory:
			var h backendapi.History
			if err := json.Unmarshal([]byte(e.Data), &h); err != nil || leftOut != 0 {
				t.Errorf("%+v: %v", e, err)
			}
			leftOut = h.LeftOut
		case backendapi.EventError:
			t.Fatalf("%+v", e)
		}
	}

	const want = "Hm, \"so\".\n\nHm, \"so\"."
	if thinking != want || text != "Yes." || leftOut != 3 {
		t.Errorf("thinking %q, text %q, left out %d", thinking, text, leftOut)
	}

	m := i.detail(alice, g.ConversationID).Messages[1]
	if m.Thinking != want || m.Content != "Yes." || m.LeftOut != 3 {
		t.Errorf("%+v", m)
	}

	// It is no part of what the model is sent.
	asked := make(chan mlapi.ChatRequest, 1)
	ml.Chat(func(s *mltest.Stream) { asked <- s.Request; s.Done() })
	i.follow(alice, i.send(alice, g.ConversationID, "On").ID, "").rest()
	if m := soon(t, "the request", asked).Messages; len(m) != 3 || m[1].Content != "Yes." {
		t.Errorf("%+v", m)
	}
}

// An answer that waits for its turn bears ml's being replaced as often as that happens: each time
// it was taken is a new beginning, however long it waited.
func TestWaitingBearsEveryUpdate(t *testing.T) {
	const outage = 300 * time.Millisecond
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{outage: outage})
	draining := mlapi.Chunk{Error: &problem.Problem{
		Type: problem.TypeDraining, Title: "x", Status: 503,
	}}
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		if n := requests.Add(1); n < 4 {
			s.Send(mlapi.Chunk{Queue: int(4 - n)})
			time.Sleep(2 * outage) // longer than ml may be away
			s.Send(draining)
			return
		}

		s.Text("at last")
		s.Done()
	})

	g := i.send(alice, "", "Hi")
	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != "at last" ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v after %d requests", text, last, requests.Load())
	}
}

// An answer that was cut and waits anew may lose its place to somebody else: it waits again.
func TestDisplacedAnswerWaitsAnew(t *testing.T) {
	i, ml, _ := stack(t)
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		switch requests.Add(1) {
		case 1:
			s.Text("0 1 ")
			s.Cut()
		case 2:
			s.Send(mlapi.Chunk{Queue: 3})
			s.Send(mlapi.Chunk{Error: &problem.Problem{
				Type: "/problems/queue-full", Title: "x", Status: 429,
			}})
		default:
			mltest.Count(4, 0)(s)
		}
	})

	g := i.send(alice, "", "Count")
	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != mltest.Words(4) ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v after %d requests", text, last, requests.Load())
	}
}

// A backend may meet an ml of the former version, which has no type for its being stopped.
func TestFormerModelServiceDrains(t *testing.T) {
	i, ml, redis := stack(t)
	var requests atomic.Int32
	ml.Chat(func(s *mltest.Stream) {
		if requests.Add(1) == 1 {
			s.Send(mlapi.Chunk{Error: problem.New(503,
				"This instance is shutting down. Try again.")})
			return
		}
		s.Text("hello")
		s.Done()
	})

	g := i.send(alice, "", "Hi")
	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != "hello" ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	// It had done nothing: that is no interruption of the answer, of which only a few are borne.
	if n := redis.Client(t).HGet(t.Context(), "generation:"+g.ID, "retries").Val(); n != "" {
		t.Errorf("counted as %q interruptions, want none", n)
	}
}
