package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/golang-jwt/jwt/v5"
)

var (
	// ErrInvalid reports that a token is missing, or not one that counts here.
	ErrInvalid = errors.New("not a valid token")

	// ErrUnavailable reports that a token cannot be checked now: its key is not known, and Redis
	// does not answer.
	ErrUnavailable = errors.New("the token cannot be checked")
)

// Get returns the value of a key of Redis, "" if there is none.
type Get func(ctx context.Context, key string) (string, error)

const (
	// askAgain is how long a key is taken as known, and absent how long an id as one without a key.
	askAgain = 5 * time.Minute
	absent   = time.Second

	// maxKeys bounds the keys that a verifier remembers. A stack has a few.
	maxKeys = 1000

	// lookupTimeout bounds the question for a key.
	lookupTimeout = 3 * time.Second
)

// Verifier checks tokens.
type Verifier struct {
	audience string
	signers  []string
	get      Get
	parser   *jwt.Parser

	mu   sync.Mutex
	keys map[string]published // by their names in Redis

	// good are the tokens that were verified, until they expire.
	good memory[claims]
}

// published is what Redis said of a key.
type published struct {
	key   ed25519.PublicKey // nil if there is none
	until time.Time
}

// NewVerifier returns a verifier of tokens that one of the signers made for the audience. It
// asks get for their keys.
func NewVerifier(audience string, get Get, signers ...string) *Verifier {
	return &Verifier{
		audience: audience,
		signers:  signers,
		get:      get,
		keys:     make(map[string]published),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithAudience(audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(Skew),
			jwt.WithStrictDecoding()),
	}
}

// Verify returns the person for whom the token was made, and the service that made it. The error is
// an ErrInvalid or an ErrUnavailable.
func (v *Verifier) Verify(ctx context.Context, token string) (p Person, signer string, err error) {
	if c, ok := v.good.get(token); ok {
		return c.person(), c.Issuer, nil
	}

	var c claims
	_, err = v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		if !slices.Contains(v.signers, c.Issuer) || !validID(id) {
			return nil, ErrInvalid
		}

		return v.key(ctx, name(c.Issuer, id))
	})

	switch {
	case errors.Is(err, ErrUnavailable):
		return Person{}, "", err
	case err != nil:
		return Person{}, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	v.good.put(token, c, c.ExpiresAt.Add(Skew))
	return c.person(), c.Issuer, nil
}

// key returns the public key with the name. One that is known stays good while Redis is away.
func (v *Verifier) key(ctx context.Context, name string) (ed25519.PublicKey, error) {
	v.mu.Lock()
	k, ok := v.keys[name]
	v.mu.Unlock()
	if !ok || time.Now().After(k.until) {
		var err error
		if k, err = v.ask(ctx, name, k); err != nil {
			return nil, err
		}
	}

	if k.key == nil {
		return nil, ErrInvalid
	}

	return k.key, nil
}

// ask asks Redis for a key, of which old is what it said before.
func (v *Verifier) ask(ctx context.Context, name string, old published) (published, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	value, err := v.get(ctx, name)
	k := published{until: time.Now().Add(absent)}
	switch {
	case (err != nil || value == "") && old.key != nil:
		// Redis is away, or has lost what it knew: the key's owner publishes it again.
		k.key = old.key
	case err != nil:
		return k, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case value != "":
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return k, fmt.Errorf("%w: %s is no key", ErrUnavailable, name)
		}

		k = published{key: raw, until: time.Now().Add(askAgain)}
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.keys) >= maxKeys {
		clear(v.keys)
	}

	v.keys[name] = k
	return k, nil
}

// Require returns a handler that lets through requests with a valid token alone, with the person in
// the header wire.OwnerHeader in the place of what was sent there.
func (v *Verifier) Require(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, signer, err := v.Verify(r.Context(), bearer(r.Header.Get("Authorization")))
		switch {
		case errors.Is(err, ErrUnavailable):
			log.WarnContext(r.Context(), "identity", "error", err)
			refusal := problem.New(http.StatusServiceUnavailable,
				"Who asks cannot be checked at the moment. Try again in a few seconds.")
			refusal.RetryAfter = 2
			problem.Write(w, r, refusal)
			return
		case err != nil:
			log.WarnContext(r.Context(), "identity", "error", err)
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem.Write(w, r, problem.New(http.StatusUnauthorized,
				"This service takes requests through the stack's edge only."))
			return
		}

		r = r.Clone(context.WithValue(NewContext(r.Context(), p), signerKey{}, signer))
		r.Header.Del("Authorization")
		r.Header.Del(wire.OwnerHeader)
		if p.ID != "" {
			r.Header.Set(wire.OwnerHeader, p.ID)
		}

		next.ServeHTTP(w, r)
	})
}

type personKey struct{}

type signerKey struct{}

// SignedBy returns the service that made the token of the request which Require let through.
func SignedBy(ctx context.Context) string {
	signer, _ := ctx.Value(signerKey{}).(string)
	return signer
}

// NewContext returns a context of what is done in the person's name.
func NewContext(ctx context.Context, p Person) context.Context {
	return context.WithValue(ctx, personKey{}, p)
}

// From returns the person in whose name the context is, such as that of a request which Require let
// through.
func From(ctx context.Context) Person {
	p, _ := ctx.Value(personKey{}).(Person)
	return p
}
