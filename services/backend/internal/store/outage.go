package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis that is replaced or that crashed is away for some seconds. Whoever asks for something waits for it that long,
// so that a page is late and does not fail. The job that writes an answer waits longer (see Options.Outage).
const (
	gap      = 8 * time.Second
	gapPause = 50 * time.Millisecond
	// impatience is for a Redis that has been away for longer than a gap: whoever asks is told soon.
	impatience = time.Second
)

// waitsOut repeats what is safe to repeat while Redis is away. As a hook of the client it does so with commands; run does
// it with scripts.
type waitsOut struct {
	// since is when Redis went away, in nanoseconds of Unix time; 0 when it answers.
	since atomic.Int64
}

// DialHook implements redis.Hook.
func (w *waitsOut) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (w *waitsOut) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !patient(cmd) {
			return next(ctx, cmd)
		}
		return w.through(ctx, func() error { return next(ctx, cmd) }, away)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (w *waitsOut) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, patient) {
			return next(ctx, cmds)
		}
		return w.through(ctx, func() error { return next(ctx, cmds) }, away)
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

// through repeats what failed because Redis is away, and returns its last outcome.
func (w *waitsOut) through(ctx context.Context, do func() error, again func(error) bool) error {
	var deadline time.Time
	for pause := gapPause; ; pause = min(2*pause, 10*gapPause) {
		err := do()
		if !away(err) {
			var reply redis.Error
			if err == nil || errors.As(err, &reply) { // it answers; a caller who gave up says nothing of it
				w.since.Store(0)
			}
			return err
		}

		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(w.patience(now))
		}
		if !again(err) || now.Add(pause).After(deadline) || !sleep(ctx, pause) {
			return err
		}
	}
}

// patience is how long something is repeated that failed for the first time now.
func (w *waitsOut) patience(now time.Time) time.Duration {
	w.since.CompareAndSwap(0, now.UnixNano())
	if since := w.since.Load(); since != 0 && now.Sub(time.Unix(0, since)) > gap {
		return impatience
	}
	return gap
}

// away reports whether a command failed because Redis cannot be reached, or does not answer yet. It may have been done.
func away(err error) bool {
	var reply redis.Error
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
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
