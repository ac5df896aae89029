package generation

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// maxDelta is the greatest length of the text of one event in bytes: in JSON, where a byte may take
// six, it stays well below the longest line that readers take (sse.MaxLine).
const maxDelta = 64 << 10

// leaseRenewals is how often a lease is renewed in its time: several renewals may
// fail before it expires.
const leaseRenewals = 8

// rememberEvery is how many renewals pass from one entry among the running answers to the next.
const rememberEvery = 16

// job writes one answer: a new one, or one that was taken over.
type job struct {
	m       *Manager
	g       store.Generation
	model   string
	prompt  []mlapi.Message // up to the user's message
	started time.Time

	// ctx bounds the work with ml. The store is called with detached: what came so far is kept when
	// ctx ends.
	ctx, detached context.Context
	cancel        context.CancelCauseFunc
	inbox         *inbox

	// answered is set once the request's reply is decided. verdict carries the reply: nil, or the
	// refusal, for which begun is withdrawn.
	answered atomic.Bool
	verdict  chan error
	begun    store.Begun
	turn     store.Turn

	// The fields below belong to the goroutine that asks ml.

	text           []byte // so far, stored or not
	thinking       int    // bytes of reasoning so far, stored or not
	dropped        int    // messages that ml is not sent
	leftOut        int    // messages that the model does not get, those that are dropped included
	search         string // what documents are searched for
	found          *found // nil before they were
	unquoted       bool   // ml takes no passages
	sources        *backendapi.Sources
	retries        int // how often the answer was begun anew
	left           time.Duration
	resumed        bool // ml was asked for the answer before
	cannotContinue bool // ml takes no text so far
	doneData       []byte

	done atomic.Pointer[mlapi.Done] // is read by the goroutine that writes to the store

	// The fields below belong to the goroutine that writes to the store.

	textStored, thinkingStored int // bytes
	firstToken                 time.Duration
}

// newJob returns a job. It keeps the values of the context, such as the
// request's id, and not its end.
func newJob(
	ctx context.Context, m *Manager, g store.Generation, model string, prompt []mlapi.Message,
) *job {
	j := &job{m: m, g: g, model: model, prompt: prompt, started: time.Now(), left: m.timing.Answer,
		detached: context.WithoutCancel(ctx), inbox: newInbox(), verdict: make(chan error, 1)}
	j.ctx, j.cancel = context.WithCancelCause(j.detached)
	return j
}

// begunJob returns the job of an answer that begins.
func begunJob(ctx context.Context, m *Manager, b store.Begun, t store.Turn) *job {
	j := newJob(ctx, m, b.Generation, t.Model, history(b.History, t.Message, MaxHistory))
	j.begun, j.turn, j.search = b, t, query(b.History, t.Message)
	if j.dropped = b.Earlier + dropped(b.History, t.Message, MaxHistory); j.dropped > 0 {
		j.leftOut = j.dropped
		j.inbox.setLeftOut(j.dropped)
	}
	return j
}

// resumedJob returns the job of an answer that was taken over. Its request has had its reply.
func resumedJob(ctx context.Context, m *Manager, c store.Claim) *job {
	last := len(c.History) - 1
	earlier, message := c.History[:last], c.History[last].Content
	j := newJob(ctx, m, c.Generation, c.Model, history(earlier, message, MaxHistory))
	j.text, j.textStored = []byte(c.Text), len(c.Text)
	j.thinking, j.thinkingStored = c.Thinking, c.Thinking
	j.dropped = c.Earlier + dropped(earlier, message, MaxHistory)
	j.leftOut, j.retries, j.resumed = c.LeftOut, c.Retries, true
	j.search, j.found, j.sources = query(earlier, message), j.foundBefore(c.Found), c.Sources
	if j.dropped > j.leftOut { // the job before had no time to store it
		j.leftOut = j.dropped
		j.inbox.setLeftOut(j.dropped)
	}

	j.answered.Store(true)
	return j
}

// accept replies to the request, if it still waits, that its message is taken.
func (j *job) accept() {
	if j.answered.CompareAndSwap(false, true) {
		j.verdict <- nil
	}
}

// admitted waits for the reply to the request, for Timing.Admission. It
// returns the refusal, or nil.
func (j *job) admitted(ctx context.Context) error {
	timer := time.NewTimer(j.m.timing.Admission)
	defer timer.Stop()
	select {
	case err := <-j.verdict:
		return err
	case <-timer.C:
	case <-ctx.Done(): // the client is gone; its answer is written all the same
	}

	if j.answered.CompareAndSwap(false, true) {
		return nil
	}

	return <-j.verdict
}

