package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Of each person those readings are kept that were the last, and not for longer than ReadingsLife
// after the last one.
const (
	maxReadings  = 100
	ReadingsLife = 400 * 24 * time.Hour
)

func readings(id string) string { return "gate:readings:" + id }

// AddReading stores that somebody read what is stored of the person with the id.
func (s *Store) AddReading(ctx context.Context, id, reading string) error {
	_, err := s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.LPush(ctx, readings(id), reading)
		pipe.LTrim(ctx, readings(id), 0, maxReadings-1)
		pipe.PExpire(ctx, readings(id), ReadingsLife)
		return nil
	})
	return err
}

// Readings returns the readings of the person with the id, the newest first.
func (s *Store) Readings(ctx context.Context, id string) ([]string, error) {
	return s.rdb.LRange(ctx, readings(id), 0, -1).Result()
}

// DropReadings removes the readings of the person with the id.
func (s *Store) DropReadings(ctx context.Context, id string) error {
	return s.rdb.Del(ctx, readings(id)).Err()
}
