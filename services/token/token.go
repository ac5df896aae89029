// Package token signs for programs outside the services that ask one of them directly, such as a
// benchmark that measures a single hop.
package token

import (
	"context"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// Signer signs as the gate does. It needs to write to the stack's Redis, which
// is what makes it one.
type Signer struct{ signer *identity.Signer }

// New returns a signer whose key is good for a day.
func New(ctx context.Context, at contract.Redis) (*Signer, error) {
	s, err := Published(ctx, at, identity.Gate)
	return &Signer{s}, err
}

// Published returns a new signer of the service, whose key is published in the Redis.
func Published(
	ctx context.Context, at contract.Redis, service string,
) (*identity.Signer, error) {
	o, err := redisclient.Address(at).Options()
	if err != nil {
		return nil, err
	}

	client := redis.NewUniversalClient(o)
	defer client.Close()
	s := identity.NewSigner(service)
	publish := func(ctx context.Context, key, value string, life time.Duration) error {
		return redisclient.Publish(ctx, client, key, value, life)
	}
	return s, s.Publish(ctx, publish)
}

// Authorization returns the header Authorization of a request to the service in the person's name.
// It is good for a minute.
func (s *Signer) Authorization(person, service string) string {
	return identity.Authorization(s.signer.Sign(identity.Person{ID: person}, service))
}
