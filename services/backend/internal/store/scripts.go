package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var lua embed.FS

// script is a change or a reading that is atomic in Redis. Its file documents what it takes and
// returns.
type script struct {
	source, sha1 string

	// repeats reports whether running it twice is running it once.
	repeats bool
}

// repeated returns the script as one that may be run twice.
func (sc script) repeated() script {
	sc.repeats = true
	return sc
}

// scripts are all scripts. They also read what has to be as of one moment: a transaction (MULTI) is
// refused when Redis has no memory left.
type scripts struct {
	create, rename, del, begin, known, withdraw      script
	append, event, renew, retry, release, claim, end script
	found                                            script
	detail, generation, full, erase, move, forget    script
	rate, submit, unsubmit, review                   script
}

func newScripts() (*scripts, error) {
	prelude, err := lua.ReadFile("lua/prelude.lua")
	if err != nil {
		return nil, err
	}

	s := &scripts{}
	for name, p := range map[string]*script{
		"create": &s.create, "rename": &s.rename, "delete": &s.del, "begin": &s.begin,
		"known": &s.known, "withdraw": &s.withdraw, "append": &s.append, "event": &s.event,
		"found": &s.found,
		"renew": &s.renew, "retry": &s.retry, "release": &s.release, "claim": &s.claim,
		"end": &s.end, "detail": &s.detail, "generation": &s.generation, "full": &s.full,
		"erase": &s.erase, "move": &s.move, "forget": &s.forget, "rate": &s.rate,
		"submit": &s.submit, "unsubmit": &s.unsubmit, "review": &s.review,
	} {
		src, err := lua.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, err
		}

		// The first line declares what the script does: with allow-oom it adds little or frees
		// memory, and runs when Redis has none left; with no-writes it reads; with neither it is
		// refused then before it has done anything.
		flags, rest, ok := strings.Cut(string(src), "\n")
		if !ok || !strings.HasPrefix(flags, "#!lua") {
			return nil, fmt.Errorf("%s.lua does not begin with #!lua", name)
		}

		source := flags + "\n" + string(prelude) + rest
		*p = script{source: source, sha1: redis.NewScript(source).Hash()}
	}

	for _, p := range []*script{
		&s.rename, &s.del, &s.known, &s.detail, &s.generation, &s.full, &s.release, &s.renew,
		&s.erase, &s.move, &s.forget, &s.found, &s.rate, &s.submit, &s.unsubmit,
	} {
		*p = p.repeated()
	}

	return s, nil
}

// once is a command that is sent once. The client of a Cluster sends others again when a connection
// breaks, although the first may have been done (that of a single Redis would, but for MaxRetries).
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// run runs a script. While Redis is away it is sent again if Redis certainly did nothing, or if
// script.repeats. Any other that may have been done is an error: callers for whom a second time is
// safe repeat it themselves.
func (s *Store) run(ctx context.Context, sc script, keys []string, args ...any) *redis.Cmd {
	var cmd *redis.Cmd
	mayRepeat := undone
	if sc.repeats {
		mayRepeat = away
	}

	_ = s.retrier.repeat(ctx, keys[0], func() error {
		cmd = s.send(ctx, "evalsha", sc.sha1, keys, args)
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			cmd = s.send(ctx, "eval", sc.source, keys, args)
		}
		return cmd.Err()
	}, mayRepeat)

	if err := full(cmd.Err()); errors.Is(err, ErrStorageFull) {
		cmd.SetErr(err)
	}

	return cmd
}

func (s *Store) send(ctx context.Context, name, what string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, what, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}

	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	reloadAfter(ctx, s.rdb, s.rdb.Process(ctx, once{cmd}))
	return cmd
}
