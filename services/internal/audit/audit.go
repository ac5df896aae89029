// Package audit records who did what: the intent before an act is done, and its outcome after it.
//
// The records are a chain (package auditlog) in lists of Redis, one for each day. A service's user
// of Redis may push to them and look at the last one, and nothing else: it cannot change or remove
// what is there. All processes of a stack write one chain. A script pushes records only behind the
// one that they were made to follow, and names the last one otherwise, so that they are made anew.
package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

const (
	// patience is how long an act waits for its record while Redis is away, impatience once it has
	// been away for longer than that.
	patience   = 8 * time.Second
	impatience = time.Second

	// hurry is how long an act waits that is done in any case.
	hurry = 500 * time.Millisecond

	// maxWaiting bounds the records that wait for Redis, and those that wait for the writer.
	maxWaiting = 8192

	// closing bounds how long Close waits.
	closing = 5 * time.Second
)

// Options are what a Recorder works with.
type Options struct {
	// Address is where Redis is.
	Address redisclient.Address

	// Service names who records.
	Service string
	Key     auditlog.Key

	// Lines gets each record that is stored, as a line; it may be nil.
	Lines io.Writer
	Log   *slog.Logger
}

// Recorder writes records. A nil Recorder, of a stack without an audit, writes none.
type Recorder struct {
	Options
	rdb     redis.UniversalClient
	waiting chan *entry

	// away is the outage of Redis, and long reports whether it has gone on for
	// longer than patience.
	away *outage.Outage
	long atomic.Bool

	refusals refusals

	stop func()          // has the writer end when nothing waits
	quit func()          // has it end at once
	done <-chan struct{} // is closed when it has ended

	// The fields below belong to the writer.

	last   string // the last line
	number int64  // and the number of its record
}

// entry is a record that waits for Redis.
type entry struct {
	record auditlog.Record

	// must is set for what is written also if Redis has no memory left, and after a wait of any
	// length: the act is done.
	must bool

	// settled is set once, by the one who has found out what becomes of it: the writer that stored
	// it, or who waited for that too long, and does nothing.
	settled atomic.Bool
	stored  chan error // has room for the outcome
}

// settle reports whether the caller settles what becomes of the entry.
func (e *entry) settle() bool { return e.settled.CompareAndSwap(false, true) }

// Open returns the recorder of a service with the environment, nil if nothing is recorded. It does
// not connect: Redis may come later.
func Open(
	v *contract.Auditing, at contract.Redis, service string, log *slog.Logger, lines io.Writer,
) (*Recorder, error) {
	if !v.Audit {
		return nil, nil
	}

	secret, err := contract.Secret("AUDIT_KEY_FILE", v.AuditKeyFile)
	if err != nil {
		return nil, err
	}
	if !v.AuditLog {
		lines = nil
	}

	return New(Options{
		Address: redisclient.Address(at), Service: service, Key: auditlog.NewKey(secret),
		Lines: lines, Log: log,
	})
}

// New returns a recorder, which Close ends.
func New(o Options) (*Recorder, error) {
	u, err := o.Address.Options()
	if err != nil {
		return nil, err
	}

	u.PoolSize, u.MaxActiveConns = 1, 1 // what waits is pushed together
	stopping, stop := context.WithCancel(context.Background())
	working, quit := context.WithCancel(context.Background())
	done := make(chan struct{})
	r := &Recorder{
		Options: o, rdb: redis.NewUniversalClient(u), waiting: make(chan *entry, maxWaiting),
		away: outage.New(patience, impatience), stop: stop, quit: quit, done: done,
	}

	go func() {
		defer close(done)
		r.run(working, stopping.Done())
	}()

	return r, nil
}

// Close waits until all is written, for some seconds at most. Nothing may be recorded after it.
func (r *Recorder) Close() {
	if r == nil {
		return
	}

	r.stop()
	timer := time.AfterFunc(closing, r.quit)
	defer timer.Stop()
	<-r.done
	r.quit()
	_ = r.rdb.Close()
}

// Name returns what records call a thing; see auditlog.Key.Name.
func (r *Recorder) Name(kind, id string) string {
	if r == nil || id == "" {
		return ""
	}
	return r.Key.Name(kind, id)
}

// Act is an act whose intent has been recorded. What its Record says of it may be completed before
// its end. A nil Act is of a stack without an audit.
type Act struct {
	recorder *Recorder
	Record   auditlog.Record
}

// Begin records that an act is about to be done. If that fails it must not be done: the error is a
// *problem.Problem that says so.
func (r *Recorder) Begin(ctx context.Context, what auditlog.Record) (*Act, error) {
	if r == nil {
		return nil, nil
	}
	return r.begin(ctx, what, auditlog.Intent)
}

