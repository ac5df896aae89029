package audit

import (
	"fmt"
	"testing"
	"time"
)

// TestRefusals: the same is told once in an hour, and what is remembered is bounded.
func TestRefusals(t *testing.T) {
	var r refusals
	now := time.Now()
	ada := access{action: "access", actor: "ada", why: "expired"}
	for _, tt := range []struct {
		what access
		at   time.Time
		want bool
	}{
		{ada, now, true},
		{ada, now.Add(refusalPause - time.Second), false},
		{access{"access", "ada", "key:1", "", "expired"}, now, true},
		{access{"access", "ada", "", "GET /a", "not an admin"}, now, true},
		{access{"access", "ada", "", "POST /a", "not an admin"}, now, true},
		{access{"access", "bob", "", "", "expired"}, now, true},
		{ada, now.Add(refusalPause), true},
		{ada, now.Add(refusalPause + time.Second), false},
	} {
		if got := r.first(tt.what, tt.at); got != tt.want {
			t.Errorf("%+v after %s: %t", tt.what, tt.at.Sub(now), got)
		}
	}

	for i := range 2 * maxRefusals {
		r.first(access{actor: fmt.Sprint(i)}, now)
	}
	if n := len(r.at); n > maxRefusals {
		t.Errorf("%d are remembered", n)
	}
}
