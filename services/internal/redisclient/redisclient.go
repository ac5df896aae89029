// Package redisclient makes the options of a go-redis client from where Redis is.
package redisclient

import (
	"cmp"
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

const (
	dialTimeout = 2 * time.Second

	// IOTimeout bounds one command. Redis answers in microseconds or is in trouble.
	IOTimeout = 3 * time.Second
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

// Options returns the options of a client. It sends a command once: whether it may be sent again is
// its caller's to say.
func (a Address) Options() (*redis.UniversalOptions, error) {
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
		MaxRetries:               -1,
		DialTimeout:              dialTimeout,
		DialerRetries:            1,
		ReadTimeout:              IOTimeout,
		WriteTimeout:             IOTimeout,
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
	if u.TLSConfig.Certificates, err = contract.Redis(a).Certificates(); err != nil {
		return nil, err
	}

	return u, nil
}