// Record records what has happened, and waits until Redis has taken it.
func (r *Recorder) Record(
	ctx context.Context, what auditlog.Record, outcome auditlog.Outcome,
) error {
	if r == nil {
		return nil
	}
	_, err := r.begin(ctx, what, outcome)
	return err
}

func (r *Recorder) begin(
	ctx context.Context, what auditlog.Record, outcome auditlog.Outcome,
) (*Act, error) {
	a := r.act(ctx, what)
	a.Record.Outcome = outcome
	e := &entry{record: a.Record, stored: make(chan error, 1)}
	wait := patience
	if r.long.Load() {
		wait = impatience
	}

	err := r.put(ctx, e, wait)
	if err == nil {
		return a, nil
	}

	if ctx.Err() == nil {
		r.Log.ErrorContext(ctx, "audit: an act was refused, as it cannot be recorded",
			"action", what.Action, "error", err)
	}

	return nil, refusal(err)
}

// BeginAnyway is Begin of an act that is done also if it cannot be recorded: then the log says so.
func (r *Recorder) BeginAnyway(ctx context.Context, what auditlog.Record) *Act {
	if r == nil {
		return nil
	}

	a := r.act(ctx, what)
	e := &entry{record: a.Record, must: true, stored: make(chan error, 1)}
	if err := r.put(ctx, e, hurry); err != nil {
		r.Log.ErrorContext(ctx, "audit: an act is not recorded yet", "action", what.Action,
			"error", err)
	}

	return a
}

// Note is Record, and does not wait: it is written when Redis takes it. A refusal, of which anybody
// can cause many, is dropped if Redis has no memory left.
func (r *Recorder) Note(ctx context.Context, what auditlog.Record, outcome auditlog.Outcome) {
	if r != nil {
		r.act(ctx, what).end(outcome, outcome != auditlog.Refused)
	}
}

// act returns the act of the record.
func (r *Recorder) act(ctx context.Context, what auditlog.Record) *Act {
	if what.ID == "" { // else it goes on with an act that another process began
		what.ID = rand.Text()[:idLength]
	}

	what.Time, what.Service = now(), r.Service
	what.Outcome, what.Request = auditlog.Intent, logging.RequestID(ctx)
	if !modelName.MatchString(what.Model) {
		what.Model = ""
	}

	return &Act{r, what}
}

// modelName is a model as Ollama names it. A program may send any text in its place, which is not
// recorded.
var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}$`)

// idLength is the length of an act's id: 80 random bits.
const idLength = 16

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// End records what became of the act, when Redis takes it.
func (a *Act) End(outcome auditlog.Outcome) {
	if a != nil {
		a.end(outcome, true)
	}
}

func (a *Act) end(outcome auditlog.Outcome, must bool) {
	record := a.Record
	record.Time, record.Outcome = now(), outcome
	e := &entry{record: record, must: must, stored: make(chan error, 1)}
	select {
	case a.recorder.waiting <- e:
	default:
		a.recorder.Log.Error("audit: a record is lost: too many wait for Redis",
			"action", record.Action, "outcome", outcome, "id", record.ID)
	}
}

// Result returns the outcome of an act with the error. An error is a refusal if it is one of those,
// or tells the person what was wrong with the request.
func Result(err error, refusals ...error) auditlog.Outcome {
	var p *problem.Problem
	switch {
	case err == nil:
		return auditlog.Done
	case errors.As(err, &p) && p.Status < http.StatusInternalServerError,
		slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }):
		return auditlog.Refused
	}

	return auditlog.Failed
}

var (
	errTooMany = errors.New("too many records wait for Redis")
	errLate    = errors.New("no answer of Redis")
)

// put has the entry written, and waits for that.
func (r *Recorder) put(ctx context.Context, e *entry, wait time.Duration) error {
	select {
	case r.waiting <- e:
	default:
		return errTooMany
	}

	timer := time.NewTimer(wait)
	defer timer.Stop()
	late := errLate
	select {
	case err := <-e.stored:
		return err
	case <-timer.C:
	case <-ctx.Done():
		late = ctx.Err()
	}

	if !e.must && !e.settle() {
		return <-e.stored // in this moment
	}

	return late
}

// refusal returns what a person is told whose act was not recorded.
func refusal(err error) *problem.Problem {
	if redis.IsOOMError(err) {
		return problem.New(http.StatusInsufficientStorage,
			"There is no room left to record this, and what is not recorded is not done. Delete "+
				"conversations, or give Redis more memory.")
	}

	p := problem.New(http.StatusServiceUnavailable,
		"This cannot be recorded at the moment, and what is not recorded is not done. Try again in "+
			"a few seconds.")
	p.RetryAfter = 5
	return p
}
