package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// statusAge is how old a status may be that is shown to anybody.
const statusAge = time.Second

// publicStatus answers GET /api/status for those who have not signed in, such as `codexctl up`,
// with what the state of the stack and of its model is. It is asked for in the gate's own name.
type publicStatus struct {
	frontend *hop.Client
	sign     func(identity.Person) string

	mu    sync.Mutex
	last  backendapi.Status
	err   error
	until time.Time
}

// ServeHTTP implements http.Handler.
func (p *publicStatus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := p.get(r.Context())
	var fault *problem.Problem
	switch {
	case errors.As(err, &fault):
		problem.Write(w, r, fault)
	case err != nil:
		problem.Write(w, r, problem.New(http.StatusBadGateway,
			"The application is not reachable at the moment. Try again in a few seconds."))
	default:
		wire.WriteJSON(w, http.StatusOK, s)
	}
}

// get returns the status, which is asked for once a second however many want it.
func (p *publicStatus) get(ctx context.Context) (backendapi.Status, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.last, p.err
	}

	var s backendapi.Status
	header := http.Header{
		"Authorization": {identity.Authorization(p.sign(identity.Person{}))},
	}
	err := p.frontend.JSON(ctx, http.MethodGet, "/api/status", nil, &s, header)
	if ctx.Err() != nil {
		return s, err // it says nothing to others
	}

	// Details are of no use to a stranger but to find a way in.
	for i, service := range s.Services {
		s.Services[i] = backendapi.ServiceStatus{Name: service.Name, Status: service.Status}
	}

	p.last, p.err, p.until = s, err, time.Now().Add(statusAge)
	return s, err
}
