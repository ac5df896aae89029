package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis that is replaced or that crashed is away for some seconds. Whoever asks for something waits for it that long,
// so that a page is late and does not fail. The job that writes an answer waits longer (see Options.Outage).
const (
	gap      = 8 * time.Second
	gapPause = 50 * time.Millisecond
)

// waitsOut is a hook that repeats commands which are safe to repeat while Redis is away. Scripts are sent again by run.
type waitsOut struct{}

// DialHook implements redis.Hook.
func (waitsOut) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (waitsOut) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !patient(cmd) {
			return next(ctx, cmd)
		}
		return throughGap(ctx, func() error { return next(ctx, cmd) }, away)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (waitsOut) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, patient) {
			return next(ctx, cmds)
		}
		return throughGap(ctx, func() error { return next(ctx, cmds) }, away)
	}
}

// patient reports whether the command may be repeated: the store's own that are no scripts read, or do the same twice.
// Those that ask how Redis is want to know it now.
func patient(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "evalsha", "eval", "ping", "info", "cluster", "hello", "auth", "select", "client":
		return false
	}
	return true
}

// throughGap repeats what failed because Redis is away, and returns its last outcome.
func throughGap(ctx context.Context, do func() error, again func(error) bool) error {
	deadline := time.Now().Add(gap)
	for pause := gapPause; ; pause = min(2*pause, 10*gapPause) {
		err := do()
		if err == nil || !again(err) || time.Now().Add(pause).After(deadline) || !sleep(ctx, pause) {
			return err
		}
	}
}

// away reports whether a command failed because Redis cannot be reached, or does not answer yet. It may have been done.
func away(err error) bool {
	var reply redis.Error
	if errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return false
	}
	return undone(err) || !errors.As(err, &reply)
}

// undone reports whether a command that failed has certainly not been done: Redis refused to begin, as it still loads its
// data, is a replica now or does not serve the slot; or no connection was made.
func undone(err error) bool {
	for _, prefix := range []string{"LOADING", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}
