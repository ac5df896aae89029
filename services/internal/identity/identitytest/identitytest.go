// Package identitytest signs tokens as the services do, for tests of whole services.
package identitytest

import (
	"net/http"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/token"
)

// Signer returns a signer for the service, whose key is published in the Redis.
func Signer(t testing.TB, at contract.Redis, service string) *identity.Signer {
	t.Helper()
	s, err := token.Published(t.Context(), at, service)
	if err != nil {
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
