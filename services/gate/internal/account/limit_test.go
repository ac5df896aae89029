package account

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAttemptPaused checks that an attempt that one bound refuses does not count for the others.
func TestAttemptPaused(t *testing.T) {
	a, r := newAccounts(t)
	l := &limiter{a.store, a.names}
	ctx := t.Context()
	address, name := source{byAddress, "192.0.2.1"}, source{byName, "ada"}
	_, pause := l.keys(name)
	if err := r.Client(t).Set(ctx, pause, "", byName.longest).Err(); err != nil {
		t.Fatal(err)
	}

	for range byAddress.free + 5 {
		if wait, err := l.attempt(ctx, address, name); err != nil || wait == 0 {
			t.Fatalf("a name that somebody else holds paused: %s, %v", wait, err)
		}
	}

	if wait, err := l.attempt(ctx, address, source{byName, "bob"}); err != nil || wait > 0 {
		t.Errorf("another name from the address: %s, %v", wait, err)
	}
}

// TestAttemptFirst checks that what many addresses do to a name keeps no new one out, which has one
// attempt, also if it makes many at once; and that such attempts count for the name.
func TestAttemptFirst(t *testing.T) {
	a, r := newAccounts(t)
	l := &limiter{a.store, a.names}
	ctx := t.Context()
	name := source{byName, "ada"}
	count, pause := l.keys(name)
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		r.Client(t).Set(ctx, count, fmt.Sprint(byName.free+1), byName.memory)
		// Whoever waits for each turn has this one.
		if err := r.Client(t).Set(ctx, pause, "", byName.longest).Err(); err != nil {
			t.Fatal(err)
		}

		var passed atomic.Int64
		var guessers sync.WaitGroup
		for range 10 {
			guessers.Go(func() {
				wait, err := l.attempt(ctx, source{byPair, address + " ada"}, name)
				if err != nil {
					t.Error(err)
				}
				if wait == 0 {
					passed.Add(1)
				}
			})
		}

		guessers.Wait()
		if n := passed.Load(); n != 1 {
			t.Errorf("%d attempts from %s pass", n, address)
		}
	}

	r.Client(t).Set(ctx, count, fmt.Sprint(byName.free+1), byName.memory)

	if wait, err := l.attempt(ctx, source{byPair, "192.0.2.3 ada"}, name); err != nil || wait > 0 {
		t.Errorf("from a third address: %s, %v", wait, err)
	}
	if n := r.Client(t).Get(ctx, count).Val(); n != fmt.Sprint(byName.free+2) {
		t.Errorf("%s attempts at the name", n)
	}
}
