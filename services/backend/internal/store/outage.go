package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/redis/go-redis/v9"
)

// A Redis that is replaced or that crashed is away for some seconds. Whoever asks for something
// waits for it that long, so that a page is late and does not fail. The job that writes an answer
// waits longer (see Options.Outage).
const (
	gap      = 8 * time.Second
	gapPause = 50 * time.Millisecond

	// impatience is the wait for a Redis that has been away for longer than a gap.
	impatience = time.Second
)

// retrier repeats what is safe to repeat while Redis is away. As a hook of the client it does so
// with commands; run does it with scripts.
type retrier struct {
	// node returns the name of the server of the key: "" without a Cluster.
	node func(ctx context.Context, key string) string

	mu    sync.Mutex
	nodes map[string]*outage.Outage // of the servers that do not answer
}

func newRetrier(c redis.UniversalClient) *retrier {
	w := &retrier{nodes: map[string]*outage.Outage{}, node: func(context.Context, string) string {
		return ""
	}}
	if cluster, ok := c.(*redis.ClusterClient); ok {
		w.node = func(ctx context.Context, key string) string {
			master, err := cluster.MasterForKey(ctx, key)
			if err != nil {
				return "" // no node says whose the key is
			}
			return master.Options().Addr
		}
	}

	return w
}

// DialHook implements redis.Hook.
func (w *retrier) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (w *retrier) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !repeatable(cmd) {
			return next(ctx, cmd)
		}
		return w.repeat(ctx, keyOf(cmd), func() error { return next(ctx, cmd) }, away)
	}
}

// ProcessPipelineHook implements redis.Hook. In a Cluster a pipeline whose keys may be of several
// nodes is not repeated: the replies of those that answer do not wait for the others.
func (w *retrier) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		key := keyOf(cmds[0])
		node := w.node(ctx, key)
		elsewhere := func(cmd redis.Cmder) bool { return w.node(ctx, keyOf(cmd)) != node }
		if !slices.ContainsFunc(cmds, repeatable) || slices.ContainsFunc(cmds[1:], elsewhere) {
			return next(ctx, cmds)
		}
		return w.repeat(ctx, key, func() error { return next(ctx, cmds) }, away)
	}
}

// keyOf returns the key that a command of the store's own is about: its first argument.
func keyOf(cmd redis.Cmder) string {
	if args := cmd.Args(); len(args) > 1 {
		return fmt.Sprint(args[1])
	}
	return ""
}

// repeatable reports whether the command may be repeated: the store's own that are no scripts read,
// or do the same twice. Those that ask how Redis is want to know it now.
func repeatable(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "evalsha", "eval", "ping", "info", "cluster", "hello", "auth", "select", "client":
		return false
	}
	return true
}

// repeat repeats what failed because the server of the key is away, while mayRepeat holds for the
// error. It returns the last outcome.
func (w *retrier) repeat(
	ctx context.Context, key string, do func() error, mayRepeat func(error) bool,
) error {
	var deadline time.Time
	for pause := gapPause; ; pause = min(2*pause, 10*gapPause) {
		err := do()
		if !away(err) {
			var reply redis.Error
			if err == nil || errors.As(err, &reply) { // it answers; a caller who gave up says nothing of it
				w.answered(ctx, key)
			}
			return err
		}

		now := time.Now()
		if long := w.failed(ctx, key, now); deadline.IsZero() {
			deadline = now.Add(long)
		}
		if !mayRepeat(err) || now.Add(pause).After(deadline) || !outage.Pause(ctx, pause) {
			return err
		}
	}
}

// answered notes that the server of the key answers.
func (w *retrier) answered(ctx context.Context, key string) {
	w.mu.Lock()
	allAnswer := len(w.nodes) == 0
	w.mu.Unlock()
	if allAnswer {
		return
	}

	node := w.node(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.nodes, node)
}

// failed notes that the server of the key does not answer, and returns how long to wait for it.
func (w *retrier) failed(ctx context.Context, key string, now time.Time) time.Duration {
	node := w.node(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	// Nodes that have left the Cluster never answer.
	maps.DeleteFunc(w.nodes, func(_ string, o *outage.Outage) bool { return o.OutOfDate(now) })
	o := w.nodes[node]
	if o == nil {
		o = outage.New(gap, impatience)
		w.nodes[node] = o
	}

	return o.Failed(now)
}

// away reports whether a command failed because Redis cannot be reached, or does not answer yet.
// It may have been done.
func away(err error) bool {
	var reply redis.Error
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return false
	}
	return undone(err) || !errors.As(err, &reply)
}

// undone reports whether a command that failed has certainly not been done: Redis refused
// to begin, as it still loads its data, is a replica now or does not serve the slot, or
// no connection was made.
func undone(err error) bool {
	for _, prefix := range []string{"LOADING", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return outage.NeverSent(err)
}
