package generation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/share"
	"github.com/prometheus/client_golang/prometheus"
)

// Timing is the times of the protocol between jobs, their readers and ml.
type Timing struct {
	// Answer bounds one answer, from ml's beginning with it to the last token; what it waits for
	// its turn is not counted.
	Answer time.Duration

	// Wait bounds the wait for ml's beginning.
	Wait time.Duration

	// Admission is how long a request waits for ml to take it. After that it counts as taken, and a
	// refusal is an event of the answer. ml refuses within milliseconds, but begins its response
	// with the first token: each request to a slow model waits for so long.
	Admission time.Duration

	// Poll is how long a reader waits for events before it looks whether the answer has a writer.
	Poll time.Duration

	// KeepAlive is the time between comments on a stream without events.
	KeepAlive time.Duration

	// Write bounds a single write to a reader.
	Write time.Duration
}

// DefaultTiming returns the timing of a service whose answers take up to the time given.
func DefaultTiming(answer time.Duration) Timing {
	return Timing{Answer: answer, Wait: 30 * time.Minute, Admission: 300 * time.Millisecond,
		Poll: time.Second, KeepAlive: 15 * time.Second, Write: 20 * time.Second}
}

// Manager runs the jobs of one instance.
type Manager struct {
	// Audit records how answers end. It must be set before the first job.
	Audit *audit.Recorder

	// Knowledge has the documents in which answers have their sources; nil is without any. It must
	// be set before the first job.
	Knowledge *hop.Client

	store   *store.Store
	ml      *hop.Client
	model   string
	log     *slog.Logger
	timing  Timing
	metrics *metrics

	readers chan struct{} // a place for each reader
	owners  *share.Shares // of the readers
	running sync.WaitGroup
	mu      sync.Mutex
	jobs    map[string]*job // by the answer's id
	drain   bool

	// closing ends when the streams of readers are cut because the instance stops.
	closing context.Context
	cut     context.CancelFunc
}

// New returns a manager whose answers ml writes, with the default model unless a conversation has
// another.
func New(
	s *store.Store, ml *hop.Client, model string, timing Timing, log *slog.Logger,
	reg prometheus.Registerer,
) *Manager {
	m := &Manager{
		store: s, ml: ml, model: model, log: log, timing: timing, metrics: newMetrics(reg),
		jobs: map[string]*job{}, readers: make(chan struct{}, store.MaxReaders),
		owners: share.New(MaxOwnReaders),
	}
	m.closing, m.cut = context.WithCancel(context.Background())
	return m
}

// The causes of a job's cancelled context.
var (
	errStopped    = errors.New("the answer was ended by someone else")
	errSuperseded = errors.New("the answer was taken over by another writer")
	errDraining   = errors.New("the backend is being stopped")
	errFinished   = errors.New("the answer is complete")
	errTimeout    = errors.New("the answer's time is over")
	errWaited     = errors.New("the answer has waited too long")
)

// Start stores the message and starts its answer, in the conversation that the request names or in
// a new one, behind its messages or in the place of the last ones. It returns when ml has taken the
// request or Timing.Admission is over. A request that ml refuses in this time leaves no trace, and
// the refusal is the error, a *problem.Problem. Other errors are those of store.Store.Begin. For a
// message with the key of one that is stored it returns the answer to that one.
func (m *Manager) Start(
	ctx context.Context, owner, key string, req backendapi.ChatRequest,
) (store.Generation, error) {
	g, again, err := m.start(ctx, owner, key, req)
	result := "accepted"
	var p *problem.Problem
	switch {
	case again:
		result = "repeated"
	case errors.As(err, &p) && p.Type == problem.TypeDraining:
		result = "draining"
	case errors.As(err, &p):
		result = "refused"
	case errors.Is(err, store.ErrBusy):
		result = "conflict"
	case err != nil:
		result = "error"
	}

	m.metrics.requests.WithLabelValues(result).Inc()
	return g, err
}

