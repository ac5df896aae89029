package queue

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// scripts counts the scripts that Redis ran.
func scripts(t *testing.T, server *redistest.Server) string {
	t.Helper()
	info := server.Client(t).Info(t.Context(), "commandstats").Val()
	_, calls, found := strings.Cut(info, "cmdstat_evalsha:calls=")
	if !found {
		t.Fatal("Redis ran no script")
	}
	calls, _, _ = strings.Cut(calls, ",")
	return calls
}

// clock makes the queue tell the time by what it returns.
func clock(q *Queue) *time.Time {
	now := time.Now()
	q.now = func() time.Time { return now }
	return &now
}

// TestSettles: Redis decides when it has answered for a while, and not before.
func TestSettles(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := share(t, contract.Redis{URL: server.URL}, 1, 8)
	q.shared.patience = await
	now := clock(q)
	for _, step := range []struct {
		pass time.Duration
		want bool
	}{{0, false}, {0, false}, {settle - 1, false}, {1, true}} {
		*now = now.Add(step.pass)
		q.look()
		if q.Shared() != step.want {
			t.Errorf("after %s more, Redis decides: %v", step.pass, q.Shared())
		}
	}
}

// TestRenewsItsLease once a beat; between, Redis is asked only where somebody waits, and writes
// nothing.
func TestRenewsItsLease(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := join(t, contract.Redis{URL: server.URL}, 1, 1, 8)[0]
	now := clock(q)
	end := func() float64 {
		time.Sleep(5 * time.Millisecond) // the lease is told in milliseconds
		q.look()
		return server.Client(t).ZScore(t.Context(), keys[0], q.shared.name).Val()
	}
	end()
	before := scripts(t, server)
	if end(); scripts(t, server) != before {
		t.Error("Redis is asked though nobody waits")
	}
	for range 2 {
		if _, err := q.enter("a"); err != nil {
			t.Fatal(err)
		}
	}
	before, lease := scripts(t, server), end()
	if scripts(t, server) == before {
		t.Error("Redis is not asked though somebody waits")
	}
	if again := end(); again != lease {
		t.Errorf("the lease is renewed after no time, by %v ms", again-lease)
	}
	*now = now.Add(beat)
	if again := end(); again <= lease {
		t.Error("the lease is not renewed after a beat")
	}
}

// TestAsksOftenForThoseWhoWait: a turn that comes free elsewhere is seen long before the next beat.
func TestAsksOftenForThoseWhoWait(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 2, 1, 8)
	running(t, queues[1])
	release, err := queues[0].Acquire(t.Context(), "a", nobody)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan func())
	go func() {
		release, err := queues[1].Acquire(t.Context(), "b", nobody)
		if err != nil {
			t.Error(err)
		}
		got <- release
	}()
	until(t, "b waits", func() bool { return queues[1].Waiting() == 1 })

	const looks = 20 // a busy machine makes some of them late
	asked := func() int {
		t.Helper()
		n, err := strconv.Atoi(scripts(t, server))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	start, before := time.Now(), asked()
	until(t, "it has looked again and again", func() bool { return asked()-before >= looks })
	if d := time.Since(start); d > looks*beat/2 {
		t.Errorf("%d looks took %s, as those between beats do", looks, d)
	}
	release()
	(<-got)()
}

// TestForgotten: a process of which Redis does not know decides by itself, at once.
func TestForgotten(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := join(t, contract.Redis{URL: server.URL}, 1, 1, 8)[0]
	if err := server.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w, err := q.enter("a")
	if err != nil || q.Shared() || state(q, w) != "has its turn" {
		t.Errorf("Redis decides: %v, a %s, %v", q.Shared(), state(q, w), err)
	}
}

// TestKeepsTheOrderAlone: those that wait keep their places when Redis goes, also those of an owner
// who has several.
func TestKeepsTheOrderAlone(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := join(t, contract.Redis{URL: server.URL}, 1, 1, 8)[0]
	var waiting []*waiter
	for _, owner := range []string{"x", "a", "a", "a", "b"} {
		w, err := q.enter(owner)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, w)
	}
	q.look()
	q.mu.Lock()
	q.alone(errors.New("Redis is away"))
	q.mu.Unlock()
	for i, want := range []string{
		"has its turn", "waits at 1", "waits at 3", "waits at 4", "waits at 2",
	} {
		if got := state(q, waiting[i]); got != want {
			t.Errorf("request %d of %s %s, want %s", i, waiting[i].owner, got, want)
		}
	}
}

// TestSaysWhoDecides once each time that it changes.
func TestSaysWhoDecides(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := share(t, contract.Redis{URL: server.URL}, 1, 8)
	said := &messages{}
	q.shared.patience, q.shared.log = await, slog.New(said)
	now := clock(q)
	looks := func() {
		for range 4 {
			q.look()
			*now = now.Add(settle)
		}
	}
	looks()
	server.Kill(t)
	looks()
	server.Restart(t)
	looks()
	const decides, not = "Redis decides who gets a turn", "Redis does not decide who gets a turn"
	want := []string{decides, not, decides}
	for i, m := range said.all {
		if i >= len(want) || !strings.HasPrefix(m, want[i]) {
			t.Errorf("message %d: %q", i, m)
		}
	}
	if len(said.all) != len(want) {
		t.Errorf("%d messages, want %d", len(said.all), len(want))
	}
}

// messages is a log that keeps its messages.
type messages struct{ all []string }

func (m *messages) Enabled(context.Context, slog.Level) bool { return true }
func (m *messages) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m *messages) WithGroup(string) slog.Handler            { return m }
func (m *messages) Handle(_ context.Context, r slog.Record) error {
	m.all = append(m.all, r.Message)
	return nil
}

// TestGaveUpMeanwhile: Redis is told at once of a request that left while it was asked for its
// place, unless it has none there.
func TestGaveUpMeanwhile(t *testing.T) {
	for name, tc := range map[string]struct {
		place   int
		running bool
		want    bool
	}{
		"it waits there":      {place: 1, want: true},
		"it has a turn there": {place: 0, want: true},
		"it was refused":      {place: -1},
		"it has its turn":     {place: 0, running: true},
	} {
		t.Run(name, func(t *testing.T) {
			q := share(t, contract.Redis{URL: "redis://127.0.0.1:1"}, 1, 8)
			q.shared.decides, q.shared.beat = true, time.Now()
			w := &waiter{id: 7, outcome: make(chan error, 1), moved: make(chan int, 1)}
			if tc.running {
				q.running[w.id] = w.owner
			}
			q.mu.Lock()
			q.heard("", time.Now(), []*waiter{w}, []int{1, 1, tc.place})
			q.mu.Unlock()
			if got := len(q.shared.lookNow) == 1 && q.shared.beat.IsZero(); got != tc.want {
				t.Errorf("Redis is told at once: %v", got)
			}
			if len(w.outcome)+len(w.moved) != 0 {
				t.Error("one that is gone hears of its place")
			}
		})
	}
}
