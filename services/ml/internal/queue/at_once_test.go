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

// TestTry: a free turn is taken while it is not known yet whether the request is allowed. One that
// is refused leaves nothing, and has neither waited nor taken another's place.
func TestTry(t *testing.T) {
	queues := limited(t, 1, 3)["of two processes"]
	q, other := queues[0], queues[1]
	estimate := q.estimate(1)
	refused := errors.New("nothing is left of the day")
	release, err := q.Try("a").If(func() error {
		until(t, "the free turn is taken", func() bool { return q.Running() == 1 })
		return refused
	})
	if release != nil || !errors.Is(err, refused) || q.Running() != 0 ||
		q.estimate(1) != estimate {
		t.Errorf("refused: %v, %d run, a request takes %s", err, q.Running(), q.estimate(1))
	}

	allowed := func() error { return nil }
	release, err = q.Try("a").If(allowed)
	if release == nil || err != nil {
		t.Fatalf("there is no free turn: %v", err)
	}

	for name, ask := range map[string]func() error{
		"allowed": allowed, "refused": func() error { return refused },
	} {
		second, err := other.Try("b").If(ask)
		if second != nil || !errors.Is(err, ask()) || other.Waiting() != 0 || other.Running() != 0 {
			t.Errorf("%s beside one that runs: %v, %d wait and %d run",
				name, err, other.Waiting(), other.Running())
		}
	}

	release()
	if second, err := other.Try("b").If(allowed); second == nil || err != nil {
		t.Errorf("the turn that was given back is not free: %v", err)
	}
}

// TestTryAlone: where Redis does not decide, no turn is taken before the request is allowed.
func TestTryAlone(t *testing.T) {
	q := limited(t, 1, 3)["of one process"][0]
	try := q.Try("a")
	release, err := try.If(func() error { return nil })
	if try.Likely || release != nil || err != nil {
		t.Errorf("it has a turn: %v, %v, as was likely: %v", release != nil, err, try.Likely)
	}
}

// TestLikely: a turn is likely while this process does not have its share of them, nor the owner
// all that one may have at once, counting what is asked for. Where there was none after all, none
// is likely for a while.
func TestLikely(t *testing.T) {
	q := join(t, contract.Redis{URL: redistest.StartAs(t, stacks.ML).URL}, 1, 4, 8)[0]
	q.Limit(2)
	now := clock(q)
	likely := func(when, want string) {
		t.Helper()
		q.mu.Lock()
		defer q.mu.Unlock()
		if got := fmt.Sprint(q.free("a"), q.free("b")); got != want {
			t.Errorf("%s, for a and b: %s, want %s", when, got, want)
		}
	}

	likely("at first", "true true")
	a, err := q.enter("a")
	if err != nil {
		t.Fatal(err)
	}
	q.shared.asking[100] = "a"
	likely("with two of a's", "false true")
	q.shared.asking[101] = "c"
	likely("with three of four", "false true")
	q.shared.asking[102] = "c"
	likely("with all four", "false false")
	clear(q.shared.asking)

	q.shared.processes = 4
	likely("as one of four processes", "false false")
	q.shared.processes = 1
	likely("as the only one", "true true")

	second, err := q.enter("a")
	if err != nil {
		t.Fatal(err)
	}
	third, err := q.Try("a").If(func() error { return nil })
	if third != nil || err != nil {
		t.Errorf("the third turn of a's: %v, %v", third != nil, err)
	}

	q.leave(second)
	q.leave(a)
	likely("after one was refused", "false false")
	*now = now.Add(beat)
	likely("a beat later", "true true")
}

// TestTriesAreBounded: however many come at once, no more are likely than there are turns.
func TestTriesAreBounded(t *testing.T) {
	q := join(t, contract.Redis{URL: redistest.StartAs(t, stacks.ML).URL}, 1, 4, 100)[0]
	q.Limit(2)
	likely := 0
	for range 50 {
		if q.Try("a").Likely {
			likely++
		}
	}

	if likely > 2 {
		t.Errorf("%d are likely", likely)
	}
}
