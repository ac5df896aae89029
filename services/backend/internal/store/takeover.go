package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/redis/go-redis/v9"
)

var (
	// ErrLeased reports that an answer's writer is there, or may be.
	ErrLeased = errors.New("the answer is being written")
	// ErrExhausted reports that an answer has been begun anew MaxRetries times.
	ErrExhausted = errors.New("the answer was interrupted too often")
)

// Claim is an answer that was taken over.
type Claim struct {
	// Generation carries the new writer's fencing token.
	Generation

	// Model is the one that was asked, and Groups are those of the owner then.
	Model  string
	Groups []string

	// Text is what there is of the answer. Thinking is how many bytes of reasoning there are.
	Text     string
	Thinking int

	// LeftOut is how many messages the model did not get.
	LeftOut int

	// Found is what was found for the answer, and Sources are those of which its readers were told;
	// empty and nil if that has not been.
	Found   string
	Sources *backendapi.Sources

	// Retries is how often the answer has been begun anew, this time included.
	Retries int

	// History holds the last messages before the answer, oldest first; the last one is the user's
	// that it answers. Earlier is how many there are before them.
	History []backendapi.Message
	Earlier int
}

// Claim takes over an answer whose writer is gone: its lease has expired, and it did not renew it
// when that was found out. It fails with ErrLeased, ErrEnded, ErrNotFound, or with ErrExhausted:
// then the caller holds the answer to end it. An answer that an instance of the former version
// writes is not taken over but ended (see Reap).
func (s *Store) Claim(ctx context.Context, g Generation) (Claim, error) {
	reply, err := s.run(ctx, s.scripts.claim, s.keys(g), g.ID, millis(s.opts.Lease),
		millis(formerLease), max(1, millis(s.opts.Grace)), MaxRetries, HistoryMessages,
		HistoryBytes).StringSlice()
	if err != nil {
		return Claim{}, fmt.Errorf("take over an answer: %w", err)
	}

	if err := refusals[reply[0]]; err != nil {
		return Claim{}, err
	}

	if reply[0] == "former" {
		err := s.Reap(ctx, g)
		if err == nil {
			s.Forget(ctx, g)
			err = ErrEnded
		}

		return Claim{}, err
	}

	c := Claim{Generation: g, Text: reply[5], Found: reply[8]}
	c.Fence, err = strconv.ParseInt(reply[1], 10, 64)
	if err != nil {
		return Claim{}, fmt.Errorf("take over an answer: %w", err)
	}

	for at, n := range map[int]*int{2: &c.Retries, 3: &c.LeftOut, 4: &c.Thinking, 6: &c.Earlier} {
		if *n, err = strconv.Atoi(reply[at]); err != nil {
			return Claim{}, fmt.Errorf("take over an answer: %w", err)
		}
	}

	if err := json.Unmarshal([]byte(reply[7]), &c.Groups); err != nil {
		return Claim{}, fmt.Errorf("take over an answer: %w", err)
	}

	if reply[9] != "" {
		if err := json.Unmarshal([]byte(reply[9]), &c.Sources); err != nil {
			return Claim{}, fmt.Errorf("take over an answer: %w", err)
		}
	}

	messages, err := decodeMessages(reply[10:])
	if err != nil {
		return Claim{}, err
	}

	c.Model, c.History = messages[len(messages)-1].Model, messages[:len(messages)-1]
	if reply[0] == "exhausted" {
		return c, ErrExhausted
	}

	return c, nil
}

// entry returns the answer's member of the set of running ones.
func (g Generation) entry() string { return g.Owner + ":" + g.ConversationID + ":" + g.ID }

func parseEntry(entry string) (Generation, bool) {
	parts := strings.Split(entry, ":") // an owner has no colons
	if len(parts) != 3 {
		return Generation{}, false
	}
	return Generation{Owner: parts[0], ConversationID: parts[1], ID: parts[2]}, true
}

// rememberTimeout bounds Remember in a Cluster, where the node of the set may be gone and that of
// the answer is not, and Forget.
const rememberTimeout = 500 * time.Millisecond

