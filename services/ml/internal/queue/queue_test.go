package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func nobody(int) error { return nil }

// asked is one request of a test: who asked, what it was told, how it ended.
type asked struct {
	name    string
	cancel  context.CancelCauseFunc
	places  []int
	release func()
	err     error
	ended   bool
}

// bench is a queue under synctest: after each step every request has come as far as it can.
type bench struct {
	q        *Queue
	admitted []string // in order
}

// ask makes the request of an owner; the owner is the name's first letter.
func (b *bench) ask(t *testing.T, name string) *asked {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	a := &asked{name: name, cancel: cancel}
	go func() {
		a.release, a.err = b.q.Acquire(ctx, name[:1], func(n int) error {
			a.places = append(a.places, n)
			return nil
		})

		a.ended = true
		if a.err == nil {
			b.admitted = append(b.admitted, name)
		}
	}()

	synctest.Wait()
	return a
}

func TestAdmitsInTurnOfOwners(t *testing.T) {
	for name, tc := range map[string]struct{ come, want []string }{
		"first come first served":   {[]string{"a1", "b1", "c1"}, []string{"a1", "b1", "c1"}},
		"one owner keeps its order": {[]string{"a1", "a2", "a3"}, []string{"a1", "a2", "a3"}},
		"many of one, then another": {[]string{"a1", "a2", "a3", "b1"}, []string{"a1", "b1", "a2", "a3"}},
		"both have many": {[]string{"a1", "a2", "a3", "b1", "b2", "b3"},
			[]string{"a1", "b1", "a2", "b2", "a3", "b3"}},
		"a third comes between": {[]string{"a1", "a2", "b1", "b2", "c1"}, []string{"a1", "b1", "c1", "a2", "b2"}},
		"turns go round, not by size": {[]string{"b1", "a1", "a2", "a3", "b2", "c1", "c2"},
			[]string{"b1", "a1", "c1", "b2", "a2", "c2", "a3"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bench{q: New(1, 10)}
				hold := b.ask(t, "x1")
				var all []*asked
				for _, n := range tc.come {
					all = append(all, b.ask(t, n))
				}

				b.admitted = nil
				hold.release()
				for range tc.come {
					synctest.Wait()
					last := b.admitted[len(b.admitted)-1]
					all[slices.IndexFunc(all, func(a *asked) bool {
						return a.name == last
					})].release()
				}

				synctest.Wait()
				// The turn passes on: an owner's second request joins the round's end when
				// its first is admitted.
				if d := cmp.Diff(tc.want, b.admitted); d != "" {
					t.Error(d)
				}
				if b.q.Running() != 0 || b.q.Waiting() != 0 {
					t.Errorf("%d run and %d wait in the end", b.q.Running(), b.q.Waiting())
				}
			})
		})
	}
}

func TestTellsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{q: New(1, 10)}
		hold := b.ask(t, "x1")
		a1, a2, a3 := b.ask(t, "a1"), b.ask(t, "a2"), b.ask(t, "a3")
		b1 := b.ask(t, "b1") // passes a2 and a3
		a2.cancel(nil)
		synctest.Wait()
		hold.release()
		synctest.Wait()
		if len(hold.places) != 0 {
			t.Errorf("a request with a turn at once was told %v", hold.places)
		}

		for _, tc := range []struct {
			a    *asked
			want []int
		}{{a1, []int{1}}, {a2, []int{2, 3}}, {a3, []int{3, 4, 3, 2}}, {b1, []int{2, 1}}} {
			if d := cmp.Diff(tc.want, tc.a.places); d != "" {
				t.Errorf("%s: %s", tc.a.name, d)
			}
		}

		if !a1.ended || a1.err != nil || b1.ended {
			t.Errorf("a1 %+v, b1 %+v", a1, b1)
		}

		a1.release()
	})
}

// TestLeavingMovesTheRestUp: whoever waits behind an own request that left must not stay
// behind everyone who comes.
func TestLeavingMovesTheRestUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{q: New(1, 10)}
		hold := b.ask(t, "x1")
		a1, a2, a3 := b.ask(t, "a1"), b.ask(t, "a2"), b.ask(t, "a3")
		a1.cancel(nil)
		a2.cancel(nil)
		synctest.Wait()
		b.ask(t, "b1")
		b.ask(t, "c1")
		hold.release()
		synctest.Wait()
		if !a3.ended || a3.err != nil {
			t.Errorf("a3 was first in the queue and got %+v; admitted %v", a3, b.admitted)
		}
	})
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{q: New(2, 1)}
		first, second := b.ask(t, "a1"), b.ask(t, "a2")
		time.Sleep(10 * time.Second) // what the first two take: a fake clock
		b.ask(t, "b1")
		late := b.ask(t, "c1")
		var full *FullError
		if !errors.As(late.err, &full) || full.Position != 2 || full.RetryAfter != 5*time.Second {
			t.Fatalf("got %v: %+v", late.err, full)
		}

		first.release()
		second.release()
		first.release() // does nothing more
		synctest.Wait()
		if n := b.q.Running(); n != 1 {
			t.Errorf("%d run", n)
		}
		if b.ask(t, "c2").err != nil || b.ask(t, "c3").ended {
			t.Error("no place was free after two were done")
		}

		late = b.ask(t, "c4")
		if !errors.As(late.err, &full) ||
			full.RetryAfter != 7*time.Second { // (5*4+10)/5 = 6, (6*4+10)/5 = 6.8
			t.Errorf("got %+v", full)
		}
	})
}

