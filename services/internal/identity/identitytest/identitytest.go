// Package identitytest signs tokens as the services do, for tests of whole services.
package identitytest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// Signer returns a signer for the service, whose key is published in the Redis.
func Signer(t testing.TB, at contract.Redis, service string) *identity.Signer {
	t.Helper()
	o, err := redisclient.Address(at).Options()
	if err != nil {
		t.Fatal(err)
	}

	client := redis.NewUniversalClient(o)
	defer client.Close()
	s := identity.NewSigner(service)
	set := func(ctx context.Context, key, value string, life time.Duration) error {
		return client.Set(ctx, key, value, life).Err()
	}
	if err := s.Publish(t.Context(), set); err != nil {
		t.Fatal(err)
	}

	return s
}

// Client returns a client whose requests to the audience are those of a person, as the gate makes
// them.
func Client(t testing.TB, at contract.Redis, person, audience string) *http.Client {
	t.Helper()
	return &http.Client{Transport: &signing{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		sign:      Signer(t, at, identity.Gate),
		person:    identity.Person{ID: person},
		audience:  audience,
	}}
}

type signing struct {
	*http.Transport
	sign     *identity.Signer
	person   identity.Person
	audience string
}

// RoundTrip implements http.RoundTripper.
func (s *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", identity.Authorization(s.sign.Sign(s.person, s.audience)))
	return s.Transport.RoundTrip(r)
}
