package store

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Get returns the value of the key, "" if there is none.
func (s *Store) Get(ctx context.Context, key string) (string, error) {
	return absent(s.rdb.Get(ctx, key).Result())
}

// All returns the values of the keys, as Get does.
func (s *Store) All(ctx context.Context, keys []string) ([]string, error) {
	replies, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, key := range keys {
			pipe.Get(ctx, key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}

	all := make([]string, len(keys))
	for i, r := range replies {
		if all[i], err = absent(r.(*redis.StringCmd).Result()); err != nil {
			return nil, err
		}
	}

	return all, nil
}

// Touch is Get, and leaves the key for the time from now on.
func (s *Store) Touch(ctx context.Context, key string, life time.Duration) (string, error) {
	v, err := s.rdb.GetEx(ctx, key, life).Result()
	var refusal redis.Error
	if errors.As(err, &refusal) && !errors.Is(err, redis.Nil) {
		return s.Get(ctx, key) // a Redis that takes no writes, as on a full disk, can be read
	}

	return absent(v, err)
}

// Take is Get, and removes the key.
func (s *Store) Take(ctx context.Context, key string) (string, error) {
	return absent(s.rdb.GetDel(ctx, key).Result())
}

// absent turns the error of a key that does not exist into an empty value.
func absent(value string, err error) (string, error) {
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return value, err
}

// SetNew stores a value for a time unless one is stored there, and reports whether it did.
func (s *Store) SetNew(
	ctx context.Context, key, value string, life time.Duration,
) (bool, error) {
	return s.rdb.SetNX(ctx, key, value, life).Result()
}

// Delete removes the key, and reports whether it was there.
func (s *Store) Delete(ctx context.Context, key string) (bool, error) {
	n, err := s.rdb.Del(ctx, key).Result()
	return n > 0, err
}

// Left returns how long the key stays: 0 if there is none, or if it stays for ever.
func (s *Store) Left(ctx context.Context, key string) (time.Duration, error) {
	left, err := s.rdb.PTTL(ctx, key).Result()
	return max(left, 0), err
}

// Present reports of each key whether it is there. The keys may be many: they
// are asked for at once.
func (s *Store) Present(ctx context.Context, keys []string) ([]bool, error) {
	pipe := s.rdb.Pipeline()
	replies := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.Exists(ctx, key)
	}

	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}

	present := make([]bool, len(keys))
	for i, reply := range replies {
		present[i] = reply.Val() > 0
	}

	return present, nil
}

// Add adds to the number that is the key's value and returns the sum. The key stays for
// the time from now on.
func (s *Store) Add(ctx context.Context, key string, n int64, life time.Duration) (int64, error) {
	var sum *redis.IntCmd
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		sum = pipe.IncrBy(ctx, key, n)
		pipe.PExpire(ctx, key, life)
		return nil
	})
	return sum.Val(), err
}
