package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
	"github.com/codexcontinue/codexcontinue/stacks"
)

const (
	// await bounds every wait for something that happens within seconds.
	await = 20 * time.Second

	// brief is a lease whose end a test waits for, and that a busy machine renews in time.
	brief = 5 * time.Second
)

// share makes a queue that shares its places at the address.
func share(t testing.TB, a contract.Redis, parallel, bound int) *Queue {
	t.Helper()
	r, err := redis.New(a)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(r.Close)
	q := New(parallel, bound)
	q.Share(r, slog.New(slog.DiscardHandler))
	return q
}

// join makes so many queues of which Redis decides, also on a machine that is busy. They do not
// run: a test looks for them.
func join(t testing.TB, a contract.Redis, n, parallel, bound int) []*Queue {
	t.Helper()
	return leased(t, a, await, n, parallel, bound)
}

// leased is join with a lease.
func leased(
	t testing.TB, a contract.Redis, lease time.Duration, n, parallel, bound int,
) []*Queue {
	t.Helper()
	var out []*Queue
	for range n {
		q := share(t, a, parallel, bound)
		q.shared.patience, q.shared.lease = await, lease
		q.look()
		q.shared.since = q.shared.since.Add(-settle)
		q.look()
		if !q.Shared() {
			t.Fatal("Redis does not decide")
		}

		out = append(out, q)
	}

	return out
}

// running makes them run until stop is called, or the test ends.
func running(t testing.TB, q *Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func until(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(await); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func state(q *Queue, w *waiter) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.running[w.id] != "":
		return "has its turn"
	case slices.Contains(q.waiting, w):
		return fmt.Sprint("waits at ", w.position)
	}

	return "is refused"
}

// TestSharedDecidesAsOne: whatever comes and goes at several queues, each request has the place
// that it would have in a queue of one process.
func TestSharedDecidesAsOne(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		parallel, bound := 1+r.IntN(3), 2+r.IntN(8)
		if err := server.Client(t).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}

		queues := join(t, contract.Redis{URL: server.URL}, 3, parallel, bound)
		one := New(parallel, bound)

		type pair struct {
			q         *Queue
			ours, one *waiter
		}

		var live []pair
		var trace []string
		for range 60 {
			if r.IntN(10) < 6 || len(live) == 0 {
				p := pair{q: queues[r.IntN(len(queues))]}
				owner := string(rune('a' + min(r.IntN(8), r.IntN(8))))
				trace = append(trace, "+"+owner)
				var err, oneErr error
				p.ours, err = p.q.enter(owner)
				p.one, oneErr = one.enter(owner)
				var full, oneFull *FullError
				if errors.As(err, &full) != errors.As(oneErr, &oneFull) ||
					full != nil && *full != *oneFull {
					t.Fatalf("seed %d: %v %+v, of one process %v %+v: %v",
						seed, err, full, oneErr, oneFull, trace)
				}

				if err == nil {
					live = append(live, p)
				}
			} else {
				i := r.IntN(len(live))
				p := live[i]
				live = slices.Delete(live, i, i+1)
				trace = append(trace, "-"+p.one.owner)
				p.q.leave(p.ours)
				one.leave(p.one)
			}

			for _, q := range queues {
				q.look()
			}

			for _, p := range live {
				if got, want := state(p.q, p.ours), state(one, p.one); got != want {
					t.Fatalf("seed %d: one of %s %s, of one process it %s: %v",
						seed, p.one.owner, got, want, trace)
				}
			}

			live = slices.DeleteFunc(live, func(p pair) bool {
				return state(one, p.one) == "is refused"
			})
		}
	}
}

