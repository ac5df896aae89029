package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
)

const (
	// lease is how long the places of a silent process stay its own. It is renewed every beat.
	lease, beat = 2 * time.Second, 500 * time.Millisecond

	// poll is the time between two looks at the places of those that wait.
	poll = 20 * time.Millisecond

	// patience is how long Redis has for an answer. A busy machine's takes longer than it seems: the
	// time until a connection is there, and has read the answer, is part of it.
	patience = 500 * time.Millisecond

	// settle is how long Redis has to answer before it decides. In this time all processes hand in
	// what they run: each tries every beat, and hears of it within its patience.
	settle = beat + patience
)

//go:embed queue.lua
var source string

// keys share a hash tag, so that they lie in one slot of a Cluster. Each has a time to live.
var keys = []string{"{queue}:leases", "{queue}:running", "{queue}:waiting", "{queue}:owners"}

// shared is a queue's part in the one that lies in Redis.
type shared struct {
	redis  *redis.Client
	script *redis.Script
	log    *slog.Logger
	name   string // of this process

	// patience bounds every question to Redis.
	patience time.Duration
	lease    time.Duration
	lookNow  chan struct{} // makes Run look at once

	// The queue's lock guards the rest.

	// decides reports whether Redis decides who gets a turn.
	decides bool

	// since is when Redis began to answer; zero while it does not.
	since time.Time

	// beat is when the lease was renewed.
	beat time.Time

	// processes is how many share the queue.
	processes int

	// asking are the owners of the requests for which Redis is being asked for a place.
	asking map[uint64]string

	// refused is when Redis last had no turn for a request that tried.
	refused time.Time

	// warned is set once it is logged that Redis does not decide.
	warned bool
}

// atOnce is the place of a request that is refused with ErrAtOnce.
const atOnce = -3

// errGone reports that Redis does not know this process: its lease has ended, or Redis has lost it.
var errGone = errors.New("the lease of this process has ended")

// Share makes the queue one with those of all processes that use this Redis, while Run runs. It is
// called before the queue is used.
//
// A process has a lease in Redis, which it renews, and its places with it. Those of a process
// that was killed become free when its lease ends. Owners are stored as a hash. A script
// decides who gets which place, so taking a free turn is one round trip. Those that wait are
// asked for every poll.
//
// If Redis does not answer in time, is full or is another one, nothing fails: this process goes on
// with its own requests, and with its share of the places, all processes having the same. When
// Redis has answered for a while, the process hands its requests in again.
func (q *Queue) Share(r *redis.Client, log *slog.Logger) {
	q.shared = &shared{redis: r, script: redis.NewScript(source), log: log, name: rand.Text(),
		patience: patience, lease: lease, lookNow: make(chan struct{}, 1), processes: 1,
		asking: map[uint64]string{}}
}

// Shared reports whether Redis decides at the moment.
func (q *Queue) Shared() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.sharing() }

func (q *Queue) sharing() bool { return q.shared != nil && q.shared.decides }

// parallel returns how many requests may run: of all processes where Redis
// decides, else of this one.
func (q *Queue) parallel() int { return q.share(q.capacity) }

// places returns how many requests may wait, likewise.
func (q *Queue) places() int { return q.share(q.bound) }

func (q *Queue) share(all int) int {
	if q.shared == nil || q.shared.decides {
		return all
	}
	return q.shared.part(all)
}

// part returns what of all is this process's, if all processes have the same.
func (s *shared) part(all int) int { return (all + s.processes - 1) / s.processes }

// Run keeps the queue's part in Redis up to date until ctx is done.
func (q *Queue) Run(ctx context.Context) {
	if q.shared == nil {
		return
	}

	for {
		start := q.now()
		q.look()
		pause := max(0, beat-q.now().Sub(start))
		q.mu.Lock()
		if q.shared.decides && len(q.waiting) > 0 {
			pause = poll
		}

		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-q.shared.lookNow:
		case <-time.After(pause):
		}
	}
}

// hurry makes Run look at once, with all that this process has.
func (s *shared) hurry() {
	s.beat = time.Time{}
	s.wake()
}

// wake makes Run look at once.
func (s *shared) wake() {
	select {
	case s.lookNow <- struct{}{}:
	default:
	}
}

