package identity

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestTokenAgain checks that a token is handed out again for the same person and service alone, and
// for some seconds alone, and that one which was verified is refused when it has expired.
func TestTokenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ada := NewSigner(Gate), Person{ID: "ADA", Groups: []string{"staff"}}
		stored := map[string]string{}
		err := s.Publish(t.Context(),
			func(_ context.Context, key, value string, _ time.Duration) error {
				stored[key] = value
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}

		v := NewVerifier(ML, func(_ context.Context, key string) (string, error) {
			return stored[key], nil
		}, Gate)

		token := s.Sign(ada, ML)
		time.Sleep(again - time.Second)
		if s.Sign(ada, ML) != token {
			t.Error("another token within seconds")
		}

		for what, other := range map[string]string{
			"service": s.Sign(ada, Backend),
			"person":  s.Sign(Person{ID: "BOB", Groups: []string{"staff"}}, ML),
			"group":   s.Sign(Person{ID: "ADA", Groups: []string{"guests"}}, ML),
			"address": s.Sign(Person{ID: "ADA", Groups: []string{"staff"}, Address: "::1"}, ML),
		} {
			if other == token {
				t.Errorf("the same token for another %s", what)
			}
		}

		time.Sleep(2 * time.Second)
		if s.Sign(ada, ML) == token {
			t.Error("a token is handed out for longer")
		}

		for range 2 {
			p, signer, err := v.Verify(t.Context(), token)
			if err != nil || p.ID != "ADA" || signer != Gate || p.Groups[0] != "staff" {
				t.Fatalf("%+v by %q: %v", p, signer, err)
			}
			p.Groups[0] = "admins" // a caller's own
		}

		time.Sleep(Life + Skew)
		if _, _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrInvalid) {
			t.Errorf("an expired token that was verified: %v", err)
		}
	})
}

// TestMemoryIsBounded checks that nobody can have a memory grow.
func TestMemoryIsBounded(t *testing.T) {
	var m memory[int]
	for i := range 3 * maxKept {
		m.put(strconv.Itoa(i), i, time.Now().Add(time.Minute))
	}
	if n := len(m.values); n > maxKept {
		t.Errorf("%d values are kept", n)
	}
}