// TestBoundIsOfAll: one owner takes every place at three queues, and keeps nobody out.
func TestBoundIsOfAll(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 3, 2, 32)
	for _, q := range queues {
		running(t, q)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var refused atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range 60 {
		all.Go(func() {
			_, err := queues[i%3].Acquire(ctx, "a", nobody)
			var full *FullError
			if errors.As(err, &full) {
				refused.Add(1)
				if full.Position != 33 || full.RetryAfter < 80*time.Second { // 17 rounds of 5 s
					t.Errorf("%+v", full)
				}
			}
		})
	}

	sum := func(count func(*Queue) int) int {
		return count(queues[0]) + count(queues[1]) + count(queues[2])
	}
	until(t, "60 were admitted, wait or are refused", func() bool {
		return sum((*Queue).Running) == 2 && sum((*Queue).Waiting) == 32 && refused.Load() == 26
	})

	for i := range 8 { // one place of a's each
		placed := make(chan int, 40)
		all.Go(func() {
			_, err := queues[i%3].Acquire(ctx, fmt.Sprint("b", i), func(place int) error {
				placed <- place
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("b%d: %v", i, err)
			}
		})

		if place := <-placed; place != 2+i { // behind the first of a and of each b before
			t.Errorf("b%d is at %d, want %d", i, place, 2+i)
		}
	}

	until(t, "a lost a place to each", func() bool { return refused.Load() == 26+8 })
	if n := sum((*Queue).Waiting); n != 32 {
		t.Errorf("%d wait", n)
	}
}

// TestKilledProcess: the places of one that is silent come free when its lease ends.
func TestKilledProcess(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := leased(t, contract.Redis{URL: server.URL}, brief, 2, 2, 8)
	stop := running(t, queues[0])
	running(t, queues[1])
	for range 2 {
		if _, err := queues[0].Acquire(t.Context(), "a", nobody); err != nil {
			t.Fatal(err)
		}
	}

	if w, err := queues[0].enter("b"); err != nil || len(w.outcome) != 0 {
		t.Fatal(w, err)
	}

	got := make(chan error, 1)
	places := make(chan int, 8)
	go func() {
		_, err := queues[1].Acquire(t.Context(), "c", func(p int) error { places <- p; return nil })
		got <- err
	}()

	if place := <-places; place != 2 {
		t.Errorf("c is at %d", place)
	}

	stop() // it says nothing more
	r := server.Client(t)
	end, err := r.ZScore(t.Context(), keys[0], queues[0].shared.name).Result()
	if err != nil {
		t.Fatal(err)
	}

	select {
	case err := <-got:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(brief + await):
		t.Fatal("c gets no turn")
	}

	if now := r.Time(t.Context()).Val().UnixMilli(); now < int64(end) {
		t.Errorf("c got its turn %d ms before the lease's end", int64(end)-now)
	}
}

// load asks at the queues all the time until stop is called, and returns how many requests had a
// turn at once at most since it was asked last.
func load(t *testing.T, queues []*Queue) (most func() int64, stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var now, peak, done atomic.Int64
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			for ctx.Err() == nil {
				release, err := queues[i%len(queues)].Acquire(ctx, fmt.Sprint(i%5), nobody)
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("a request failed: %v", err)
					}
					return
				}

				n := now.Add(1)
				for m := peak.Load(); n > m && !peak.CompareAndSwap(m, n); m = peak.Load() {
				}

				time.Sleep(15 * time.Millisecond)
				now.Add(-1)
				release()
				done.Add(1)
			}
		})
	}

	return func() int64 { return peak.Swap(now.Load()) },
		func() int64 { cancel(); all.Wait(); return done.Load() }
}

func allShared(queues ...*Queue) func() bool {
	return func() bool {
		return !slices.ContainsFunc(queues, func(q *Queue) bool { return !q.Shared() })
	}
}