// TestFullOfOneOwner: who takes every place keeps nobody out, and is not better off than the others
// for asking more.
func TestFullOfOneOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{q: New(2, 4)}
		refused := func(a *asked) bool {
			synctest.Wait()
			var full *FullError
			return errors.As(a.err, &full) && full.Position == 5 && full.RetryAfter > 0
		}

		var a []*asked
		for i := range 6 { // two run, four wait
			a = append(a, b.ask(t, fmt.Sprint("a", i)))
		}

		if late := b.ask(t, "a6"); !refused(late) {
			t.Errorf("a seventh of the same owner: %+v", late)
		}

		b0 := b.ask(t, "b0")
		if b0.ended || !refused(a[5]) || a[4].ended {
			t.Errorf("b0 %+v; the last of a: %+v; the one before: %+v", b0, a[5], a[4])
		}

		c0 := b.ask(t, "c0")
		if c0.ended || !refused(a[4]) || a[3].ended {
			t.Errorf("c0 %+v; the last of a: %+v; the one before: %+v", c0, a[4], a[3])
		}

		// Now a has two of the four: another one more would only turn the tables.
		if late := b.ask(t, "b1"); !refused(late) || a[3].ended {
			t.Errorf("a second of b: %+v; the last of a: %+v", late, a[3])
		}

		d0 := b.ask(t, "d0")
		if d0.ended || !refused(a[3]) || a[2].ended {
			t.Errorf("d0 %+v; the last of a: %+v; the one before: %+v", d0, a[3], a[2])
		}
		if late := b.ask(t, "e0"); !refused(late) {
			t.Errorf("a fifth owner where four wait: %+v", late)
		}
		if n := b.q.Waiting(); n != 4 {
			t.Errorf("%d wait", n)
		}

		b.admitted = nil
		for _, x := range []*asked{a[0], a[1], a[2], b0, c0, d0} {
			synctest.Wait()
			if x.release == nil {
				t.Fatalf("%s has no turn", x.name)
			}
			x.release()
		}

		synctest.Wait()
		if d := cmp.Diff([]string{"a2", "b0", "c0", "d0"}, b.admitted); d != "" ||
			b.q.Running() != 0 {
			t.Errorf("%d run; %s", b.q.Running(), d)
		}
	})
}

// TestDisplacedWhileItLeaves: one that is refused in the moment in which it gives up takes no turn
// with it.
func TestDisplacedWhileItLeaves(t *testing.T) {
	for range 200 {
		q := New(1, 2)
		release, err := q.Acquire(t.Context(), "x", nobody)
		if err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if r, err := q.Acquire(ctx, "a", nobody); err == nil {
					r()
				}
			})
		}

		for q.Waiting() < 2 {
			runtime.Gosched()
		}

		wg.Go(cancel)
		wg.Go(func() {
			if r, err := q.Acquire(t.Context(), "b", nobody); err == nil {
				r()
			} else {
				t.Errorf("b: %v", err)
			}
		})

		wg.Go(release)
		wg.Wait()
		if q.Running() != 0 || q.Waiting() != 0 {
			t.Fatalf("%d run, %d wait", q.Running(), q.Waiting())
		}
	}
}

func TestEstimate(t *testing.T) {
	for _, tc := range []struct {
		parallel, place int
		took, want      time.Duration
	}{
		{1, 1, 4 * time.Second, 4 * time.Second},
		{1, 3, 4 * time.Second, 12 * time.Second},
		{2, 3, 4 * time.Second, 8 * time.Second},
		{4, 4, 4 * time.Second, 4 * time.Second},
		{4, 5, 4 * time.Second, 8 * time.Second},
		{1, 1, time.Millisecond, time.Second},
		{1, 1, 2600 * time.Millisecond, 3 * time.Second},
	} {
		q := New(tc.parallel, 1)
		q.took = tc.took
		if got := q.estimate(tc.place); got != tc.want {
			t.Errorf("%+v: got %s", tc, got)
		}
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{q: New(1, 10)}
		running, waiting := b.ask(t, "a1"), b.ask(t, "b1")
		b.q.Close()
		synctest.Wait()
		if !errors.Is(waiting.err, ErrDraining) {
			t.Errorf("the one that waited got %v", waiting.err)
		}
		if late := b.ask(t, "c1"); !errors.Is(late.err, ErrDraining) {
			t.Errorf("a later one got %v", late.err)
		}

		b.q.Close()
		if b.q.Running() != 1 {
			t.Error("the running one lost its turn")
		}

		running.release()
		if b.q.Running() != 0 {
			t.Error("a turn stayed taken")
		}
	})
}

