package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Check returns an error if Redis, or a master of a Cluster, does not answer. The error says what
// to do; it never has the password in it.
func (s *Store) Check(ctx context.Context) error {
	ping := func(ctx context.Context, c redis.UniversalClient) error {
		err := c.Ping(ctx).Err()
		if errors.Is(full(err), ErrDiskFull) {
			return nil // it can be read; Full returns the error
		}
		return err
	}

	if err := s.eachMaster(ctx, ping); err != nil {
		return explain(s.addr, err)
	}

	if cluster, ok := s.rdb.(*redis.ClusterClient); ok {
		info, err := cluster.ClusterInfo(ctx).Result()
		switch {
		case redis.HasErrorPrefix(err, "NOPERM"): // a user that may not ask is as good
		case err != nil:
			return explain(s.addr, err)
		case strings.Contains(info, "cluster_state:fail"):
			return fmt.Errorf("%s: the Cluster is down: not every slot is served (CLUSTER INFO says more)",
				s.addr)
		}

		return nil
	}

	// A server of the wrong kind answers PING as well.
	pipe := s.rdb.Pipeline()
	cluster, replication, server := pipe.Info(ctx, "cluster"), pipe.Info(ctx, "replication"),
		pipe.Info(ctx, "server")
	_, _ = pipe.Exec(ctx) // a user that may not ask is as good
	switch {
	case strings.Contains(cluster.Val(), "cluster_enabled:1"):
		return fmt.Errorf("%s is a node of a Redis Cluster: set REDIS_CLUSTER", s.addr)
	case strings.Contains(replication.Val(), "role:slave"):
		return fmt.Errorf("%s is a replica, which takes no writes: name the master, or set "+
			"REDIS_SENTINELS and REDIS_MASTER",
			s.addr)
	}

	if v := tooOld(server.Val()); v != "" {
		return fmt.Errorf("%s is Redis %s: version %d.0 or later is needed", s.addr, v, minMajor)
	}

	return nil
}

// minMajor is the first version of Redis in which a script declares whether it may run when
// there is no memory left.
const minMajor = 7

// tooOld returns the server's version, from INFO server, if it is below minMajor, else "".
func tooOld(info string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			major, _, _ := strings.Cut(v, ".")
			if n, err := strconv.Atoi(major); err == nil && n < minMajor {
				return v
			}
		}
	}

	return ""
}

// Used returns how much of its memory Redis uses, of maxmemory: 1 is all. Of a Cluster it is the
// master's that uses the most. It is 0 where there is no maxmemory, or nothing is known of it.
func (s *Store) Used(ctx context.Context) (most float64) {
	var mu sync.Mutex
	_ = s.eachMaster(ctx, func(ctx context.Context, c redis.UniversalClient) error {
		info := c.InfoMap(ctx, "memory").Val()["Memory"] // empty for a user that may not ask
		used, _ := strconv.ParseFloat(info["used_memory"], 64)
		bound, _ := strconv.ParseFloat(info["maxmemory"], 64)
		if bound > 0 {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, used/bound)
		}
		return nil
	})
	return most
}

// explain returns an error of a connection or a command with what to do about it.
func explain(a Address, err error) error {
	text := err.Error()
	user := ""
	if opt, urlErr := redis.ParseURL(a.URL); urlErr == nil {
		user = opt.Username
	}

	switch {
	case strings.Contains(text, "NOAUTH"):
		return errors.New("the server asks for a password: set REDIS_PASSWORD_FILE")
	case strings.Contains(text, "WRONGPASS") && user != "":
		return fmt.Errorf("the server refuses the user %q or the password: compare REDIS_URL and "+
			"the file of REDIS_PASSWORD_FILE with Redis's ACL",
			user)
	case strings.Contains(text, "WRONGPASS"),
		strings.Contains(text, "without any password configured"):
		return errors.New("the server refuses the password: compare the file of " +
			"REDIS_PASSWORD_FILE with Redis's requirepass")
	case strings.Contains(text, "NOPERM"):
		return fmt.Errorf("%s: the user may not do what the backend does: it needs ~* and +@all "+
			"-@admin -@dangerous (%s)",
			a, text)
	case strings.Contains(text, "LOADING"):
		return errors.New("the server is still loading its data")
	case strings.Contains(text, "cluster support disabled"):
		return fmt.Errorf("%s: the server is not part of a Redis Cluster: leave REDIS_CLUSTER unset",
			a)
	}

	return explainTransport(a, err)
}

// explainTransport is explain for what went wrong before Redis replied.
func explainTransport(a Address, err error) error {
	text := err.Error()
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var op *net.OpError
	sentinels := len(a.Sentinels) > 0 && strings.Contains(text,
		"all sentinels specified in configuration are unreachable")
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%s: the server's certificate is signed by nobody this backend trusts: "+
			"set REDIS_CA_FILE to the file of its authority",
			a)
	case errors.As(err, &host), errors.As(err, &invalid):
		return fmt.Errorf("%s: the server's certificate does not fit: %w", a, err)
	case strings.Contains(text, "tls: certificate required"):
		return fmt.Errorf("%s: the server wants a certificate of its clients, which this backend "+
			"has not: set tls-auth-clients no there",
			a)
	case sentinels && errors.Is(err, redis.Nil):
		return fmt.Errorf("REDIS_MASTER: the Sentinels know no master %q", a.Master)
	case errors.As(err, &dns):
		return fmt.Errorf("%s: the host %s does not resolve", a, dns.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &op) && op.Timeout():
		if strings.HasPrefix(a.URL, "rediss:") { // a Redis without TLS waits for the rest of a command
			return fmt.Errorf("%s does not answer in time: if it does not speak TLS, write "+
				"REDIS_URL with redis://",
				a)
		}
		return fmt.Errorf("%s does not answer in time", a)
	case sentinels:
		return fmt.Errorf("%s: no Sentinel answers: %w", a, err)
	case errors.As(err, &op) && op.Op == "dial" && op.Addr != nil &&
		len(a.Sentinels)+len(a.Cluster) > 0:
		return fmt.Errorf("%s: %s cannot be reached: %w", a, op.Addr, op.Err)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%s cannot be reached: %w", a, op.Err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the server closes the connection: if it speaks TLS alone, write "+
			"REDIS_URL with rediss://",
			a)
	}

	return fmt.Errorf("%s: %w", a, err)
}
