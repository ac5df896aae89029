package audit

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch bounds the records that are pushed at once.
	maxBatch = 128

	// The pauses while Redis is away, which grow from the first to the last. The last is short, so
	// that an act does not wait longer than Redis is away.
	firstPause = 20 * time.Millisecond
	lastPause  = 100 * time.Millisecond

	// polite is how often a push that came behind that of another process is tried again at once.
	polite = 4
)

//go:embed push.lua
var pushSource string

// A push is refused by a Redis without memory, but for what has to be written all the same.
var (
	push     = redis.NewScript("#!lua\n" + pushSource)
	pushMust = redis.NewScript("#!lua flags=allow-oom\n" + pushSource)
)

// The names of the lists in Redis, which a Cluster keeps on one node.
const (
	prefix  = "{audit}:"
	daysKey = prefix + "days"
)

// run writes what waits until ctx is done, or stop is and nothing waits.
func (r *Recorder) run(ctx context.Context, stop <-chan struct{}) {
	var entries []*entry
	pause := firstPause
	for {
		if len(entries) == 0 {
			select {
			case e := <-r.waiting:
				entries = append(entries, e)
			case <-ctx.Done():
				return
			case <-stop:
				select {
				case e := <-r.waiting:
					entries = append(entries, e)
				default:
					return
				}
			}
		}

		entries = r.more(entries)
		if len(entries) == 0 {
			continue
		}

		n := min(len(entries), maxBatch)
		again, err := r.write(ctx, entries[:n:n])
		entries = slices.Concat(again, entries[n:])
		if err == nil {
			r.away.Answered()
			r.long.Store(false)
			pause = firstPause
			continue
		}

		r.long.Store(r.away.Failed(time.Now()) == impatience)
		if !outage.Pause(ctx, pause) {
			r.Log.Error("audit: records are lost", "count", len(entries)+len(r.waiting),
				"error", err)
			return
		}

		pause = min(2*pause, lastPause)
	}
}

// more adds what waits to the entries, of which those are dropped that nobody waits for any more:
// while Redis is away these must not take the room of outcomes.
func (r *Recorder) more(entries []*entry) []*entry {
	entries = slices.DeleteFunc(entries, (*entry).dead)
	for len(entries) < maxWaiting {
		select {
		case e := <-r.waiting:
			if !e.dead() {
				entries = append(entries, e)
			}
		default:
			return entries
		}
	}

	return entries
}

// dead reports whether whoever waited for the entry has given up, so that the act is not done.
func (e *entry) dead() bool { return !e.must && e.settled.Load() }

// write writes the batch, and returns the entries that have to be tried again after the error.
func (r *Recorder) write(ctx context.Context, batch []*entry) ([]*entry, error) {
	script := push
	err := r.push(ctx, script, batch)
	if redis.IsOOMError(err) {
		batch = r.fail(batch, err)
		if len(batch) == 0 {
			return nil, nil // it answers
		}
		err = r.push(ctx, pushMust, batch)
	}

	var reply redis.Error
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &reply) && !redis.IsLoadingError(err) && !redis.IsReadOnlyError(err) &&
		!redis.IsClusterDownError(err) && !redis.IsMasterDownError(err):
		batch = r.fail(batch, err) // such as with a full disk: it will not do so in a moment
	}

	if len(batch) == 0 {
		return nil, nil
	}

	return batch, err
}

// fail tells those who wait, and returns the entries that have to be written all the same.
func (r *Recorder) fail(batch []*entry, err error) []*entry {
	out := batch[:0]
	for _, e := range batch {
		if e.must {
			out = append(out, e)
		} else if e.settle() {
			e.stored <- err
		}
	}

	return out
}

// push pushes the batch behind the last record. If the reply to one push was lost, the records may
// stand there twice; the id is the same.
func (r *Recorder) push(ctx context.Context, script *redis.Script, batch []*entry) error {
	for try := 1; ; try++ {
		lines := r.seal(batch)
		last := lines[len(lines)-1]
		day := time.Now().UTC().Format(time.DateOnly)
		sum := sha1.Sum([]byte(r.last))
		args := make([]any, 0, 2+len(lines))
		args = append(args, day, hex.EncodeToString(sum[:]))
		for _, line := range lines {
			args = append(args, line)
		}

		reply, err := script.Run(ctx, r.rdb, []string{daysKey, prefix + day}, args...).Result()
		if err != nil {
			return err
		}

		there, moved := reply.(string)
		if !moved || there == last { // pushed now, or by the try before, whose reply was lost
			r.last, r.number = last, r.number+int64(len(lines))
			r.stored(batch, lines)
			return nil
		}

		r.follow(there)
		if try > polite {
			time.Sleep(rand.N(time.Duration(try) * time.Millisecond))
		}
	}
}

// seal returns the lines of the batch, behind the last one.
func (r *Recorder) seal(batch []*entry) []string {
	lines := make([]string, len(batch))
	prev := ""
	if r.last != "" {
		prev = auditlog.Hash(r.last)
	}

	for i, e := range batch {
		e.record.Number, e.record.Prev = r.number+int64(i)+1, prev
		lines[i] = r.Key.Seal(e.record)
		prev = auditlog.Hash(lines[i])
	}

	return lines
}

// follow has the next record follow the line, which another process has written.
func (r *Recorder) follow(line string) {
	last, err := auditlog.Parse(line)
	switch {
	case line == "":
	case err != nil:
		r.Log.Error("audit: the last record is none of this stack's")
		last.Number = r.number + 1
	}

	if last.Number < r.number {
		r.Log.Error("audit: Redis has lost records", "last", last.Number, "known", r.number)
	}

	r.last, r.number = line, last.Number
}

// stored tells those who wait, and whoever reads the lines. An act that was given up meanwhile is
// recorded as one that was refused.
func (r *Recorder) stored(batch []*entry, lines []string) {
	for _, e := range batch {
		if e.settle() {
			e.stored <- nil
		} else if !e.must {
			(&Act{r, e.record}).End(auditlog.Refused)
		}
	}

	if r.Lines != nil {
		if _, err := fmt.Fprintln(r.Lines, strings.Join(lines, "\n")); err != nil {
			r.Log.Error("audit: records could not be logged", "error", err)
		}
	}
}