func TestErrorOfThePlaceAndOfTheContext(t *testing.T) {
	q := New(1, 10)
	release, err := q.Acquire(t.Context(), "a", nobody)
	if err != nil {
		t.Fatal(err)
	}

	broken := errors.New("the reader is gone")
	if _, err := q.Acquire(t.Context(), "b", func(int) error {
		return broken
	}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := q.Acquire(ctx, "b", func(int) error {
		cancel(broken)
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}

	if q.Waiting() != 0 {
		t.Error("somebody still waits")
	}

	release()
	if q.Running() != 0 {
		t.Error("somebody still runs")
	}
}

// TestLeaveRacesWithAdmission: however giving up and getting a turn meet, no turn is lost
// and none is given twice.
func TestLeaveRacesWithAdmission(t *testing.T) {
	const parallel = 3
	q := New(parallel, 1000)
	var running, most, admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 300 {
				ctx, cancel := context.WithTimeout(t.Context(),
					time.Duration(r.IntN(400))*time.Microsecond)
				release, err := q.Acquire(ctx, fmt.Sprint(i%5), nobody)
				if err == nil {
					n := running.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}

					admitted.Add(1)
					for range r.IntN(3) {
						q.Running() // lets others in between
					}

					running.Add(-1)
					release()
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}

				cancel()
			}
		})
	}

	all.Wait()
	if q.Running() != 0 || q.Waiting() != 0 || most.Load() > parallel {
		t.Errorf("%d run, %d wait, %d ran at once", q.Running(), q.Waiting(), most.Load())
	}
	if admitted.Load() < 100 {
		t.Errorf("only %d were admitted: this tested nothing", admitted.Load())
	}

	for range parallel { // every turn can be had
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := q.Acquire(ctx, "z", nobody); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFairness: while an owner waits, no other owner is admitted more than once before it,
// whatever comes and goes.
func TestFairness(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		q := New(1, 1000)
		if w, err := q.enter("x"); err != nil || len(w.outcome) != 1 {
			t.Fatal(w, err)
		}

		// who waits -> who was admitted meanwhile -> how often
		passed := map[string]map[string]int{}
		var trace []string
		for range 200 {
			switch k := r.IntN(10); {
			case k < 5:
				owner := string(rune('a' + min(r.IntN(8), r.IntN(8))))
				trace = append(trace, "+"+owner)
				if _, err := q.enter(owner); err != nil {
					t.Fatal(err)
				}
				if passed[owner] == nil {
					passed[owner] = map[string]int{}
				}
			case k < 7 && len(q.waiting) > 0:
				w := q.waiting[r.IntN(len(q.waiting))]
				trace = append(trace, "-"+w.owner)
				q.leave(w)
			case len(q.waiting) > 0:
				owner := q.waiting[0].owner
				trace = append(trace, "!"+owner)
				q.mu.Lock()
				q.next()
				q.mu.Unlock()
				for waiting, others := range passed {
					others[owner]++
					if waiting != owner && others[owner] > 1 {
						t.Fatalf("seed %d: %s was admitted %d times while %s waited: %v", seed,
							owner, others[owner], waiting, trace)
					}
				}

				passed[owner] = map[string]int{} // its next request waits from here on
			}

			count := map[string]int{}
			for i, w := range q.waiting {
				if w.round != count[w.owner] || w.position != i+1 ||
					i > 0 && q.waiting[i-1].round > w.round {
					t.Fatalf("seed %d: %s is at %d in round %d: %v",
						seed, w.owner, w.position, w.round, trace)
				}
				count[w.owner]++
			}

			for owner := range passed {
				if count[owner] == 0 {
					delete(passed, owner)
				}
			}
		}
	}
}

// TestResize lets those that wait have the turns that came, and takes turns away as they end.
func TestResize(t *testing.T) {
	q := New(1, 5)
	first, err := q.Acquire(t.Context(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}

	got := make(chan func(), 2)
	for range 2 {
		go func() {
			release, err := q.Acquire(t.Context(), "b", func(int) error { return nil })
			if err != nil {
				t.Error(err)
			}
			got <- release
		}()
	}

	for q.Waiting() < 2 {
		runtime.Gosched()
	}

	q.Resize(3)
	second, third := <-got, <-got
	if q.Running() != 3 || q.Waiting() != 0 {
		t.Errorf("%d run and %d wait, want 3 and 0", q.Running(), q.Waiting())
	}

	q.Resize(1)
	first()
	second()
	w, err := q.enter("c")
	if err != nil || len(w.outcome) != 0 {
		t.Errorf("a second request got the only turn: %v", err)
	}

	third()
	if q.Running() != 1 || q.Waiting() != 0 {
		t.Errorf("%d run and %d wait, want 1 and 0", q.Running(), q.Waiting())
	}
}