// Remember puts an answer among those that are being written, for sweepers: a hint, which may be
// there too early, too long, or be lost with a server.
func (s *Store) Remember(ctx context.Context, g Generation) error {
	if s.key.tagged {
		bounded, cancel := context.WithTimeout(ctx, rememberTimeout)
		defer cancel()
		ctx = bounded
	}

	pipe := s.rdb.Pipeline()
	pipe.ZAdd(ctx, running, redis.Z{Score: float64(time.Now().UnixMilli()), Member: g.entry()})
	if s.opts.TTL > 0 { // as long as an answer that nobody ends
		pipe.PExpire(ctx, running, s.opts.TTL)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("remember an answer: %w", full(err))
	}

	return nil
}

// Forget takes an answer that has ended out again. When that fails a sweeper does.
func (s *Store) Forget(ctx context.Context, g Generation) {
	ctx, cancel := context.WithTimeout(ctx, rememberTimeout)
	defer cancel()
	s.rdb.ZRem(ctx, running, g.entry())
}

// How many answers are looked at in one reading, and how long an entry may be there before its
// answer.
const (
	sweepTimeout = time.Second
	sweepBatch   = 10_000
	early        = time.Minute
)

// Orphans returns the answers being written whose lease has expired, by one reading, and forgets
// those that have ended.
func (s *Store) Orphans(ctx context.Context) ([]Generation, error) {
	// The next look comes soon: this one does not wait for a Redis, or a node of a
	// Cluster, that is away.
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	entries, err := s.rdb.ZRangeWithScores(ctx, running, 0, sweepBatch-1).Result()
	if err != nil {
		return nil, fmt.Errorf("look for orphaned answers: %w", err)
	}
	if len(entries) == 0 {
		return nil, nil
	}

	added := map[string]int64{} // when, by the entry
	pipe := s.rdb.Pipeline()
	clock := pipe.Time(ctx)
	var all []Generation
	var states []*redis.SliceCmd
	var gone []any
	for _, e := range entries {
		entry := e.Member.(string)
		g, ok := parseEntry(entry)
		if !ok {
			gone = append(gone, entry)
			continue
		}

		all, added[entry] = append(all, g), int64(e.Score)
		states = append(states, pipe.HMGet(ctx, s.key.generation(g.Owner, g.ID), "state",
			"expires"))
	}

	// Of a Cluster some nodes may not answer: those that do are enough for their own.
	if _, err := pipe.Exec(ctx); err != nil && clock.Err() != nil {
		return nil, fmt.Errorf("look for orphaned answers: %w", err)
	}

	now := clock.Val().UnixMilli()
	var orphans []Generation
	for i, g := range all {
		v, err := states[i].Result()
		if err != nil {
			continue
		}

		state, _ := v[0].(string)
		expires, _ := v[1].(string)
		until, _ := strconv.ParseInt(expires, 10, 64) // our own scripts wrote it
		switch {
		case state == "running":
			if until <= now || until > now+10*millis(s.opts.Lease) { // as claim.lua has it
				orphans = append(orphans, g)
			}
		case state != "" || now-added[g.entry()] > millis(early):
			gone = append(gone, g.entry())
		}
	}

	if len(gone) > 0 {
		s.rdb.ZRem(ctx, running, gone...) // the next sweep tries again
	}

	return orphans, nil
}

// Full returns ErrStorageFull if Redis, or a master of a Cluster, takes nothing new for want of
// memory, and ErrDiskFull if it cannot write to its disk. Check finds whatever else is wrong.
func (s *Store) Full(ctx context.Context) error {
	probe := func(ctx context.Context, c redis.UniversalClient) error {
		err := c.Eval(ctx, s.scripts.full.source, nil).Err()
		if err = full(err); errors.Is(err, ErrStorageFull) {
			return err
		}
		return nil
	}

	return s.eachMaster(ctx, probe)
}

// eachMaster asks Redis, or each master of a Cluster, and returns the first error.
func (s *Store) eachMaster(
	ctx context.Context, ask func(context.Context, redis.UniversalClient) error,
) error {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return ask(ctx, s.rdb)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		return ask(ctx, c)
	})
}

// full returns ErrStorageFull for Redis's refusal for want of memory, and ErrDiskFull for that for
// want of a disk that it can write to. Any other error it returns as it is.
func full(err error) error {
	switch {
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("%w: %w", ErrStorageFull, err)
	case redis.HasErrorPrefix(err, "MISCONF"):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
