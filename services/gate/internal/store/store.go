// Package store is Redis as the gate uses it. The names of its keys begin with "gate:", and those of
// what other services read with "identity:gate:"; the gate's user of Redis may touch no others.
package store

import (
	"context"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

const (
	// conns bounds the commands that are with Redis at once.
	conns = 64

	// A command is sent again while Redis cannot be reached, such as while it restarts: all tries
	// together take some ten seconds. Commands here may be done twice, if the first answer is lost;
	// Take, SetNew and Delete may say then that somebody else was faster.
	tries     = 14
	minPause  = 50 * time.Millisecond
	longPause = time.Second
)

// Store is a client of Redis.
type Store struct{ rdb redis.UniversalClient }

// New returns a store. It does not connect: Redis may come later.
func New(a redisclient.Address) (*Store, error) {
	o, err := a.Options()
	if err != nil {
		return nil, err
	}

	o.PoolSize, o.MaxActiveConns = conns, conns
	o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = tries, minPause, longPause
	return &Store{rdb: redis.NewUniversalClient(o)}, nil
}

// Close ends the connections.
func (s *Store) Close() { _ = s.rdb.Close() }

// Set stores a value for a time.
func (s *Store) Set(ctx context.Context, key, value string, life time.Duration) error {
	return s.rdb.Set(ctx, key, value, life).Err()
}

// Publish stores a value that other services have to know, for a time.
func (s *Store) Publish(ctx context.Context, key, value string, life time.Duration) error {
	return redisclient.Publish(ctx, s.rdb, key, value, life)
}

// rewriteTries is how often a rewrite is asked for that another one is in the way of, once a
// second.
const rewriteTries = 30

// Rewrite has Redis write its append-only file anew, in the background, without what was deleted
// before. A file that is being rewritten may still have it: the next rewrite counts.
func (s *Store) Rewrite(ctx context.Context) error {
	rewrite := func(ctx context.Context, c redis.UniversalClient) error {
		for try := 1; ; try++ {
			err := c.BgRewriteAOF(ctx).Err()
			if err == nil || !strings.Contains(err.Error(), "already in progress") ||
				try == rewriteTries {
				return err
			}

			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}

	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return rewrite(ctx, s.rdb)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		return rewrite(ctx, c)
	})
}

// Claim stores the value with the key if nothing is stored there, and returns what is there then.
func (s *Store) Claim(ctx context.Context, key, value string) (string, error) {
	if there, err := s.Get(ctx, key); err != nil || there != "" {
		return there, err // also of a Redis that has no room
	}

	if err := s.rdb.SetNX(ctx, key, value, 0).Err(); err != nil {
		return "", err
	}
	return s.rdb.Get(ctx, key).Result()
}
