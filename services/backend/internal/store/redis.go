package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of one instance. In a Redis Cluster those of connections are for each node.
const (
	// commandConns bounds the commands that are with Redis at once. Others wait for poolTimeout.
	commandConns = 64
	poolTimeout  = 2 * time.Second

	// MaxReaders bounds the readers that wait for events at once. Each holds a connection.
	MaxReaders = 1024

	dialTimeout = 2 * time.Second

	// ioTimeout bounds one command. Redis answers in microseconds or is in trouble.
	ioTimeout = 3 * time.Second
)

// Address is where Redis is.
type Address contract.Redis

// String returns the address as errors name it, without user and password.
func (a Address) String() string {
	switch {
	case len(a.Cluster) > 0:
		return "REDIS_CLUSTER: " + strings.Join(a.Cluster, ", ")
	case len(a.Sentinels) > 0:
		return fmt.Sprintf("REDIS_SENTINELS: the master %q of %s", a.Master,
			strings.Join(a.Sentinels, ", "))
	}

	opt, err := redis.ParseURL(a.URL)
	if err != nil {
		return "REDIS_URL"
	}

	return "REDIS_URL: " + opt.Addr
}

// options are those of both of the store's clients.
func (a Address) options() (*redis.UniversalOptions, error) {
	opt, err := redis.ParseURL(a.URL)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}

	u := &redis.UniversalOptions{
		Addrs:    []string{opt.Addr},
		DB:       opt.DB,
		Username: opt.Username,
		// A user who has none takes any, and go-redis says who it is only with one.
		Password:                 cmp.Or(a.Password, opt.Username),
		TLSConfig:                opt.TLSConfig,
		MaxRetries:               -1, // see once
		DialTimeout:              dialTimeout,
		DialerRetries:            1,
		ReadTimeout:              ioTimeout,
		WriteTimeout:             ioTimeout,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}

	switch {
	case len(a.Cluster) > 0:
		u.Addrs, u.IsClusterMode = slices.Clone(a.Cluster), true
	case len(a.Sentinels) > 0:
		u.Addrs, u.MasterName, u.SentinelPassword = slices.Clone(a.Sentinels), a.Master, a.Password
	}

	if u.TLSConfig == nil {
		if a.CAFile != "" {
			return nil, errors.New("REDIS_CA_FILE: is for TLS: write REDIS_URL with rediss://")
		}
		return u, nil
	}

	u.TLSConfig = u.TLSConfig.Clone()
	u.TLSConfig.MinVersion = tls.VersionTLS12
	if len(a.Cluster) > 0 || len(a.Sentinels) > 0 {
		u.TLSConfig.ServerName = "" // each server's certificate names the server
	}
	if u.TLSConfig.RootCAs, err = contract.Redis(a).Authorities(); err != nil {
		return nil, err
	}

	return u, nil
}

// clients returns the store's two clients, which connect when they are used. rdb runs commands.
// wait runs those that block until something happens, so that readers that wait never take the
// connections of writers.
func (a Address) clients() (rdb, wait redis.UniversalClient, err error) {
	u, err := a.options()
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