// run writes the answer until it has ended.
func (j *job) run() {
	j.m.metrics.active.Inc()
	defer j.m.metrics.active.Dec()
	defer j.cancel(errFinished)
	go j.holdLease()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		j.inbox.end(j.ask())
	}()

	j.write()
	select {
	case <-asked: // the usual case: the answer's end was read before it was written
	case <-time.After(10 * time.Millisecond):
	}

	j.cancel(errFinished)
	<-asked
}

// refuse replies to the request with the refusal, if it still waits, and takes back what was
// stored. It reports whether it did; if not, the answer has still to end.
func (j *job) refuse(p *problem.Problem) bool {
	if !j.answered.CompareAndSwap(false, true) {
		return false
	}

	err := j.persistently(func(ctx context.Context) error {
		return j.m.store.Withdraw(ctx, j.begun, j.turn)
	})
	switch {
	case errors.Is(err, store.ErrAcknowledged): // the refusal is an event of the answer
		j.verdict <- nil
		return false
	case errors.Is(err, store.ErrEnded): // stopped or deleted meanwhile
		j.verdict <- nil
		j.ended(backendapi.MessageStopped)
		return true
	case errors.Is(err, store.ErrSuperseded):
		j.verdict <- nil
		j.ended(superseded)
		return true
	case err != nil:
		j.m.log.ErrorContext(j.detached,
			"could not take back a refused message: another backend will ask again",
			"generation", j.g.ID, "error", err)
	}

	j.verdict <- withRequestID(j.detached, *p)
	j.ended("refused")
	return true
}

// failed returns the ending with the problem, under the id of the request that
// asked for the answer.
func (j *job) failed(p *problem.Problem) store.Ending {
	return store.Failed(withRequestID(j.detached, *p))
}

// write stores what arrives until the ending is stored or the answer is no longer this job's.
func (j *job) write() {
	for range j.inbox.wake {
		n := j.inbox.take()
		queue := func(ctx context.Context) error { return j.m.store.Queue(ctx, j.g, n.queue) }
		if n.queue > 0 && j.textStored == 0 && !j.note("a queue position", queue) {
			return
		}

		leftOut := func(ctx context.Context) error { return j.m.store.LeftOut(ctx, j.g, n.leftOut) }
		if n.leftOut > 0 && !j.note("what was left out", leftOut) {
			return
		}

		sources := func(ctx context.Context) error {
			return j.m.store.Sources(ctx, j.g, *n.sources)
		}
		// Without them the text would cite what nobody can open.
		if n.sources != nil && !j.stored(j.persistently(sources)) {
			return
		}

		first := j.textStored == 0
		if !j.append(n.thinking, &j.thinkingStored, j.m.store.Think) ||
			!j.append(n.text, &j.textStored, j.m.store.Append) {
			return
		}

		if first && j.textStored > 0 {
			j.firstToken = time.Since(j.started)
			j.m.metrics.firstToken.Observe(j.firstToken.Seconds())
		}

		switch {
		case n.outcome == nil:
			continue
		case n.outcome.release:
			j.release()
		case n.outcome.superseded:
			j.ended(superseded)
		case n.outcome.ending != nil:
			j.finish(*n.outcome.ending)
		}

		return
	}
}

// append stores text behind the bytes that are stored, which it counts. It reports whether the job
// goes on.
func (j *job) append(
	text string, stored *int,
	write func(ctx context.Context, g store.Generation, from int, text string) error,
) bool {
	for text != "" {
		var piece string
		piece, text = cut(text, maxDelta)
		err := j.persistently(func(ctx context.Context) error {
			return write(ctx, j.g, *stored, piece)
		})
		if !j.stored(err) {
			return false
		}

		*stored += len(piece)
	}

	return true
}

// note stores an event that the answer can do without. It reports whether the job goes on.
func (j *job) note(what string, write func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(j.detached, time.Second)
	defer cancel()
	err := write(ctx)
	if errors.Is(err, store.ErrEnded) || errors.Is(err, store.ErrSuperseded) {
		return j.stored(err)
	}
	if err != nil {
		j.m.log.WarnContext(j.detached, what+" was lost", "generation", j.g.ID, "error", err)
	}

	return true
}

// superseded is the state of an answer that another job writes now.
const superseded = "superseded"

