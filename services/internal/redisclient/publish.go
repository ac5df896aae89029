package redisclient

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// publish stores a value for a time, also in a Redis that has no memory left: it adds little, and
// what is there cannot be deleted without it.
var publish = redis.NewScript(`#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`)

// Publish stores a value that other services have to know, for a time. See package identity.
func Publish(
	ctx context.Context, rdb redis.UniversalClient, key, value string, life time.Duration,
) error {
	return publish.Run(ctx, rdb, []string{key}, value, life.Milliseconds()).Err()
}
