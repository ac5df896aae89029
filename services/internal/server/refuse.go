package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const (
	// politeness is how long a draining server answers new requests on open connections.
	politeness = time.Second

	// startEvery is the time between two runs of the checks of StartWhen.
	startEvery = 200 * time.Millisecond

	// refusedBody is how much of a refused request's body is read. A client that still writes when
	// the connection closes may never see the answer.
	refusedBody = 1 << 20
)

// StartWhen makes the server refuse everything but probes until every check has passed once, so
// that an instance that cannot work yet gets no traffic. Later outages of the dependencies are left
// to the handlers. It must be called before Run.
func (s *Server) StartWhen(checks map[string]Check) {
	s.starts, s.checked = checks, make(chan struct{})
	s.starting.Store(len(checks) > 0)
}

// awaitStart runs the checks of StartWhen until requests are accepted.
func (s *Server) awaitStart(ctx context.Context) {
	if !s.starting.Load() {
		return
	}

	tick := time.NewTicker(startEvery)
	defer tick.Stop()
	started := s.start(ctx)
	close(s.checked)
	for !started {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			started = s.start(ctx)
		}
	}
}

// start accepts requests if all checks of StartWhen pass, and reports whether they are accepted.
func (s *Server) start(ctx context.Context) bool {
	if !s.starting.Load() {
		return true
	}

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if _, ok := runChecks(ctx, s.starts); !ok {
		return false
	}
	if s.starting.CompareAndSwap(true, false) {
		s.log.Info("started")
	}

	return true
}

// refusal returns why a request is refused before its handler, or nil. A request that arrives while
// the checks of StartWhen run for the first time waits for them.
func (s *Server) refusal(r *http.Request) (*problem.Problem, string) {
	if tool(r.URL.Path) {
		return nil, ""
	}

	if s.starting.Load() {
		select {
		case <-s.checked:
		case <-r.Context().Done():
		}
	}

	switch {
	case s.draining.Load():
		return problem.Draining("This instance is being stopped. Try again."), wire.RefusedDraining
	case s.starting.Load():
		p := problem.Typed(problem.TypeStarting, http.StatusServiceUnavailable,
			"This instance is being started. Try again in a moment.")
		p.RetryAfter = 1
		return p, wire.RefusedStarting
	}

	return nil, ""
}

// refuse answers with the refusal and closes the connection, so that the next request
// finds another instance.
func refuse(w http.ResponseWriter, r *http.Request, p *problem.Problem, reason string) {
	if r.Header.Get("Expect") == "" { // else the client waits, and can send it to another instance
		_, _ = io.CopyN(io.Discard, r.Body, refusedBody)
	}

	w.Header().Set(wire.RefusedHeader, reason)
	w.Header().Set("Connection", "close")
	problem.Write(w, r, p)
}

// connections counts the open connections of a server.
type connections struct{ n atomic.Int64 }

func countConnections(srv *http.Server) *connections {
	c := &connections{}
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.n.Add(1)
		case http.StateClosed, http.StateHijacked:
			c.n.Add(-1)
		}
	}

	return c
}

// awaitNone returns when no connection is open, or after the given time.
func (c *connections) awaitNone(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.n.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// closedOnce is a listener that may be closed more than once: the server closes it
// before Shutdown does.
type closedOnce struct {
	net.Listener
	close func() error
}

func (c *closedOnce) Close() error { return c.close() }
