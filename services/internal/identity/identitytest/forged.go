package identitytest

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

// Forged returns tokens with which the audience must take no request of the person, by
// what is wrong with them. Where nothing is said of the key, it is one of the gate's,
// published in the Redis.
func Forged(t testing.TB, at contract.Redis, person, audience string) map[string]string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}

	f := forger{t, strings.Repeat("ab", 16)}
	f.publish(at, public)
	now := time.Now()
	after := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(now.Add(d)) }
	right := jwt.RegisteredClaims{
		Issuer: identity.Gate, Subject: person, Audience: jwt.ClaimStrings{audience},
		IssuedAt: after(0), ExpiresAt: after(identity.Life),
	}

	with := func(change func(*jwt.RegisteredClaims)) string {
		claims := right
		change(&claims)
		return f.sign(jwt.SigningMethodEdDSA, private, claims)
	}

	token := with(func(*jwt.RegisteredClaims) {})
	f.taken(at, token, audience)
	parts := strings.Split(token, ".")
	other := strings.Split(with(func(c *jwt.RegisteredClaims) { c.Subject = "SOMEBODY" }), ".")
	unsigned := f.sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, right)
	_, unknown, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}

	return map[string]string{
		"none":        "",
		"not a token": person,
		"expired": with(func(c *jwt.RegisteredClaims) {
			c.IssuedAt, c.ExpiresAt = after(-time.Hour), after(-identity.Skew-10*time.Second)
		}),
		"endless": with(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }),
		"of the future": with(func(c *jwt.RegisteredClaims) {
			c.IssuedAt, c.ExpiresAt = after(time.Hour), after(2*time.Hour)
		}),
		"for another service": with(func(c *jwt.RegisteredClaims) {
			c.Audience = jwt.ClaimStrings{"frontend"}
		}),
		"for nobody":                with(func(c *jwt.RegisteredClaims) { c.Audience = nil }),
		"by another service":        with(func(c *jwt.RegisteredClaims) { c.Issuer = "frontend" }),
		"by another key":            f.sign(jwt.SigningMethodEdDSA, unknown, right),
		"without a signature":       parts[0] + "." + parts[1] + ".",
		"the signature of another":  parts[0] + "." + parts[1] + "." + other[2],
		"alg none":                  unsigned,
		"alg none, signed":          unsigned + parts[2],
		"alg HS256 by a public key": f.sign(jwt.SigningMethodHS256, []byte(public), right),
		"two tokens":                token + " " + token,
	}
}

// forger signs in the name of a key with the id.
type forger struct {
	t  testing.TB
	id string
}

// client returns a client of the Redis.
func (f *forger) client(at contract.Redis) redis.UniversalClient {
	f.t.Helper()
	o, err := redisclient.Address(at).Options()
	if err != nil {
		f.t.Fatal(err)
	}

	client := redis.NewUniversalClient(o)
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// taken checks that a token is good, so that those made of it are refused for what was changed.
func (f *forger) taken(at contract.Redis, token, audience string) {
	f.t.Helper()
	client := f.client(at)
	get := func(ctx context.Context, key string) (string, error) {
		return client.Get(ctx, key).Result()
	}
	v := identity.NewVerifier(audience, get, identity.Gate)
	if _, _, err := v.Verify(f.t.Context(), token); err != nil {
		f.t.Fatalf("the right token: %v", err)
	}
}

func (f *forger) publish(at contract.Redis, public ed25519.PublicKey) {
	f.t.Helper()
	client := f.client(at)
	if err := redisclient.Publish(f.t.Context(), client, "identity:"+identity.Gate+":"+f.id,
		base64.StdEncoding.EncodeToString(public), time.Hour); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forger) sign(method jwt.SigningMethod, key any, claims jwt.RegisteredClaims) string {
	f.t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = f.id
	signed, err := token.SignedString(key)
	if err != nil {
		f.t.Fatal(err)
	}

	return signed
}
