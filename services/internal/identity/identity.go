// Package identity hands a person on from one service of the stack to the next, as a signed token
// that lives for a minute. Nobody inside the stack believes a header that anyone could have set.
//
// Each process that signs makes a key pair when it starts, and publishes the public half in Redis
// under its service's name, where only that service's user may write (see stacks/redis). The private
// half never leaves the process, so there is no key to keep, and a restart is a rotation: the old
// public half stays for as long as tokens of it may be on their way.
package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The services that sign, and those for which they do.
const (
	Gate      = "gate"
	Backend   = "backend"
	Backup    = "backup"
	ML        = "ml"
	Knowledge = "knowledge"
)

const (
	// Life is how long a token is good, from when it is signed.
	Life = time.Minute

	// Skew is how far the clocks of two machines may be apart.
	Skew = 30 * time.Second

	// keyLife is how long a public key stays in Redis after its signer last published it: longer
	// than a Redis that restarts is away, or that is full and takes nothing. Nobody signs with the
	// key of a process that has ended.
	keyLife = 24 * time.Hour

	// publishEvery is the time between two publications. A Redis that lost the key has it again.
	publishEvery = 5 * time.Second
)

// Person is somebody for whom a request is made.
type Person struct {
	// ID names the person in the names of keys: 26 characters of base32, which tell nothing
	// about who it is.
	ID string

	// Name is what pages call the person; empty where nobody signs in.
	Name string

	// Admin reports whether the person manages the stack.
	Admin bool

	// Groups are those of the person that the stack knows.
	Groups []string

	// Address is that of the browser whose request it is, for the audit; empty where there is none.
	Address string

	// By is the name of who asks for what is the person's, with a command of codexctl; empty where
	// the person asks.
	By string
}

// claims is the content of a token.
type claims struct {
	jwt.RegisteredClaims
	Name   string   `json:"name,omitempty"`
	Admin  bool     `json:"admin,omitempty"`
	Groups []string `json:"groups,omitempty"`

	Address string `json:"address,omitempty"`
	By      string `json:"by,omitempty"`
}

func (c *claims) person() Person {
	return Person{
		ID: c.Subject, Name: c.Name, Admin: c.Admin, Groups: slices.Clone(c.Groups),
		Address: c.Address, By: c.By,
	}
}

// Signer signs tokens with a key of its own.
type Signer struct {
	service, id string
	key         ed25519.PrivateKey

	signed memory[string] // the tokens of the last again, by the audience and the person
}

// again is how long a token is handed out that was signed for the same person and audience: it is
// good for most of its life then. To sign and to verify takes longer than the rest of a hop.
const again = 10 * time.Second

// NewSigner returns a signer with a new key for the service.
func NewSigner(service string) *Signer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // crypto/rand never fails
	}

	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	return &Signer{service: service, id: hex.EncodeToString(id), key: key}
}

// Sign returns a token with which the audience, a service, takes requests for the person. A Person
// without an ID is the signing service itself.
func (s *Signer) Sign(p Person, audience string) string {
	person, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Errorf("identity: %w", err)) // it is texts and a bool
	}

	key, now := audience+" "+string(person), time.Now()
	if token, ok := s.signed.get(key); ok {
		return token
	}

	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    s.service,
			Subject:   p.ID,
			Audience:  jwt.ClaimStrings{audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(Life)),
		},
		Name:    p.Name,
		Admin:   p.Admin,
		Groups:  p.Groups,
		Address: p.Address,
		By:      p.By,
	})
	t.Header["kid"] = s.id

	token, err := t.SignedString(s.key)
	if err != nil {
		panic(fmt.Errorf("identity: %w", err)) // the key is one of Ed25519
	}

	s.signed.put(key, token, now.Add(again))
	return token
}

// For returns a function for hop.Client.Sign, which signs tokens for the audience. They name the
// owner, and the groups of the person in the name of whom the context is, if that is the owner.
func (s *Signer) For(audience string) func(ctx context.Context, owner string) string {
	return func(ctx context.Context, owner string) string {
		p := Person{ID: owner}
		if asks := From(ctx); asks.ID == owner {
			p.Groups = asks.Groups
		}
		return s.Sign(p, audience)
	}
}

// Set stores a value in Redis for a time.
type Set func(ctx context.Context, key, value string, life time.Duration) error

// Publish stores the public key once.
func (s *Signer) Publish(ctx context.Context, set Set) error {
	public := s.key.Public().(ed25519.PublicKey)
	value := base64.StdEncoding.EncodeToString(public)
	if err := set(ctx, name(s.service, s.id), value, keyLife); err != nil {
		return fmt.Errorf("publish the key that signs: %w", err)
	}

	return nil
}

// Run publishes the public key again and again, until ctx is done.
func (s *Signer) Run(ctx context.Context, set Set, log *slog.Logger) {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	failing := false
	for {
		err := s.Publish(ctx, set)
		if err != nil && !failing && ctx.Err() == nil {
			log.WarnContext(ctx, "identity", "error", err)
		}

		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// name returns the name in Redis of a service's public key.
func name(service, id string) string { return "identity:" + service + ":" + id }

// validID reports whether id has the form of a key's id. It comes from a token that nobody has
// checked yet, and becomes part of a name in Redis.
func validID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// Authorization returns the value of the header Authorization with the token.
func Authorization(token string) string { return "Bearer " + token }

// bearer returns the token of a header Authorization, or "".
func bearer(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// Peek returns the person that a header Authorization names, without a check of the signature: for
// a service that shows the name, and lets the next one decide.
func Peek(authorization string) (Person, bool) {
	var c claims
	_, _, err := jwt.NewParser().ParseUnverified(bearer(authorization), &c)
	return c.person(), err == nil
}