// TestRedisRestarts: while Redis is away, and has lost everything when it comes back, nothing
// fails, and the bound is that of all again.
func TestRedisRestarts(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 3, 4, 40)
	for _, q := range queues {
		running(t, q)
	}

	most, stop := load(t, queues)
	held, err := queues[0].Acquire(t.Context(), "long", nobody) // has its turn all the time
	if err != nil {
		t.Fatal(err)
	}

	time.Sleep(200 * time.Millisecond)
	if n := most(); n > 4 {
		t.Errorf("%d had a turn at once", n)
	}

	server.Restart(t)
	time.Sleep(300 * time.Millisecond)
	server.Kill(t)
	until(t, "each decides by itself", func() bool {
		return !queues[0].Shared() && !queues[1].Shared() && !queues[2].Shared()
	})
	until(t, "those have ended that had a turn before", func() bool {
		return queues[0].Running() <= 2 && queues[1].Running() <= 2 && queues[2].Running() <= 2
	})
	most()
	time.Sleep(200 * time.Millisecond)
	n := most()
	until(t, "two have a turn at once", func() bool { n = max(n, most()); return n >= 2 })
	if n > 6 { // two each
		t.Errorf("%d had a turn at once without Redis", n)
	}

	server.Restart(t)
	until(t, "Redis decides again", allShared(queues...))
	until(t, "no more have a turn than it gives", func() bool {
		return queues[0].Running()+queues[1].Running()+queues[2].Running() <= 4
	})

	most()
	time.Sleep(300 * time.Millisecond)
	if n := most(); n > 3 { // and the one that is held
		t.Errorf("%d had a turn at once beside the one that is held", n)
	}
	if n := stop(); n < 50 {
		t.Errorf("only %d requests had a turn: this tested nothing", n)
	}

	held()
	r := server.Client(t)
	until(t, "no place is left in Redis", func() bool {
		return r.Exists(t.Context(), keys[1:]...).Val() == 0
	})
	for _, q := range queues {
		if q.Running() != 0 || q.Waiting() != 0 {
			t.Errorf("%d run and %d wait in the end", q.Running(), q.Waiting())
		}
	}
}

// TestPlacesAreHandedIn: those that wait keep their turn over a Redis that lost them, and one that
// has its turn counts.
func TestPlacesAreHandedIn(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 2, 1, 2)
	for _, q := range queues {
		running(t, q)
	}

	release, err := queues[0].Acquire(t.Context(), "x", nobody)
	if err != nil {
		t.Fatal(err)
	}

	var order []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, owner := range []string{"a", "b"} {
		all.Go(func() {
			release, err := queues[0].Acquire(t.Context(), owner, nobody)
			if err != nil {
				t.Errorf("%s: %v", owner, err)
				return
			}

			mu.Lock()
			order = append(order, owner)
			mu.Unlock()
			release()
		})

		until(t, "it waits", func() bool { return queues[0].Waiting() == i+1 })
	}

	server.Restart(t)
	until(t, "Redis forgot", func() bool { return !queues[0].Shared() })
	until(t, "Redis decides again", allShared(queues...))
	// A process leaves it to Redis from the moment on in which it begins to hand in who waits.
	r := server.Client(t)
	until(t, "they are handed in", func() bool {
		return r.ZCard(t.Context(), keys[0]).Val() == 2 && r.LLen(t.Context(), keys[2]).Val() == 2
	})

	ctx, cancel := context.WithTimeout(t.Context(), await)
	defer cancel()
	var full *FullError
	if _, err := queues[1].Acquire(ctx, "a", nobody); !errors.As(err, &full) || full.Position != 3 {
		t.Errorf("a third, where two wait at the other process: %v", err)
	}

	release()
	all.Wait()
	if got := strings.Join(order, ""); got != "ab" {
		t.Errorf("in the order %s", got)
	}
}

// TestRedisIsFull: a Redis without memory decides all the same.
func TestRedisIsFull(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML, "--maxmemory", "1")
	if err := server.Client(t).Set(t.Context(), "x", "y", 0).Err(); err == nil {
		t.Fatal("Redis has room")
	}

	queues := join(t, contract.Redis{URL: server.URL}, 2, 1, 1)
	for _, q := range queues {
		running(t, q)
	}

	release, err := queues[0].Acquire(t.Context(), "a", nobody)
	if err != nil {
		t.Fatal(err)
	}

	got := make(chan error, 1)
	go func() { _, err := queues[1].Acquire(t.Context(), "b", nobody); got <- err }()
	until(t, "b waits", func() bool { return queues[1].Waiting() == 1 })
	if _, err := queues[0].Acquire(t.Context(), "c", nobody); err == nil {
		t.Error("c got a place beyond the bound")
	}

	release()
	if err := <-got; err != nil || !allShared(queues...)() {
		t.Errorf("b: %v", err)
	}

	ttls := server.Client(t)
	for _, key := range keys[:2] {
		if d := ttls.PTTL(t.Context(), key).Val(); d <= 0 || d > 10*await {
			t.Errorf("%s lives for %s", key, d)
		}
	}
}

