package api

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/meter"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// shared is an instance whose queue lies in the Redis, with so many turns, and which holds people
// to the limits. It returns when Redis decides who gets a turn.
func shared(t *testing.T, ollama, redisURL string, parallel int, l contract.Limits) *instance {
	t.Helper()
	var clients []*redis.Client
	for range 2 {
		r, err := redis.New(contract.Redis{URL: redisURL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		clients = append(clients, r)
	}

	log := slog.New(slog.DiscardHandler)
	q := queue.New(parallel, 8)
	q.Limit(l.RequestsAtOnce)
	q.Share(clients[0], log)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })

	for end := time.Now().Add(time.Minute); !q.Shared(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("Redis does not decide")
		}
	}

	return start(t, ollama, func(o *Options) {
		o.Queue, o.Meter = q, meter.New(clients[1], l, log)
	})
}

// told asks for an answer in somebody's name.
func (i *instance) told(owner string) *chunks {
	i.t.Helper()
	resp, err := i.postAs(i.t.Context(), owner, "/chat", ask)
	if err != nil {
		i.t.Fatal(err)
	}
	return &chunks{i.t, bufio.NewScanner(resp.Body)}
}

// held is an instance that Redis hears the first command with the text from after f.
func held(
	t *testing.T, ollama string, s *redistest.Server, l contract.Limits, text string, f func(),
) *instance {
	t.Helper()
	proxy := strings.TrimPrefix(redistest.Before(t, s, text, f), "redis://")
	return shared(t, ollama, strings.Replace(s.URL, s.Addr, proxy, 1), 2, l)
}

// hold is how long Redis hears nothing at most: ml waits for it for 500 ms.
const hold = 50 * time.Millisecond

// within reports whether something comes from the channel in the time.
func within(c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(d):
		return false
	}
}

// drain takes what came before.
func drain(c <-chan struct{}) {
	for len(c) > 0 {
		<-c
	}
}

// ahead tries what takes a machine on which Redis and Ollama are heard in time: on one that is busy
// nothing may be asked ahead. try is given a name of its own each time, and reports whether it was.
func ahead(t *testing.T, try func(owner string) bool) {
	t.Helper()
	for n := range 20 {
		if try(fmt.Sprintf("person%02d", n)) {
			return
		}
	}
	t.Error("Ollama is not asked ahead")
}

// TestAhead: Ollama is asked while Redis is asked whether it may be, and nobody is told a word
// before Redis has said so.
func TestAhead(t *testing.T) {
	answered := make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		answers(w, r)
		answered <- struct{}{}
	})

	s := redistest.StartAs(t, stacks.ML)
	ahead(t, func(owner string) bool {
		drain(answered)
		got := make(chan struct{})
		var early, told atomic.Bool
		var start time.Time
		i := held(t, f.URL, s, contract.Limits{RequestsPerDay: 10}, usage.Key(owner), func() {
			early.Store(within(answered, hold))
			// later ml goes on without Redis
			told.Store(within(got, hold) && time.Since(start) < 3*hold)
		})

		start = time.Now()
		c := i.told(owner)
		close(got)
		if text, _ := c.rest(); text != "Hello <you>" || told.Load() {
			t.Errorf("%q, told before it was admitted: %v", text, told.Load())
		}
		if early.Load() {
			used(t, s, owner, usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})
		}
		return early.Load()
	})
}

// TestAheadOwnModel: only the stack's own model is asked ahead.
func TestAheadOwnModel(t *testing.T) {
	asked := make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		answers(w, r)
	})

	s := redistest.StartAs(t, stacks.ML)
	var early atomic.Bool
	start := time.Now()
	i := held(t, f.URL, s, contract.Limits{RequestsPerDay: 10}, usage.Key("alice"), func() {
		early.Store(within(asked, hold) && time.Since(start) < 3*hold)
	})

	start = time.Now()
	i.chat(t.Context(), `{"model":"n:7b","messages":[{"role":"user","content":"Hi"}]}`).rest()
	if early.Load() {
		t.Error("Ollama is asked ahead")
	}
}

