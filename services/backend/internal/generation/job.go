package generation

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// MaxAnswer is the greatest length of an answer in bytes. It bounds what an answer costs in Redis and in memory; the
// models' own limits are far below.
const MaxAnswer = 512 << 10

// maxLine is the greatest length of a line of ml's stream in bytes.
const maxLine = 1 << 20

// maxDelta is the greatest length of the text of one event in bytes: in JSON, where a byte may take six, it stays well
// below the longest line that readers take (sse.MaxLine).
const maxDelta = 64 << 10

// leaseRenewals is how often a lease is renewed in its time: several renewals may fail before it expires.
const leaseRenewals = 8

// job writes one answer.
type job struct {
	m       *Manager
	begun   store.Begun
	turn    store.Turn
	started time.Time
	// ctx is the work with ml; store's calls are made with detached, because what came so far is kept when ctx ends.
	ctx, detached context.Context
	cancel        context.CancelCauseFunc
	inbox         *inbox

	// answered says that it is decided what the request is answered, and verdict carries it: nil, or the refusal.
	answered atomic.Bool
	verdict  chan error

	written    int // bytes of text that are stored
	firstToken time.Duration
	done       *mlapi.Done
}

// newJob keeps the values of the request's context, such as its id, and not its end.
func newJob(ctx context.Context, m *Manager, b store.Begun, t store.Turn) *job {
	j := &job{m: m, begun: b, turn: t, started: time.Now(), detached: context.WithoutCancel(ctx), inbox: newInbox(), verdict: make(chan error, 1)}
	j.ctx, j.cancel = context.WithCancelCause(j.detached)
	return j
}

// admitted waits for the verdict on the request.
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
	ctx, stop := context.WithTimeout(j.ctx, j.m.timing.Answer)
	defer stop()
	defer j.cancel(errFinished)
	go j.holdLease()

	resp, err := j.m.ml.Do(ctx, http.MethodPost, "/chat", mlapi.ChatRequest{Model: j.turn.Model,
		Messages: history(j.begun.History, j.turn.Message, MaxHistory)}, http.Header{
		"Accept": {mlapi.NDJSON}, backendapi.OwnerHeader: {j.turn.Owner}}) // ml is fair between owners
	if err != nil {
		ending := j.interrupted(ctx, err)
		if ending.Problem == nil || !j.refuse(ending.Problem) {
			j.finish(ending)
		}
		return
	}
	if j.answered.CompareAndSwap(false, true) {
		j.verdict <- nil
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer resp.Body.Close()
		j.inbox.end(j.read(ctx, resp.Body))
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // to its end, so that the connection can be used again
	}()
	j.write()
	select {
	case <-read: // usual: the answer's end was read before it was written
	case <-time.After(10 * time.Millisecond):
	}
	j.cancel(errFinished)
	<-read
}

// refuse answers the request with the refusal, when it still waits, and takes back what was stored.
func (j *job) refuse(p *problem.Problem) bool {
	if !j.answered.CompareAndSwap(false, true) {
		return false
	}
	err := j.persistently(func(ctx context.Context) error { return j.m.store.Withdraw(ctx, j.begun) })
	if errors.Is(err, store.ErrEnded) { // stopped or deleted meanwhile
		j.verdict <- nil
		j.ended(backendapi.MessageStopped)
		return true
	}
	if err != nil {
		j.m.log.ErrorContext(j.detached, "could not take back a refused message: it will show as failed", "generation", j.begun.ID, "error", err)
	}
	j.verdict <- p
	j.ended("refused")
	return true
}

// read passes on ml's answer and returns how it ended.
func (j *job) read(ctx context.Context, body io.Reader) store.Ending {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	total := 0
	for lines.Scan() {
		var c mlapi.Chunk
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return j.failed(problem.New(http.StatusBadGateway, "The model service sent something that is not an answer: %v", err))
		}
		if c.Queue > 0 {
			j.inbox.setQueue(c.Queue)
		}
		if c.Text != "" {
			if total += len(c.Text); total > MaxAnswer {
				return j.failed(problem.New(http.StatusBadGateway, "The answer grew beyond %d KiB and was ended there.", MaxAnswer>>10))
			}
			j.inbox.addText(c.Text)
		}
		switch {
		case c.Error != nil:
			return j.failed(c.Error)
		case c.Done != nil:
			data, err := json.Marshal(c.Done)
			if err != nil {
				return j.failed(problem.New(http.StatusBadGateway, "The model service ended the answer in an unknown way: %v", err))
			}
			j.done = c.Done
			return store.Ending{Event: backendapi.EventDone, Data: data, State: backendapi.MessageComplete}
		}
	}
	err := lines.Err()
	if err == nil {
		err = errors.New("it ended without the last line")
	}
	return j.interrupted(ctx, fmt.Errorf("the model service cut the answer: %w", err))
}

// interrupted is the ending of an answer that err kept from its end, which may be for a reason of our own.
func (j *job) interrupted(ctx context.Context, err error) store.Ending {
	cause := context.Cause(ctx)
	var p *problem.Problem
	switch {
	case errors.Is(cause, errStopped):
		return store.Stopped()
	case errors.Is(cause, errDraining):
		p = &problem.Problem{Type: "/problems/restarted", Title: "Answer interrupted", Status: http.StatusServiceUnavailable,
			Detail: "The backend was stopped before the answer was complete. What came so far is kept: send the message again."}
	case errors.Is(cause, context.DeadlineExceeded):
		p = problem.New(http.StatusGatewayTimeout, "The answer took longer than %s. What came so far is kept.", j.m.timing.Answer)
	case errors.As(err, &p):
		if p.Status >= 500 && p.Status != http.StatusServiceUnavailable {
			p = &problem.Problem{Type: p.Type, Title: p.Title, Status: http.StatusBadGateway, Detail: p.Error()}
		}
	default:
		j.m.log.WarnContext(j.detached, "ml", "error", err)
		p = problem.New(http.StatusBadGateway, "The model service cannot be reached or cut the answer. Try again; the status page shows whether it is up.")
	}
	return j.failed(p)
}

