package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Fields returns all fields of the hash with their values.
func (s *Store) Fields(ctx context.Context, key string) (map[string]string, error) {
	return s.rdb.HGetAll(ctx, key).Result()
}

// Field returns the value of the hash's field, "" if there is none.
func (s *Store) Field(ctx context.Context, key, field string) (string, error) {
	return absent(s.rdb.HGet(ctx, key, field).Result())
}

// Swap puts the value into the hash's field if old is there now, and reports whether the value is
// there then: done twice, it says the same. A value of "" stands for no field.
func (s *Store) Swap(ctx context.Context, key, field, old, value string) (bool, error) {
	return swap.Run(ctx, s.rdb, []string{key}, field, old, value).Bool()
}

var swap = redis.NewScript(`
local now = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if now == ARGV[3] then return 1 end
if now ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
	redis.call('HDEL', KEYS[1], ARGV[1])
else
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1`)
