package store

import (
	"context"
	"errors"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// Public returns the value of a key that another service publishes, "" if there is none. See
// package identity.
func (s *Store) Public(ctx context.Context, key string) (string, error) {
	v, err := s.rdb.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return v, err
}

// Publish stores a value for other services for a time. See package identity.
func (s *Store) Publish(ctx context.Context, key, value string, life time.Duration) error {
	return redisclient.Publish(ctx, s.rdb, key, value, life)
}