// TestAheadRefused: what is refused after Ollama was asked ends there, is told nothing but why, and
// counts for nothing. The next question of that day is not asked ahead.
func TestAheadRefused(t *testing.T) {
	var second atomic.Bool
	var seen atomic.Int32
	ended := make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if !second.Load() {
			answers(w, r)
			return
		}

		// It says nothing, as a model that reads a prompt. It would answer what is admitted, as all
		// is where Redis is late.
		seen.Add(1)
		if within(r.Context().Done(), time.Second) {
			ended <- struct{}{}
		} else {
			answers(w, r)
		}
	})

	s := redistest.StartAs(t, stacks.ML)
	i := shared(t, f.URL, s.URL, 2, contract.Limits{RequestsPerDay: 1})
	refused := func(owner string) bool {
		t.Helper()
		resp, err := i.postAs(t.Context(), owner, "/chat", ask)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK { // uncounted, as Redis is late
			return false
		}
		if p := i.refused(http.StatusTooManyRequests, resp); p.Type != mlapi.TypeDayLimit {
			t.Errorf("%+v", p)
		}
		return true
	}

	ahead(t, func(owner string) bool {
		second.Store(false)
		i.told(owner).rest()
		second.Store(true)
		if !refused(owner) || !within(ended, time.Second) {
			return false
		}

		used(t, s, owner, usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})
		before := seen.Load()
		if refused(owner) && (within(ended, hold) || seen.Load() != before) {
			t.Error("the next question is asked ahead")
		}
		return true
	})
}

// TestAheadQueued: a request that was asked ahead and has no turn after all, as another instance
// has taken it, ends at Ollama. It waits, and is asked when its turn comes.
func TestAheadQueued(t *testing.T) {
	const busy, early, late = 0, 1, 2
	var stage atomic.Int32
	var finish chan struct{}
	begun, ended := make(chan struct{}, 100), make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case stage.Load() == busy:
			tell(w, hello)
			<-finish
			tell(w, `{"message":{"content":" you"}}`, done)
		case stage.CompareAndSwap(early, late):
			tell(w, `{"message":{"content":"too early"}}`)
			begun <- struct{}{}
			// Where Redis is late it may be told.
			if within(r.Context().Done(), time.Second) {
				ended <- struct{}{}
			} else {
				tell(w, done)
			}
		default:
			answers(w, r)
		}
	})

	s := redistest.StartAs(t, stacks.ML)
	one := shared(t, f.URL, s.URL, 2, contract.Limits{})
	ahead(t, func(string) bool {
		drain(begun)
		other := held(t, f.URL, s, contract.Limits{}, "take", func() { within(begun, hold) })
		stage.Store(busy)
		finish = make(chan struct{})
		var others []*chunks
		for _, owner := range []string{"a", "b"} {
			c := one.told(owner)
			c.next()
			others = append(others, c)
		}

		stage.Store(early)
		c := other.told("c")
		first := c.next()
		stopped := within(ended, 2*time.Second)
		stage.Store(late)
		close(finish)
		text, _ := c.rest()
		if stopped && (first.Queue != 1 || text != "Hello <you>") {
			t.Errorf("it is told %+v first, then %q", first, text)
		}
		for _, c := range others {
			c.rest()
		}
		return stopped
	})
}

// TestAheadEnds: an early request that fails, or whose client goes, leaves no turn and no use.
func TestAheadEnds(t *testing.T) {
	asked := make(chan struct{}, 100)
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		asked <- struct{}{}
	})

	s := redistest.StartAs(t, stacks.ML)
	limits := contract.Limits{RequestsPerDay: 10}
	for name, leave := range map[string]bool{"it fails": false, "the client goes": true} {
		t.Run(name, func(t *testing.T) {
			ahead(t, func(owner string) bool {
				owner = name + owner
				drain(asked)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var early atomic.Bool
				i := held(t, f.URL, s, limits, usage.Key(owner), func() {
					early.Store(within(asked, hold))
					if leave {
						cancel()
					}
				})

				resp, err := i.postAs(ctx, owner, "/chat", ask)
				switch {
				case err == nil: // where Redis is late it comes before the client goes
					i.refused(http.StatusBadGateway, resp)
				case !leave:
					t.Fatal(err)
				}

				for end := time.Now().Add(time.Minute); i.queue.Running() > 0; {
					if time.Now().After(end) {
						t.Fatal("its turn stays taken")
					}
					time.Sleep(time.Millisecond)
				}
				used(t, s, owner, usage.Used{})
				return early.Load() && (!leave || err != nil)
			})
		})
	}
}
