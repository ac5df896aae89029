package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
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
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
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

// as asks for an answer in somebody's name.
func (i *instance) as(owner string) *http.Response {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodPost, i.url+"/chat",
		strings.NewReader(ask))
	if err != nil {
		i.t.Fatal(err)
	}

	req.Header.Set(wire.OwnerHeader, owner)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}

	i.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// tries is how often something is tried that takes a Redis which answers at once: one that is late
// does not decide, and then nothing is asked ahead.
const tries = 20

// TestAhead: Ollama is asked while Redis is asked whether it may be, and nobody is told a word
// before Redis has said so.
func TestAhead(t *testing.T) {
	answered := make(chan struct{}, 2*tries)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		answers(w, r)
		answered <- struct{}{}
	})

	s := redistest.StartAs(t, stacks.ML)
	for n := range tries {
		var early, told atomic.Bool
		got := make(chan struct{})
		owner := fmt.Sprintf("person%d", n)
		proxy := redistest.Before(t, s, usage.Key(owner), func() {
			early.Store(within(answered, 50*time.Millisecond))
			told.Store(within(got, 50*time.Millisecond))
		})

		url := strings.Replace(s.URL, s.Addr, strings.TrimPrefix(proxy, "redis://"), 1)
		i := shared(t, f.URL, url, 4, contract.Limits{RequestsPerDay: 10})
		resp := i.as(owner)
		close(got)
		text, _ := (&chunks{t, bufio.NewScanner(resp.Body)}).rest()
		if text != "Hello <you>" || told.Load() {
			t.Fatalf("%q, told before it was admitted: %v", text, told.Load())
		}
		if early.Load() {
			used(t, s, owner, usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})
			return
		}
		<-answered
	}

	t.Error("Ollama is not asked ahead")
}

// within reports whether something comes from the channel in the time.
func within(c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(d):
		return false
	}
}

// TestAheadRefused: what is refused after Ollama was asked ends there, is told nothing but why, and
// counts for nothing. The next question of that day is not asked ahead.
func TestAheadRefused(t *testing.T) {
	begun, ended := make(chan struct{}, 2*tries), make(chan struct{}, 2*tries)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if begun <- struct{}{}; len(begun) == 1 {
			answers(w, r)
			return
		}

		tell(w, hello)
		<-r.Context().Done()
		ended <- struct{}{}
	})

	s := redistest.StartAs(t, stacks.ML)
	i := shared(t, f.URL, s.URL, 4, contract.Limits{RequestsPerDay: 1})
	for n := range tries {
		owner := fmt.Sprintf("person%d", n)
		if resp := i.as(owner); resp.StatusCode != http.StatusOK {
			t.Fatalf("the first question: %s", resp.Status)
		} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}

		refused := i.refused(http.StatusTooManyRequests, i.as(owner))
		if refused.Type != mlapi.TypeDayLimit {
			t.Fatalf("the second question: %+v", refused)
		}

		used(t, s, owner, usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})
		<-begun
		if len(begun) == 0 {
			continue
		}

		<-begun
		<-ended
		i.refused(http.StatusTooManyRequests, i.as(owner))
		if len(begun) > 0 {
			t.Error("the third question is asked ahead")
		}
		return
	}

	t.Error("Ollama is not asked ahead")
}

// TestAheadQueued: a request that was asked ahead and has no turn after all, as another instance has
// taken it, ends at Ollama. It waits, and is asked when its turn comes.
func TestAheadQueued(t *testing.T) {
	var ahead atomic.Int32
	finish, ended := make(chan struct{}), make(chan struct{}, 1)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch ahead.Add(1) {
		case 1, 2:
			tell(w, hello)
			<-finish
			tell(w, `{"message":{"content":" <you>"}}`, done)
		case 3:
			tell(w, `{"message":{"content":"too early"}}`)
			<-r.Context().Done()
			ended <- struct{}{}
		default:
			answers(w, r)
		}
	})

	s := redistest.StartAs(t, stacks.ML)
	one := shared(t, f.URL, s.URL, 2, contract.Limits{})
	other := shared(t, f.URL, s.URL, 2, contract.Limits{})
	var busy []*chunks
	for _, owner := range []string{"a", "b"} {
		busy = append(busy, &chunks{t, bufio.NewScanner(one.as(owner).Body)})
	}

	c := &chunks{t, bufio.NewScanner(other.as("c").Body)}
	if first := c.next(); first.Queue != 1 {
		t.Errorf("it is told %+v first", first)
	}

	<-ended
	close(finish)
	text, _ := c.rest()
	if n := ahead.Load(); text != "Hello <you>" || n != 4 {
		t.Errorf("%q, after %d requests", text, n)
	}
	for _, b := range busy {
		b.rest()
	}
}
