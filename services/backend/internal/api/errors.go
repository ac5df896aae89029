package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/danielgtaylor/huma/v2"
)

// failure is a problem as huma sends it.
type failure struct{ *problem.Problem }

// GetStatus implements huma.StatusError.
func (f failure) GetStatus() int { return f.Status }

// ContentType implements huma.ContentTypeFilter.
func (f failure) ContentType(string) string { return problem.ContentType }

// GetHeaders implements huma.HeadersError.
func (f failure) GetHeaders() http.Header {
	h := http.Header{}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	return h
}

// errorModelToProblem turns what huma itself refuses into a problem.
func errorModelToProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}

	p := problem.Problem{
		Title:     m.Title,
		Status:    m.Status,
		Detail:    m.Detail,
		RequestID: logging.RequestID(ctx.Context()),
	}

	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, problem.FieldError{
				Location: e.Location, Message: e.Message,
			})
		}
	}

	return &p, nil
}

// register adds an operation whose errors are answered as problems.
func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Errors = append(op.Errors, http.StatusUnprocessableEntity, http.StatusServiceUnavailable)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.failure(ctx, err)
		}
		return out, nil
	})
}

// typeStorageFull is the type of a refusal for want of room in Redis.
const typeStorageFull = "/problems/storage-full"

// diskFull is what is wrong with Redis's disk, and what to do.
const diskFull = "Redis cannot write to its disk, which is full or broken. Make room on its " +
	"volume: then it goes on by itself. What is there can be read."

// failure returns the problem with which a request fails for an error. What is not the client's
// business is logged instead.
func (a *API) failure(ctx context.Context, err error) error {
	var p *problem.Problem
	switch {
	case errors.As(err, &p):
		copied := *p
		p = &copied
	case errors.Is(err, store.ErrNotFound):
		p = problem.New(http.StatusNotFound, "There is no such conversation or answer.")
	case errors.Is(err, store.ErrBusy):
		p = problem.Typed("/problems/answer-running", http.StatusConflict,
			"An answer is being written in this conversation: wait for its end or stop it.")
	case errors.Is(err, store.ErrChanged):
		p = problem.Typed(backendapi.TypeChanged, http.StatusConflict,
			"The conversation does not end any more with what should be replaced: read it again.")
	case errors.Is(err, store.ErrFull):
		p = problem.Typed("/problems/conversation-full", http.StatusConflict,
			"The conversation has its %d messages: begin another one.", store.MaxMessages)
	case errors.Is(err, store.ErrKeyReused):
		p = problem.Typed("/problems/key-reused", http.StatusUnprocessableEntity,
			"The Idempotency-Key is that of another request: make a new one for each request.")
	case errors.Is(err, store.ErrTooMuch):
		p = problem.Typed("/problems/too-much-stored", http.StatusRequestEntityTooLarge,
			"Your conversations have together the %s that are kept: delete some.",
			size(a.Store.MaxBytes()))
	case errors.Is(err, store.ErrSpread):
		p = problem.New(http.StatusConflict, "Conversations do not change their owner in a Redis "+
			"Cluster, where two people's keys lie on different nodes.")
	case errors.Is(err, store.ErrErased):
		p = problem.Typed("/problems/being-erased", http.StatusConflict,
			"Your conversations were erased or moved a moment ago: nothing new is stored for three "+
				"minutes.")
		p.RetryAfter = 60
	case errors.Is(err, store.ErrTooMany):
		p = problem.Typed("/problems/too-many-conversations", http.StatusTooManyRequests,
			"You have the %d conversations that are kept: delete some.", a.Store.MaxConversations())
		p.RetryAfter = 60
	case errors.Is(err, store.ErrSubmissions):
		p = problem.Typed("/problems/too-many-submissions", http.StatusConflict,
			"You have handed over the %d answers that are kept: take some back.",
			store.MaxSubmissions)
	case errors.Is(err, store.ErrDiskFull):
		a.Log.ErrorContext(ctx, "a request was refused: Redis cannot write to its disk",
			"error", err)
		p = problem.Typed(typeStorageFull, http.StatusInsufficientStorage,
			"Nothing can be changed: "+diskFull)
	case errors.Is(err, store.ErrStorageFull):
		a.Log.ErrorContext(ctx, "a request was refused: Redis has no memory left", "error", err)
		p = problem.Typed(typeStorageFull, http.StatusInsufficientStorage,
			"There is no room for anything new: Redis has reached its maxmemory. Delete "+
				"conversations, or give it more memory; what is there can be read.")
	case errors.Is(err, store.ErrCursor):
		p = problem.New(http.StatusBadRequest,
			"The cursor is none that was given here: begin without one.")
	case errors.Is(err, store.ErrEventID):
		p = problem.New(http.StatusBadRequest,
			"Last-Event-ID is not the id of an event of this answer: begin without one.")
	case ctx.Err() != nil: // nobody reads it
		p = problem.New(http.StatusServiceUnavailable, "The request was given up.")
	default:
		a.Log.ErrorContext(ctx, "request failed", "error", err)
		p = problem.New(http.StatusServiceUnavailable,
			"The conversations cannot be reached now: Redis does not work as it should. Try "+
				"again; /ready says more.")
		p.RetryAfter = 5
	}

	p.RequestID = logging.RequestID(ctx)
	return failure{p}
}

// size returns a number of bytes as a person says it, in MiB or else in KiB.
func size(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}
