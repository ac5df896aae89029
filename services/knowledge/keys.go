package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// keys are the public keys of those who sign requests, in Redis. See package identity.
type keys struct {
	redis.UniversalClient
	address redisclient.Address
}

func openKeys(at contract.Redis) (*keys, error) {
	a := redisclient.Address(at)
	o, err := a.Options()
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MaxActiveConns = 8, 8
	return &keys{redis.NewUniversalClient(o), a}, nil
}

// Get returns the value of a key, "" if there is none.
func (k *keys) Get(ctx context.Context, key string) (string, error) {
	v, err := k.UniversalClient.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return v, err
}

// Publish stores a value for other services for a time.
func (k *keys) Publish(ctx context.Context, key, value string, life time.Duration) error {
	return redisclient.Publish(ctx, k.UniversalClient, key, value, life)
}

// Check returns an error if Redis does not answer.
func (k *keys) Check(ctx context.Context) error {
	if err := k.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("%s: %w", k.address, err)
	}
	return nil
}