// TestRedisRefuses: whatever Redis says, requests have their turns.
func TestRedisRefuses(t *testing.T) {
	old := redistest.Start(t, "--user", "weak", "on", ">secret", "~*", "+@read")
	for name, a := range map[string]contract.Redis{
		"no rights":      {URL: strings.Replace(old.URL, "//", "//weak@", 1), Password: "secret"},
		"wrong password": {URL: old.URL, Password: "other"},
		"nobody there":   {URL: "redis://127.0.0.1:1"},
		"no such host":   {URL: "redis://redis.invalid:6379"},
	} {
		t.Run(name, func(t *testing.T) {
			q := share(t, a, 1, 1)
			q.shared.patience = await
			running(t, q)
			time.Sleep(50 * time.Millisecond)
			start := time.Now()
			release, err := q.Acquire(t.Context(), "a", nobody)
			if err != nil || time.Since(start) > await/2 {
				t.Fatalf("%v after %s", err, time.Since(start))
			}

			release()
			if q.Shared() {
				t.Error("Redis decides")
			}
		})
	}
}

// TestRedisHangs: nobody waits long for a Redis that says nothing.
func TestRedisHangs(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 2, 2, 8)
	for _, q := range queues {
		running(t, q)
	}

	for _, q := range queues {
		q.mu.Lock()
		q.shared.patience = patience
		q.mu.Unlock()
	}

	resume := server.Pause(t)
	for i := range 3 {
		start := time.Now()
		release, err := queues[0].Acquire(t.Context(), "a", nobody)
		if d := time.Since(start); err != nil || d > await/2 { // it says nothing at all
			t.Errorf("request %d: %v after %s", i, err, d)
		}
		if err == nil {
			release()
		}
	}

	until(t, "each decides by itself", func() bool {
		return !queues[0].Shared() && !queues[1].Shared()
	})
	resume()
	until(t, "Redis decides again", allShared(queues...))
}

// TestSlowRedis: one that takes its time decides all the same.
func TestSlowRedis(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	slow := "redis://" + delayed(t, server.Addr, 30*time.Millisecond)
	q := join(t, contract.Redis{URL: slow}, 1, 1, 8)[0]
	running(t, q)
	for range 5 {
		start := time.Now()
		release, err := q.Acquire(t.Context(), "a", nobody)
		if err != nil || time.Since(start) < 30*time.Millisecond {
			t.Fatalf("%v after %s: Redis was not asked", err, time.Since(start))
		}
		release()
	}

	if !q.Shared() {
		t.Error("a slow Redis does not decide")
	}
}

// delayed is a way to the address on which every answer takes longer.
func delayed(t *testing.T, to string, by time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	pass := func(from, to net.Conn, by time.Duration) {
		b := make([]byte, 1<<16)
		for {
			n, err := from.Read(b)
			time.Sleep(by)
			if _, werr := to.Write(b[:n]); err != nil || werr != nil {
				from.Close()
				to.Close()
				return
			}
		}
	}

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}

			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}

			go pass(c, s, 0)
			go pass(s, c, by)
		}
	}()

	return l.Addr().String()
}

// TestLostReplies: what Redis did for a process that did not hear of it is undone.
func TestLostReplies(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 2, 1, 8)
	q := queues[0]
	q.mu.Lock()
	for _, id := range []string{"1", "2"} { // a turn and a place
		if _, err := q.ask("enter", id, "a"); err != nil {
			t.Fatal(err)
		}
	}

	q.last = 2
	q.mu.Unlock()
	w, err := queues[1].enter("b")
	if err != nil || len(w.outcome) != 0 {
		t.Fatalf("b got a turn: %v", err)
	}

	q.shared.hurry()
	q.look()
	queues[1].look()
	if s := state(queues[1], w); s != "has its turn" {
		t.Errorf("b %s", s)
	}
}

