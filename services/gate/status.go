package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const (
	// statusAge is how old a status may be that is shown to anybody.
	statusAge = time.Second

	// statusTime bounds how long the frontend is waited for.
	statusTime = 3 * time.Second
)

// publicStatus answers GET /api/status for those who have not signed in, such as `codexctl up`,
// with what the state of the stack and of its model is. It is asked for in the gate's own name.
type publicStatus struct {
	frontend *hop.Client
	sign     func(identity.Person) string

	// turn has room for the one who asks, and who may use what follows.
	turn  chan struct{}
	last  backendapi.Status
	err   error
	until time.Time
}

func newPublicStatus(frontend *hop.Client, sign func(identity.Person) string) *publicStatus {
	return &publicStatus{frontend: frontend, sign: sign, turn: make(chan struct{}, 1)}
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
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return backendapi.Status{}, ctx.Err()
	}

	if time.Now().Before(p.until) {
		return p.last, p.err
	}

	var s backendapi.Status
	header := http.Header{
		"Authorization": {identity.Authorization(p.sign(identity.Person{}))},
	}

	// The answer is for those who wait, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTime)
	defer cancel()
	err := p.frontend.JSON(ctx, http.MethodGet, "/api/status", nil, &s, header)

	// Details are of no use to a stranger but to find a way in.
	for i, service := range s.Services {
		s.Services[i] = backendapi.ServiceStatus{Name: service.Name, Status: service.Status}
	}

	p.last, p.err, p.until = s, err, time.Now().Add(statusAge)
	return s, err
}
