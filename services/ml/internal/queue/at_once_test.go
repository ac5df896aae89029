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

// TestTakeIf: a free turn is taken while it is not known yet whether the request is allowed. One
// that is refused leaves nothing, and has neither waited nor taken another's place.
func TestTakeIf(t *testing.T) {
	queues := limited(t, 1, 3)["of two processes"]
	q, other := queues[0], queues[1]
	estimate := q.estimate(1)
	refused := errors.New("nothing is left of the day")
	release, err := q.TakeIf("a", func() error {
		until(t, "the free turn is taken", func() bool { return q.Running() == 1 })
		return refused
	})
	if release != nil || !errors.Is(err, refused) || q.Running() != 0 ||
		q.estimate(1) != estimate {
		t.Errorf("refused: %v, %d run, a request takes %s", err, q.Running(), q.estimate(1))
	}

	allowed := func() error { return nil }
	release, err = q.TakeIf("a", allowed)
	if release == nil || err != nil {
		t.Fatalf("there is no free turn: %v", err)
	}

	for name, ask := range map[string]func() error{
		"allowed": allowed, "refused": func() error { return refused },
	} {
		second, err := other.TakeIf("b", ask)
		if second != nil || !errors.Is(err, ask()) || other.Waiting() != 0 || other.Running() != 0 {
			t.Errorf("%s beside one that runs: %v, %d wait and %d run",
				name, err, other.Waiting(), other.Running())
		}
	}

	release()
	if second, err := other.TakeIf("b", allowed); second == nil || err != nil {
		t.Errorf("the turn that was given back is not free: %v", err)
	}
}

// TestTakeIfAlone: where Redis does not decide, no turn is taken before the request is allowed.
func TestTakeIfAlone(t *testing.T) {
	q := limited(t, 1, 3)["of one process"][0]
	release, err := q.TakeIf("a", func() error { return nil })
	if release != nil || err != nil || q.Free("a") {
		t.Errorf("it has a turn: %v, %v, and one is free: %v", release != nil, err, q.Free("a"))
	}
}

// TestFree: a turn is taken to be free where this process has not its part of the turns, and the
// owner may have one more.
func TestFree(t *testing.T) {
	q := join(t, contract.Redis{URL: redistest.StartAs(t, stacks.ML).URL}, 1, 2, 8)[0]
	q.Limit(1)
	free := func(want string) {
		t.Helper()
		if got := fmt.Sprint(q.Free("a"), q.Free("b")); got != want {
			t.Errorf("for a and b: %s, want %s", got, want)
		}
	}

	free("true true")
	a, err := q.enter("a")
	if err != nil {
		t.Fatal(err)
	}

	free("false true")
	q.shared.processes = 2
	free("false false")

	q.leave(a)
	free("true true")
	q.Close()
	free("false false")
}
