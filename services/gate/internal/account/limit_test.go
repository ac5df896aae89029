package account

import "testing"

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