// stored reports whether the job goes on after a write with this outcome. It does not if somebody
// else has ended the answer or taken it over, or if Redis is gone.
func (j *job) stored(err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, store.ErrEnded):
		j.cancel(errStopped)
		j.ended(backendapi.MessageStopped)
	case errors.Is(err, store.ErrSuperseded):
		j.cancel(errSuperseded)
		j.ended(superseded)
	case errors.Is(err, store.ErrLost):
		// Its readers have seen text that is gone: it cannot go on as if nothing had been.
		j.cancel(errFinished)
		j.finish(j.failed(store.Interrupted("/problems/redis-lost-data",
			"Another Redis server took over that had not got all of this answer. What is left is "+
				"kept: send the message again.")))
	default:
		j.cancel(errFinished)
		j.m.log.ErrorContext(j.detached,
			"the text of an answer cannot be stored: another backend will go on with it",
			"generation", j.g.ID, "error", err)
		j.ended(backendapi.MessageFailed)
	}

	return false
}

// release leaves the answer to another instance.
func (j *job) release() {
	err := j.persistently(func(ctx context.Context) error { return j.m.store.Release(ctx, j.g) })
	if err != nil && !errors.Is(err, store.ErrEnded) && !errors.Is(err, store.ErrSuperseded) {
		j.m.log.WarnContext(j.detached,
			"an answer could not be released: it is taken over when the lease is over",
			"generation", j.g.ID, "error", err)
	}
	j.ended("released")
}

// cut splits off up to limit bytes of a text, between two characters.
func cut(text string, limit int) (piece, rest string) {
	if len(text) <= limit {
		return text, ""
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit], text[limit:]
}

// finish stores the ending.
func (j *job) finish(e store.Ending) {
	j.accept()
	err := j.persistently(func(ctx context.Context) error { return j.m.store.End(ctx, j.g, e) })
	switch {
	case errors.Is(err, store.ErrSuperseded):
		j.ended(superseded)
		return
	case errors.Is(err, store.ErrEnded), errors.Is(err, store.ErrNotFound):
		j.ended(backendapi.MessageStopped)
		return
	case err != nil:
		j.m.log.ErrorContext(j.detached,
			"the end of an answer cannot be stored: another backend will go on with it",
			"generation", j.g.ID, "error", err)
		j.ended(backendapi.MessageFailed)
		return
	}

	if e.Problem != nil {
		j.m.log.WarnContext(j.detached, "an answer failed", "generation", j.g.ID, "status",
			e.Problem.Status, "error", e.Problem.Error())
	}

	j.ended(e.State)
}

// ended counts and logs the end.
func (j *job) ended(state string) {
	j.m.metrics.ended.WithLabelValues(state).Inc()
	args := []any{"state", state, "generation", j.g.ID, "conversation", j.g.ConversationID,
		"model", j.model, "bytes", j.textStored, "first_ms", wire.Milliseconds(j.firstToken),
		"ms", wire.Milliseconds(time.Since(j.started))}
	done := j.done.Load()
	if state == backendapi.MessageComplete && done != nil {
		j.m.metrics.tokens.WithLabelValues("prompt").Add(float64(done.PromptTokens))
		j.m.metrics.tokens.WithLabelValues("answer").Add(float64(done.Tokens))
		args = append(args, "tokens", done.Tokens)
	}

	j.m.log.InfoContext(j.detached, "answer", args...)
	j.m.record(j.detached, j.g, state, j.model, j.textStored, done)
}

// holdLease renews the lease until the job is over, and ends the job if somebody else has ended the
// answer or taken it over. Now and then it puts the answer among the running ones again: a server
// that took over may not know it.
func (j *job) holdLease() {
	tick := time.NewTicker(j.m.store.Lease() / leaseRenewals)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-j.ctx.Done():
			return
		case <-tick.C:
		}

		ctx, cancel := context.WithTimeout(j.ctx, j.m.store.Lease()/2)
		err := j.m.store.Renew(ctx, j.g)
		if n%rememberEvery == 0 && err == nil {
			err = j.m.store.Remember(ctx, j.g) // if it fails, a later one may not
		}

		cancel()
		switch {
		case errors.Is(err, store.ErrEnded):
			j.cancel(errStopped)
			return
		case errors.Is(err, store.ErrSuperseded):
			j.cancel(errSuperseded)
			return
		}
	}
}

// persistently repeats a write, which must be safe to repeat, for as long as an outage of Redis may
// last. It returns the last error, or at once one that another try does not change.
func (j *job) persistently(write func(context.Context) error) error {
	deadline := time.Now().Add(j.m.store.Outage())
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		ctx, cancel := context.WithDeadline(j.detached, deadline)
		err := write(ctx)
		cancel()
		if err == nil || errors.Is(err, store.ErrEnded) || errors.Is(err, store.ErrNotFound) ||
			errors.Is(err, store.ErrLost) ||
			errors.Is(err, store.ErrSuperseded) || errors.Is(err, store.ErrAcknowledged) ||
			time.Now().Add(pause).After(deadline) {
			return err
		}

		time.Sleep(pause)
	}
}
