package store

import (
	"context"
	"errors"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// Limits of one instance. In a Redis Cluster those of connections are for each node.
const (
	// commandConns bounds the commands that are with Redis at once. Others wait for poolTimeout.
	commandConns = 64
	poolTimeout  = 2 * time.Second

	// MaxReaders bounds the readers that wait for events at once. Each holds a connection.
	MaxReaders = 1024
)

// Address is where Redis is.
type Address = redisclient.Address

// clients returns the store's two clients, which connect when they are used. rdb runs commands.
// wait runs those that block until something happens, so that readers that wait never take the
// connections of writers.
func clients(a Address) (rdb, wait redis.UniversalClient, err error) {
	u, err := a.Options()
	if err != nil {
		return nil, nil, err
	}

	waiting := *u
	u.PoolSize, u.MaxActiveConns, u.PoolTimeout = commandConns, commandConns, poolTimeout
	u.ConnMaxIdleTime = 5 * time.Minute
	u.ReadBufferSize, u.WriteBufferSize = 8<<10, 8<<10
	waiting.PoolSize, waiting.MaxActiveConns, waiting.PoolTimeout = MaxReaders, MaxReaders, poolTimeout
	waiting.ReadBufferSize, waiting.WriteBufferSize = 4<<10, 1<<10
	waiting.ConnMaxIdleTime = 30 * time.Second
	return redis.NewUniversalClient(u), redis.NewUniversalClient(&waiting), nil
}

// reloadAfter makes a Cluster's client ask anew which node serves what, after an error that is not
// Redis's reply: a node that does not answer does not name the one that took over.
func reloadAfter(ctx context.Context, c redis.UniversalClient, err error) {
	var reply redis.Error
	if cluster, ok := c.(*redis.ClusterClient); ok && err != nil && !errors.As(err, &reply) {
		cluster.ReloadState(ctx)
	}
}

// errorHook reports failed commands.
type errorHook func(error)

func (h errorHook) report(err error) error {
	if err != nil && !errors.Is(err, redis.Nil) && !errors.Is(err, context.Canceled) &&
		!redis.HasErrorPrefix(err, "NOSCRIPT") {
		h(err)
	}
	return err
}

// DialHook implements redis.Hook.
func (h errorHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h errorHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.report(next(ctx, cmd)) }
}

// ProcessPipelineHook implements redis.Hook.
func (h errorHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.report(next(ctx, cmds)) }
}