// TestSharedClose, with a change of the capacity: both reach Redis at once.
func TestSharedClose(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := join(t, contract.Redis{URL: server.URL}, 2, 1, 8)
	for _, q := range queues {
		running(t, q)
	}

	release, err := queues[0].Acquire(t.Context(), "a", nobody)
	if err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 3)
	for i, q := range []*Queue{queues[0], queues[1], queues[1]} {
		go func() { _, err := q.Acquire(t.Context(), fmt.Sprint(i), nobody); ended <- err }()
		until(t, "it waits", func() bool { return queues[0].Waiting()+queues[1].Waiting() == i+1 })
	}

	queues[0].Close()
	if err := <-ended; !errors.Is(err, ErrDraining) {
		t.Errorf("the one that waited got %v", err)
	}
	if _, err := queues[0].Acquire(t.Context(), "a", nobody); !errors.Is(err, ErrDraining) {
		t.Errorf("a later one got %v", err)
	}

	queues[1].Resize(2)
	if err := <-ended; err != nil {
		t.Error(err)
	}

	release() // after Close: the turn goes to the other process
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := queues[1].Running(); n != 2 {
		t.Errorf("%d run", n)
	}
}

// TestCluster: the queue's keys lie in one slot.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	queues := join(t, contract.Redis{URL: "redis://unused:1", Cluster: cluster.Addrs()}, 2, 1, 8)
	release, err := queues[0].Acquire(t.Context(), "a", nobody)
	if err != nil {
		t.Fatal(err)
	}

	w, err := queues[1].enter("b")
	if err != nil || len(w.outcome) != 0 {
		t.Fatalf("b got a turn: %v", err)
	}

	release()
	queues[1].look()
	if s := state(queues[1], w); s != "has its turn" {
		t.Errorf("b %s", s)
	}
}

// TestHidesOwners: no key and no value holds an owner.
func TestHidesOwners(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := join(t, contract.Redis{URL: server.URL}, 1, 1, 8)[0]
	const owner = "cookie-of-somebody"
	for range 2 {
		if _, err := q.enter(owner); err != nil {
			t.Fatal(err)
		}
	}

	r := server.Client(t)
	all := r.SMembers(t.Context(), keys[1]).Val()
	all = append(all, r.LRange(t.Context(), keys[2], 0, -1).Val()...)
	for id, of := range r.HGetAll(t.Context(), keys[3]).Val() {
		all = append(all, id, of)
	}
	all = append(all, r.Keys(t.Context(), "*").Val()...)
	if len(all) != 1+1+2+4 || strings.Contains(strings.Join(all, " "), owner) {
		t.Errorf("Redis holds %q", all)
	}
}

// BenchmarkTurn is a turn that is free, taken and given back, and HandOver the time from when one
// process gives a turn back until another one's request has it.
func BenchmarkTurn(b *testing.B) {
	one := func(b *testing.B, q *Queue) {
		for b.Loop() {
			release, err := q.Acquire(b.Context(), "a", nobody)
			if err != nil {
				b.Fatal(err)
			}
			release()
		}
	}

	b.Run("alone", func(b *testing.B) { one(b, New(2, 32)) })
	b.Run("shared", func(b *testing.B) {
		one(b, join(b, contract.Redis{URL: redistest.StartAs(b, stacks.ML).URL}, 1, 2, 32)[0])
	})
}

func BenchmarkHandOver(b *testing.B) {
	for name, n := range map[string]int{"within a process": 1, "to another": 2} {
		b.Run(name, func(b *testing.B) {
			queues := join(b, contract.Redis{URL: redistest.StartAs(b, stacks.ML).URL}, n, 1, 32)
			for _, q := range queues {
				running(b, q)
			}

			var took time.Duration
			for b.Loop() {
				release, err := queues[0].Acquire(b.Context(), "a", nobody)
				if err != nil {
					b.Fatal(err)
				}

				got := make(chan func())
				go func() {
					release, err := queues[n-1].Acquire(b.Context(), "b", nobody)
					if err != nil {
						b.Error(err)
					}
					got <- release
				}()

				until(b, "it waits", func() bool { return queues[n-1].Waiting() == 1 })
				time.Sleep(time.Duration(rand.IntN(int(poll))))
				start := time.Now()
				release()
				again := <-got
				took += time.Since(start)
				again()
			}

			b.ReportMetric(took.Seconds()*1000/float64(b.N), "ms/turn")
		})
	}
}
