package account

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemory checks that however many people sign in at once, only a few hashes take their memory.
func TestMemory(t *testing.T) {
	h := newHasher()
	var people sync.WaitGroup
	for range 30 {
		people.Go(func() {
			if _, err := h.matches(t.Context(), nil, "whatever"); err != nil &&
				!errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		})
	}

	done := make(chan struct{})
	go func() { people.Wait(); close(done) }()
	most := uint64(0)
	for {
		select {
		case <-done:
			t.Logf("%d MiB at most", most>>20)
			if most > 160<<20 { // thirty at once take 570 MiB
				t.Errorf("%d MiB", most>>20)
			}
			return
		case <-time.After(5 * time.Millisecond):
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
		}
	}
}

// TestBusy checks that nobody waits for ever for a turn.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hasher{slots: make(chan struct{}, atOnce)}
		for range atOnce {
			if _, err := h.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}

		begin := time.Now()
		if _, err := h.enter(t.Context()); !errors.Is(err, ErrBusy) ||
			time.Since(begin) != longestWait {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestPause(t *testing.T) {
	for n, want := range map[int64]time.Duration{
		1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 9: 512 * time.Second,
		10: 15 * time.Minute, 70: 15 * time.Minute, 1e9: 15 * time.Minute,
	} {
		if got := byPair.pause(n); got != want {
			t.Errorf("after %d too many: %s, want %s", n, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for password, good := range map[string]bool{
		"elevenchars":                  false,
		"twelve chars":                 true,
		strings.Repeat("é", 12):        true,
		strings.Repeat("é", 128):       true,
		strings.Repeat("é", 129):       false,
		"ada.lovelace":                 false,
		"ADA.Lovelace":                 false,
		"Correct Horse Battery Staple": false,
	} {
		if err := check("ada.lovelace", password); (err == nil) != good {
			t.Errorf("%q: %v", password, err)
		}
	}

	for _, password := range common {
		if len(password) < shortest || password != strings.ToLower(password) {
			t.Errorf("%q is in the list in vain", password)
		}
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "::ffff:192.0.2.1",
		"2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64", "?": "?",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
