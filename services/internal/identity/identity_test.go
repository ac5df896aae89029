package identity_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// keys is what is published.
type keys struct {
	mu     sync.Mutex
	values map[string]string
	asked  int
	err    error
}

func (k *keys) set(_ context.Context, key, value string, _ time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.values == nil {
		k.values = map[string]string{}
	}
	k.values[key] = value
	return k.err
}

func (k *keys) get(_ context.Context, key string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.values[key], k.err
}

func (k *keys) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func published(t *testing.T, k *keys, service string) *identity.Signer {
	t.Helper()
	s := identity.NewSigner(service)
	if err := s.Publish(t.Context(), k.set); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerify(t *testing.T) {
	var k keys
	gate, second := published(t, &k, identity.Gate), published(t, &k, identity.Gate)
	v := identity.NewVerifier(identity.ML, k.get, identity.Gate, identity.Backend)
	want := identity.Person{ID: "ID", Name: "Ada", Admin: true, Groups: []string{"a", "b"},
		Address: "192.0.2.7", By: "carol"}
	for _, s := range []*identity.Signer{gate, second, published(t, &k, identity.Backend)} {
		got, _, err := v.Verify(t.Context(), s.Sign(want, identity.ML))
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the person differs (-want +got):\n%s", d)
		}
	}

	if p, ok := identity.Peek(identity.Authorization(gate.Sign(want, "x"))); !ok || p.Name != "Ada" {
		t.Errorf("Peek: %+v, %v", p, ok)
	}
	if _, ok := identity.Peek("Basic x"); ok {
		t.Error("Peek takes what is no token")
	}
}

// TestRefused goes through tokens that are signed with the right key and are wrong otherwise.
func TestRefused(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}

	id := strings.Repeat("a", 32)
	k := keys{values: map[string]string{
		"identity:gate:" + id: base64.StdEncoding.EncodeToString(public),
	}}
	v := identity.NewVerifier(identity.ML, k.get, identity.Gate)
	now := time.Now()
	at := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(now.Add(d)) }
	right := func() (jwt.RegisteredClaims, map[string]any) {
		return jwt.RegisteredClaims{Issuer: identity.Gate, Subject: "ID", IssuedAt: at(0),
			Audience: jwt.ClaimStrings{identity.ML}, ExpiresAt: at(time.Minute),
		}, map[string]any{"kid": id}
	}

	for name, tc := range map[string]struct {
		change func(*jwt.RegisteredClaims, map[string]any)
		ok     bool
	}{
		"right":   {func(*jwt.RegisteredClaims, map[string]any) {}, true},
		"skew":    {func(c *jwt.RegisteredClaims, _ map[string]any) { c.ExpiresAt = at(-20 * time.Second) }, true},
		"ahead":   {func(c *jwt.RegisteredClaims, _ map[string]any) { c.IssuedAt = at(20 * time.Second) }, true},
		"expired": {func(c *jwt.RegisteredClaims, _ map[string]any) { c.ExpiresAt = at(-40 * time.Second) }, false},
		"endless": {func(c *jwt.RegisteredClaims, _ map[string]any) { c.ExpiresAt = nil }, false},
		"future":  {func(c *jwt.RegisteredClaims, _ map[string]any) { c.IssuedAt = at(time.Minute) }, false},
		"nobody's": {func(c *jwt.RegisteredClaims, _ map[string]any) {
			c.Audience = nil
		}, false},
		"frontend": {func(c *jwt.RegisteredClaims, _ map[string]any) { c.Issuer = "frontend" }, false},
		"no kid":   {func(_ *jwt.RegisteredClaims, h map[string]any) { delete(h, "kid") }, false},
		"kid of another kind": {func(_ *jwt.RegisteredClaims, h map[string]any) {
			h["kid"] = strings.Repeat("a", 31) + ":"
		}, false},
		"kid unknown": {func(_ *jwt.RegisteredClaims, h map[string]any) {
			h["kid"] = strings.Repeat("b", 32)
		}, false},
	} {
		claims, header := right()
		tc.change(&claims, header)
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
		for name, value := range header {
			token.Header[name] = value
		}

		signed, err := token.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}

		_, _, err = v.Verify(t.Context(), signed)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOutage checks that keys that are known stay good while Redis is away, and that others cannot be
// checked then.
func TestOutage(t *testing.T) {
	var k keys
	known, unknown := published(t, &k, identity.Gate), published(t, &k, identity.Gate)
	v := identity.NewVerifier(identity.ML, k.get, identity.Gate)
	p := identity.Person{ID: "ID"}
	for range 3 {
		if _, _, err := v.Verify(t.Context(), known.Sign(p, identity.ML)); err != nil {
			t.Fatal(err)
		}
	}
	if k.asked != 1 {
		t.Errorf("Redis was asked %d times for one key", k.asked)
	}

	k.fail(errors.New("away"))
	other := identity.Person{ID: "OTHER"} // of whom no token was verified yet
	if _, _, err := v.Verify(t.Context(), known.Sign(other, identity.ML)); err != nil {
		t.Errorf("a known key: %v", err)
	}
	if _, _, err := v.Verify(t.Context(), unknown.Sign(p, identity.ML)); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("an unknown key: %v", err)
	}

	k.fail(nil)
	if _, _, err := v.Verify(t.Context(), unknown.Sign(p, identity.ML)); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}