// failed is the ending with the problem, under the id of the request that asked for the answer.
func (j *job) failed(p *problem.Problem) store.Ending {
	e, err := store.Failed(withRequestID(j.detached, *p))
	if err != nil { // a problem is strings and numbers
		panic(err)
	}
	return e
}

// write stores what arrives until the ending is stored or somebody else has ended the answer.
func (j *job) write() {
	for range j.inbox.wake {
		text, queue, ending := j.inbox.take()
		if queue > 0 && j.written == 0 {
			ctx, cancel := context.WithTimeout(j.detached, time.Second)
			if err := j.m.store.Queue(ctx, j.begun.Generation, queue); err != nil && !errors.Is(err, store.ErrEnded) {
				j.m.log.WarnContext(j.detached, "a queue position was lost", "error", err)
			}
			cancel()
		}
		for text != "" {
			var piece string
			piece, text = cut(text, maxDelta)
			if !j.append(piece) {
				return
			}
		}
		if ending != nil {
			j.finish(*ending)
			return
		}
	}
}

// append stores text. False means that the job is over: somebody else has ended the answer, or Redis is gone.
func (j *job) append(text string) bool {
	err := j.persistently(func(ctx context.Context) error {
		return j.m.store.Append(ctx, j.begun.Generation, j.written, text)
	})
	if errors.Is(err, store.ErrEnded) {
		j.cancel(errStopped)
		j.ended(backendapi.MessageStopped)
		return false
	}
	if errors.Is(err, store.ErrLost) { // its readers have seen text that is gone: it cannot go on as if nothing had been
		j.cancel(errFinished)
		j.finish(j.failed(&problem.Problem{Type: "/problems/redis-lost-data", Title: "Answer interrupted", Status: http.StatusServiceUnavailable,
			Detail: "Another Redis server took over that had not got all of this answer. What is left is kept: send the message again."}))
		return false
	}
	if err != nil {
		j.cancel(errFinished)
		j.m.log.ErrorContext(j.detached, "an answer is lost: its text cannot be stored", "generation", j.begun.ID, "error", err)
		j.ended(backendapi.MessageFailed)
		return false
	}
	if j.written == 0 {
		j.firstToken = time.Since(j.started)
		j.m.metrics.firstToken.Observe(j.firstToken.Seconds())
	}
	j.written += len(text)
	return true
}

// cut splits off up to limit bytes, between two characters.
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
	if j.answered.CompareAndSwap(false, true) {
		j.verdict <- nil
	}
	err := j.persistently(func(ctx context.Context) error { return j.m.store.End(ctx, j.begun.Generation, e) })
	switch {
	case errors.Is(err, store.ErrEnded), errors.Is(err, store.ErrNotFound):
		j.ended(backendapi.MessageStopped)
		return
	case err != nil:
		j.m.log.ErrorContext(j.detached, "the end of an answer cannot be stored: its readers will end it as failed", "generation", j.begun.ID, "error", err)
		j.ended(backendapi.MessageFailed)
		return
	}
	if e.Problem != nil {
		j.m.log.WarnContext(j.detached, "an answer failed", "generation", j.begun.ID, "status", e.Problem.Status, "error", e.Problem.Error())
	}
	j.ended(e.State)
}

// ended counts and logs the end.
func (j *job) ended(state string) {
	j.m.metrics.ended.WithLabelValues(state).Inc()
	args := []any{"state", state, "generation", j.begun.ID, "conversation", j.begun.ConversationID, "model", j.turn.Model,
		"bytes", j.written, "first_ms", float64(j.firstToken.Microseconds()) / 1000, "ms", float64(time.Since(j.started).Microseconds()) / 1000}
	if state == backendapi.MessageComplete && j.done != nil {
		j.m.metrics.tokens.WithLabelValues("prompt").Add(float64(j.done.PromptTokens))
		j.m.metrics.tokens.WithLabelValues("answer").Add(float64(j.done.Tokens))
		args = append(args, "tokens", j.done.Tokens)
	}
	j.m.log.InfoContext(j.detached, "answer", args...)
}

// holdLease renews the lease until the job is over, and ends the job when somebody else has ended the answer.
func (j *job) holdLease() {
	tick := time.NewTicker(j.m.store.Lease() / leaseRenewals)
	defer tick.Stop()
	for {
		select {
		case <-j.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(j.ctx, j.m.store.Lease()/2)
		err := j.m.store.Renew(ctx, j.begun.Generation)
		cancel()
		if errors.Is(err, store.ErrEnded) {
			j.cancel(errStopped)
			return
		}
	}
}

// persistently repeats a write that is safe to repeat while Redis is in trouble, for as long as an outage may last.
func (j *job) persistently(write func(context.Context) error) error {
	deadline := time.Now().Add(j.m.store.Outage())
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		ctx, cancel := context.WithDeadline(j.detached, deadline)
		err := write(ctx)
		cancel()
		if err == nil || errors.Is(err, store.ErrEnded) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLost) || time.Now().Add(pause).After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
