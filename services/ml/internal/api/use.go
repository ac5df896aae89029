package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/meter"
)

// atOncePause is after how many seconds somebody with too many questions at once may try again.
const atOncePause = 2

// use is what a request uses of the models.
type use struct {
	ctx      context.Context
	question *meter.Question

	// answered reports whether something came of the answer. Else the request counts for nothing.
	answered bool

	// prompt and answer count tokens. Until Ollama says how many they are, answer is how often
	// something came, which is about the same.
	prompt, answer int
}

// admission is whether, and when, a request has its turn.
type admission struct {
	// likely reports whether it most likely has it at once.
	likely bool

	// early ends as soon as it is known that the request does not have its turn at once.
	early context.Context
	late  context.CancelFunc

	known   chan struct{} // closed when the rest is known
	release func()
	queued  bool // it did not have it at once
	waited  time.Duration
	err     error
}

// admit asks for the turn of a request, and has it counted as a use. It says in the response's
// headers what is left of the day, and refuses a request for which nothing is left. queued is
// called with each new place while it waits. The caller ends the admission.
func (s *service) admit(
	w http.ResponseWriter, r *http.Request, u *use, queued func(int) error,
) *admission {
	owner := r.Header.Get(wire.OwnerHeader)
	try := s.Queue.Try(owner)
	a := &admission{
		likely: try.Likely && !s.Meter.Spent(owner), known: make(chan struct{}),
	}
	a.early, a.late = context.WithCancel(r.Context())

	go func() {
		defer close(a.known)
		var counted time.Time
		a.release, a.err = try.If(func() (err error) {
			u.question, err = s.Meter.Begin(r.Context(), owner, r.Header.Get(wire.QuestionHeader))
			u.question.Show(w.Header())
			counted = time.Now()
			if err != nil {
				a.late()
			}
			return err
		})

		if a.release == nil && a.err == nil {
			a.late()
			a.queued = true
			a.release, a.err = s.Queue.Acquire(r.Context(), owner, queued)
		}
		if a.waited = time.Since(counted); a.err == nil {
			s.metrics.waited.Observe(a.waited.Seconds())
		}
	}()
	return a
}

// end gives the turn back, if there is one.
func (a *admission) end() {
	a.late()
	if <-a.known; a.err == nil {
		a.release()
	}
}

// end counts what was used.
func (u *use) end() {
	if u.answered {
		u.question.End(u.ctx, u.prompt, u.answer)
	} else {
		u.question.Undo(u.ctx)
	}
}

// dayLimit returns the problem of a person who has used what a day may have.
func dayLimit(e *meter.LimitError) *problem.Problem {
	what := "questions"
	if e.Tokens {
		what = "tokens"
	}

	p := problem.Typed(mlapi.TypeDayLimit, http.StatusTooManyRequests,
		"You have used the %d %s that a day may have. The next day begins at midnight UTC, in %s.",
		e.Limit, what, roughly(e.RetryAfter))
	p.RetryAfter = int(e.RetryAfter / time.Second)
	return p
}

// roughly returns a time as a person says it.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute")
	}
	return plural(int(d/time.Hour), "hour")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