// ask runs the script, and lets go of the queue's lock meanwhile.
func (q *Queue) ask(what string, args ...string) ([]int, error) {
	s := q.shared
	args = append([]string{what, s.name, strconv.FormatInt(s.lease.Milliseconds(), 10),
		strconv.Itoa(q.capacity), strconv.Itoa(q.bound)}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	q.mu.Unlock()
	defer q.mu.Lock()
	return s.redis.Run(ctx, s.script, keys, args...)
}

// askFor asks Redis to enter the request, or to take a turn for it. If Redis does not decide, this
// process does from then on.
func (q *Queue) askFor(w *waiter, what string) ([]int, error) {
	q.shared.asking[w.id] = w.owner
	reply, err := q.ask(what, number(w.id), hash(w.owner), strconv.Itoa(q.atOnce))
	delete(q.shared.asking, w.id)
	if err == nil && (len(reply) == 0 || reply[0] < -1 && reply[0] != atOnce) {
		err = errGone
	}

	if err != nil && !q.closed {
		q.alone(err)
	}

	return reply, err
}

// enterShared is enter for a queue that Redis decides about. It reports whether Redis did.
func (q *Queue) enterShared(w *waiter) (decided bool, err error) {
	reply, err := q.askFor(w, "enter")
	switch {
	case q.closed:
		return true, ErrDraining // Redis forgets it at the next beat
	case err != nil:
		return false, nil
	case reply[0] == 0:
		q.grant(w)
		return true, nil
	case reply[0] == atOnce:
		return true, ErrAtOnce
	case len(reply) == 2:
		return true, q.full(reply[1])
	case !q.shared.decides:
		return false, nil
	}

	w.move(reply[0])
	q.waiting = append(q.waiting, w)
	q.shared.wake()
	return true, nil
}

// leaveShared tells Redis that a request has neither a turn nor a place any more.
func (q *Queue) leaveShared(w *waiter) {
	if _, err := q.ask("leave", number(w.id)); err != nil {
		q.alone(err)
	} else if len(q.waiting) > 0 {
		q.shared.wake()
	}
}

// alone makes this process decide about its share, as Redis does not answer.
func (q *Queue) alone(err error) {
	s := q.shared
	s.since = time.Time{}
	if !s.warned {
		s.warned = true
		s.log.Warn("Redis does not decide who gets a turn: this process admits its share until then",
			"error", err)
	}

	if !s.decides {
		return
	}

	s.decides = false
	count := map[string]int{}
	for _, w := range q.waiting {
		w.round = count[w.owner]
		count[w.owner]++
	}

	q.order()
	q.admit()
}

// look tells Redis what this process has, and hears of its places.
func (q *Queue) look() {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, now := q.shared, q.now()
	how := "join"
	switch {
	case s.decides && now.Sub(s.beat) >= beat:
		how = "whole"
	case s.decides && len(q.waiting) > 0:
		how = ""
	case s.decides:
		return
	}

	if how == "join" && !s.since.IsZero() && now.Sub(s.since) >= settle {
		s.decides = true
	}

	args := []string{how, number(q.last)}
	if how != "" {
		for id, owner := range q.running {
			args = append(args, number(id), "+"+hash(owner))
		}
	}

	for id := range s.asking {
		args = append(args, number(id), "?")
	}

	var waiting []*waiter
	if s.decides {
		waiting = slices.Clone(q.waiting)
	}

	for _, w := range waiting {
		args = append(args, number(w.id), hash(w.owner))
	}

	reply, err := q.ask("sync", args...)
	if err == nil && (len(reply) != 2+len(waiting) || reply[0] == 0) {
		err = errGone
	}

	if err != nil {
		q.alone(err)
		return
	}

	q.heard(how, now, waiting, reply)
}

// heard takes in what Redis replied about the requests that wait.
func (q *Queue) heard(how string, at time.Time, waiting []*waiter, reply []int) {
	s := q.shared
	if s.processes = max(s.processes, reply[0]); s.decides {
		s.processes = reply[0] // until it decides, others may have to come back yet
	}

	switch {
	case how == "join" && s.since.IsZero():
		s.since = q.now()
	case how == "join" && s.decides:
		s.warned = false
		s.log.Info("Redis decides who gets a turn", "processes", s.processes)
		s.hurry() // a turn that ended meanwhile may have been handed in
	case how == "whole":
		s.beat = at
	}

	for i, w := range waiting {
		at := slices.Index(q.waiting, w)
		place := reply[2+i]
		_, runs := q.running[w.id]
		switch {
		case at < 0 && place >= 0 && !runs:
			s.hurry() // it gave up meanwhile, perhaps before Redis heard of it here
		case at < 0:
		case place == 0:
			q.waiting = slices.Delete(q.waiting, at, at+1)
			q.grant(w)
		case !s.decides:
		case place < 0:
			q.waiting = slices.Delete(q.waiting, at, at+1)
			w.outcome <- q.full(reply[1] + 1)
		default:
			w.move(place)
		}
	}

	if !s.decides {
		q.admit() // the share may have grown
		return
	}

	slices.SortFunc(q.waiting, func(a, b *waiter) int {
		return cmp.Compare(a.position, b.position)
	})
}

func number(id uint64) string { return strconv.FormatUint(id, 10) }

// hash returns what stands for an owner in Redis, whose readers learn of no person.
func hash(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
