package share

import "testing"

func TestShares(t *testing.T) {
	s := New(10)
	take := func(owner string, n int64, want bool) func() {
		t.Helper()
		release, ok := s.Take(owner, n)
		if ok != want {
			t.Errorf("%s takes %d: %t", owner, n, ok)
		}
		return release
	}

	first := take("ada", 6, true)
	take("ada", 5, false)
	second := take("ada", 4, true)
	take("ada", 1, false)
	other := take("bob", 10, true)

	first()
	take("ada", 7, false)
	third := take("ada", 6, true)
	for _, release := range []func(){second, third, other} {
		release()
	}

	if len(s.held) > 0 {
		t.Errorf("%v are held, though all was given back", s.held)
	}
}