// start is Start. It reports whether the message was stored before.
func (m *Manager) start(
	ctx context.Context, owner, key string, req backendapi.ChatRequest,
) (g store.Generation, again bool, err error) {
	if !m.enter() {
		return store.Generation{}, false, problem.Draining(
			"This backend is being stopped. Send the message again.")
	}

	started := false
	defer func() {
		if !started {
			m.running.Done()
		}
	}()

	title := Title(req.Message)
	turn := store.Turn{Owner: owner, Key: key, ConversationID: req.ConversationID, Title: title,
		Asked: req.Model, Model: req.Model, Message: req.Message, Repeats: req.Message == "",
		Groups: identity.From(ctx).Groups}
	if req.Replaces != nil {
		turn.Replaces = &store.Replaced{Replaces: *req.Replaces}
	}

	if key != "" {
		if g, err = m.store.Known(ctx, turn); !errors.Is(err, store.ErrNotFound) {
			return g, err == nil, err
		}
	}

	if turn.ConversationID != "" {
		c, err := m.store.Get(ctx, owner, turn.ConversationID)
		if err != nil {
			return store.Generation{}, false, err
		}
		if c.Title != "" {
			title = c.Title
		}
		if turn.Model == "" {
			turn.Model = c.Model
		}

		// The message itself may have been stored a moment ago. Begin finds one with a key.
		if running, err := m.Settle(ctx, c); err != nil {
			return store.Generation{}, false, err
		} else if running && key == "" {
			return store.Generation{}, false, store.ErrBusy
		}
	}

	if req.Replaces != nil {
		replaced, err := m.store.Replaced(ctx, owner, turn.ConversationID, *req.Replaces)
		if err != nil {
			return store.Generation{}, false, err
		}

		turn.Replaces = &replaced
		if turn.Repeats {
			turn.Message = replaced.Question
		}
	}

	if turn.Model == "" {
		turn.Model = m.model
	}

	begun, err := m.store.Begin(ctx, turn, title)
	if err != nil || begun.Again {
		return begun.Generation, begun.Again, err
	}

	j := begunJob(ctx, m, begun, turn)
	started = true
	m.work(j)
	return begun.Generation, false, j.admitted(ctx)
}

// work runs a job that enter has counted.
func (m *Manager) work(j *job) {
	m.mu.Lock()
	m.jobs[j.g.ID] = j
	if m.closing.Err() != nil { // since it was counted
		j.cancel(errDraining)
	}

	m.mu.Unlock()
	go func() {
		defer m.running.Done()
		j.run()
		m.mu.Lock()
		if m.jobs[j.g.ID] == j { // and not one that took it over from this one
			delete(m.jobs, j.g.ID)
		}
		m.mu.Unlock()
	}()
}

// enter counts a job, unless the instance is draining.
func (m *Manager) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drain {
		return false
	}
	m.running.Add(1)
	return true
}

// Stop stops an answer, whichever instance writes it. An answer that has ended stays as it is.
func (m *Manager) Stop(ctx context.Context, g store.Generation) error {
	if err := m.store.End(ctx, g, store.Stopped()); err != nil && !errors.Is(err, store.ErrEnded) {
		return err
	}

	m.Cancel(g.ID)
	return nil
}

// Cancel cancels the job of an answer that has been ended in the store. A job of another instance
// finds that out when it stores the next token, or renews its lease.
func (m *Manager) Cancel(id string) {
	m.mu.Lock()
	j := m.jobs[id]
	m.mu.Unlock()
	if j != nil {
		j.cancel(errStopped)
	}
}

// drainMargin is the part of the drain in which answers are released and their readers sent
// elsewhere: well above the half second between two looks of http.Server.Shutdown at the
// connections that are left, and Timing.Poll.
const drainMargin = 3 * time.Second

// Drain starts no further jobs and waits for those that run. Shortly before the end of ctx it
// releases what still runs, so that another instance, or this one's successor, goes on with it, and
// cuts the streams of all readers, who take them up there.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.drain = true
	active := len(m.jobs)
	m.mu.Unlock()
	if active > 0 {
		m.log.InfoContext(ctx, "waiting for answers", "active", active)
	}

	idle := make(chan struct{})
	go func() {
		m.running.Wait()
		close(idle)
	}()

	patience := time.Duration(1<<63 - 1)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		patience = left - min(drainMargin, left/2)
	}

	over := make(chan struct{})
	// Even if no job runs: readers may follow the answers of other instances.
	time.AfterFunc(patience, func() {
		m.release(ctx)
		close(over)
	})

	select {
	case <-idle:
		return nil
	case <-over:
	case <-ctx.Done():
		m.release(ctx)
	}

	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return errors.New("drain: answers could not be released in Redis in time: " +
			"they are taken over when the lease is over")
	}
}

// release ends the jobs that still run, and cuts the streams of readers.
func (m *Manager) release(ctx context.Context) {
	m.mu.Lock()
	if len(m.jobs) > 0 {
		m.log.WarnContext(ctx, "releasing answers that are not complete", "active", len(m.jobs))
	}

	for _, j := range m.jobs {
		j.cancel(errDraining)
	}

	m.mu.Unlock()
	m.cut()
}

// withRequestID returns the problem with the request's id.
func withRequestID(ctx context.Context, p problem.Problem) *problem.Problem {
	p.RequestID = logging.RequestID(ctx)
	return &p
}
