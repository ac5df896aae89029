package store

import (
	"context"

	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/redis/go-redis/v9"
)

// Askers returns the ids of those of whom something is counted.
func (s *Store) Askers(ctx context.Context) ([]string, error) {
	return s.rdb.ZRange(ctx, usage.People, 0, -1).Result()
}

// Usage returns the hash of each of the people with what they have used, in their order.
func (s *Store) Usage(ctx context.Context, ids []string) ([]map[string]string, error) {
	pipe := s.rdb.Pipeline()
	replies := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		replies[i] = pipe.HGetAll(ctx, usage.Key(id))
	}

	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}

	out := make([]map[string]string, len(ids))
	for i, r := range replies {
		out[i] = r.Val()
	}

	return out, nil
}

// DropUsage removes what is known of the use of models by a person. For usage.ErasedMark nothing is
// counted.
func (s *Store) DropUsage(ctx context.Context, id string) error {
	err := dropUsage.Run(ctx, s.rdb, []string{usage.Key(id)}, usage.Erased,
		usage.ErasedMark.Milliseconds()).Err()
	if err != nil {
		return err
	}
	return s.rdb.ZRem(ctx, usage.People, id).Err()
}

var dropUsage = redis.NewScript(`#!lua flags=allow-oom
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)
