package queue

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// limited are queues with a limit: one that Redis does not decide about, and two of which it does.
func limited(t *testing.T, parallel, atOnce int) map[string][]*Queue {
	t.Helper()
	all := map[string][]*Queue{
		"of one process": {New(parallel, 100)},
		"of two processes": join(t, contract.Redis{URL: redistest.StartAs(t, stacks.ML).URL}, 2,
			parallel, 100),
	}

	for _, queues := range all {
		for _, q := range queues {
			q.Limit(atOnce)
		}
	}

	return all
}

// TestAtOnce: what an owner has waiting and running is bounded, at all processes together, and
// whoever gives a place back has one again. Others are not concerned.
func TestAtOnce(t *testing.T) {
	for name, queues := range limited(t, 1, 3) {
		t.Run(name, func(t *testing.T) {
			var mine []*waiter
			for i := range 3 { // one runs, and two wait
				w, err := queues[i%len(queues)].enter("a")
				if err != nil {
					t.Fatal(err)
				}
				mine = append(mine, w)
			}

			for _, q := range queues {
				if _, err := q.enter("a"); !errors.Is(err, ErrAtOnce) {
					t.Errorf("the fourth: %v", err)
				}
				if _, err := q.enter("b"); err != nil {
					t.Errorf("another owner's: %v", err)
				}
			}

			queues[0].leave(mine[0])
			if _, err := queues[len(queues)-1].enter("a"); err != nil {
				t.Errorf("after one has ended: %v", err)
			}
			if _, err := queues[0].enter("a"); !errors.Is(err, ErrAtOnce) {
				t.Errorf("the fourth again: %v", err)
			}
		})
	}
}

// TestAtOnceRace: however many come at once, no more are admitted than may be.
func TestAtOnceRace(t *testing.T) {
	for name, queues := range limited(t, 2, 5) {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			errs := make(chan error, 50)
			for i := range 50 {
				all.Go(func() {
					_, err := queues[i%len(queues)].enter("a")
					errs <- err
				})
			}

			all.Wait()
			close(errs)
			admitted := 0
			for err := range errs {
				if err == nil {
					admitted++
				} else if !errors.Is(err, ErrAtOnce) {
					t.Error(err)
				}
			}

			if admitted != 5 {
				t.Errorf("%d of 50 are admitted, not 5", admitted)
			}
		})
	}
}

// TestAtOnceAfterCrash: what a process had that was killed counts no longer than its lease, and
// what has come back to Redis counts again.
func TestAtOnceAfterCrash(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	queues := leased(t, contract.Redis{URL: server.URL}, brief, 2, 4, 8)
	for _, q := range queues {
		q.Limit(2)
	}

	for range 2 {
		if _, err := queues[0].enter("a"); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := queues[1].enter("a"); !errors.Is(err, ErrAtOnce) {
		t.Fatalf("the third: %v", err)
	}

	// Redis loses all, and the process hands in again what it runs.
	if err := server.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	for _, q := range queues {
		q.shared.hurry()
		q.look() // its lease is gone
		q.look()
		q.shared.since = q.shared.since.Add(-settle)
		q.look()
	}

	if _, err := queues[1].enter("a"); !errors.Is(err, ErrAtOnce) {
		t.Errorf("the third after Redis has lost all: %v", err)
	}

	running(t, queues[1]) // the other one is silent from here on
	until(t, "the lease has ended", func() bool {
		_, err := queues[1].enter("a")
		return err == nil
	})
}

// TestAtOnceLeavesNothing: what ends leaves no owner in Redis, nor does a former version's end.
func TestAtOnceLeavesNothing(t *testing.T) {
	server := redistest.StartAs(t, stacks.ML)
	q := join(t, contract.Redis{URL: server.URL}, 1, 4, 8)[0]
	q.Limit(3)
	r := server.Client(t)
	var mine []*waiter
	for range 3 {
		w, err := q.enter("a")
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, w)
	}

	q.leave(mine[0])
	if n := r.HLen(t.Context(), keys[3]).Val(); n != 2 {
		t.Errorf("%d owners after one has ended, not 2", n)
	}

	// A former version gives a turn back.
	id := fmt.Sprint(q.shared.name, ":", mine[1].id)
	if err := r.SRem(t.Context(), keys[1], id).Err(); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		if _, err := q.enter("a"); err != nil {
			t.Errorf("a place that was given back counts: %v", err)
		}
	}

	if n := r.HLen(t.Context(), keys[3]).Val(); n != 3 {
		t.Errorf("%d owners, not 3", n)
	}
	if left := r.PTTL(t.Context(), keys[3]).Val(); left <= 0 || left > 10*await {
		t.Errorf("the owners stay for %s", left)
	}
}

// TestAcquireIf: a free turn is taken while it is not known yet whether the request is allowed. One
// that is refused leaves nothing, and has neither waited nor taken another's place.
func TestAcquireIf(t *testing.T) {
	refused := errors.New("nothing is left of the day")
	for name, queues := range limited(t, 1, 3) {
		t.Run(name, func(t *testing.T) {
			q := queues[0]
			estimate := q.estimate(1)
			ask := func(owner string, allowed func() error) (func(), error) {
				return q.AcquireIf(t.Context(), owner, allowed, nobody)
			}

			_, err := ask("a", func() error {
				if len(queues) > 1 {
					until(t, "the free turn is taken", func() bool { return q.Running() == 1 })
				}
				return refused
			})
			if !errors.Is(err, refused) || q.Running() != 0 || q.estimate(1) != estimate {
				t.Errorf("refused: %v, %d run, a request takes %s", err, q.Running(), q.estimate(1))
			}

			release, err := ask("a", func() error { return nil })
			if err != nil {
				t.Fatal(err)
			}

			if _, err := ask("b", func() error { return refused }); !errors.Is(err, refused) {
				t.Errorf("refused beside one that runs: %v", err)
			}
			if q.Waiting() != 0 || q.Running() != 1 {
				t.Errorf("%d wait and %d run", q.Waiting(), q.Running())
			}

			release()
			if _, err := queues[len(queues)-1].enter("b"); err != nil {
				t.Fatal(err)
			}
			if n := queues[len(queues)-1].Running(); n != 1 {
				t.Errorf("the turn that was given back went to %d", n)
			}
		})
	}
}

// TestAcquireIfWaits: an allowed request without a free turn waits as any other, and is refused
// as any other.
func TestAcquireIfWaits(t *testing.T) {
	for name, queues := range limited(t, 1, 2) {
		t.Run(name, func(t *testing.T) {
			q := queues[0]
			running(t, q)
			first, err := q.enter("a")
			if err != nil {
				t.Fatal(err)
			}

			got := make(chan error, 1)
			places := make(chan int, 8)
			allowed := func() error { return nil }
			go func() {
				_, err := q.AcquireIf(t.Context(), "a", allowed, func(place int) error {
					places <- place
					return nil
				})
				got <- err
			}()
			if place := <-places; place != 1 {
				t.Errorf("it waits at %d", place)
			}

			_, err = q.AcquireIf(t.Context(), "a", allowed, nobody)
			if !errors.Is(err, ErrAtOnce) {
				t.Errorf("the third: %v", err)
			}

			q.leave(first)
			if err := <-got; err != nil {
				t.Error(err)
			}
		})
	}
}
