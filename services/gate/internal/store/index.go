package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// AddToIndex puts the name into an index, a set of names each of which leaves it
// at a time of its own.
func (s *Store) AddToIndex(ctx context.Context, index, name string, until time.Time) error {
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZAdd(ctx, index, redis.Z{Score: float64(until.Unix()), Member: name})
		pipe.ZRemRangeByScore(ctx, index, "-inf", "("+strconv.FormatInt(time.Now().Unix(), 10))
		pipe.ExpireGT(ctx, index, time.Until(until)+time.Minute)
		pipe.ExpireNX(ctx, index, time.Until(until)+time.Minute)
		return nil
	})

	return err
}

// RemoveFromIndex takes the name out of the index.
func (s *Store) RemoveFromIndex(ctx context.Context, index, name string) error {
	return s.rdb.ZRem(ctx, index, name).Err()
}

// Index returns the names in the index whose time has not come.
func (s *Store) Index(ctx context.Context, index string) ([]string, error) {
	return s.rdb.ZRangeArgs(ctx, timely(index)).Result()
}

// Indexes returns the names in all of the indexes, as Index does.
func (s *Store) Indexes(ctx context.Context, indexes []string) ([]string, error) {
	replies, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, index := range indexes {
			pipe.ZRangeArgs(ctx, timely(index))
		}
		return nil
	})

	var all []string
	for _, r := range replies {
		all = append(all, r.(*redis.StringSliceCmd).Val()...)
	}

	return all, err
}

// timely asks for the names in the index whose time has not come.
func timely(index string) redis.ZRangeArgs {
	return redis.ZRangeArgs{
		Key:     index,
		Start:   strconv.FormatInt(time.Now().Unix(), 10),
		Stop:    "+inf",
		ByScore: true,
	}
}

// InIndex reports whether the name is in the index.
func (s *Store) InIndex(ctx context.Context, index, name string) (bool, error) {
	err := s.rdb.ZScore(ctx, index, name).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, err
}
