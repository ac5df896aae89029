// Package server is the life of an HTTP service: it listens, answers the probes and /metrics, gives
// every request an id, and drains before it stops.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is one HTTP service. Register routes with Handle before Run.
type Server struct {
	name     string
	log      *slog.Logger
	drain    time.Duration
	mux      *http.ServeMux
	metrics  *metrics
	registry *prometheus.Registry
	draining atomic.Bool

	// starting is true until all of starts have passed once; asked is closed when they were
	// asked for the first time.
	starting atomic.Bool
	starts   map[string]Check
	asked    chan struct{}

	// base is the parent of every request's context; it is cancelled when the drain is over.
	base       context.Context
	cancelBase context.CancelFunc
}

// Check finds out whether something the service depends on works. It returns within
// its context's deadline.
type Check func(ctx context.Context) error

// New makes a server whose name labels its metrics. drain bounds the wait for requests in
// flight when it stops.
func New(name string, log *slog.Logger, drain time.Duration) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	base, cancel := context.WithCancel(context.Background())
	s := &Server{name: name, log: log, drain: drain, mux: http.NewServeMux(), registry: reg,
		metrics: newMetrics(reg, name), base: base, cancelBase: cancel}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return s
}

// Registry is where the service registers metrics of its own.
func (s *Server) Registry() *prometheus.Registry { return s.registry }

// Handle registers a route: a pattern of http.ServeMux.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// HandleFunc registers a route: a pattern of http.ServeMux.
func (s *Server) HandleFunc(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// Liveness answers 200 at the path as long as the process serves: it asks nobody else, so that an
// outage of a dependency does not restart the service.
func (s *Server) Liveness(path string) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, mlapi.Readiness{Status: "ok", Checks: map[string]string{}})
	})
}

// readyTimeout bounds all checks of one readiness request together.
const readyTimeout = 2 * time.Second

// Readiness answers 200 at the path when every check passes and the server is
// not draining, else 503.
func (s *Server) Readiness(path string, checks map[string]Check) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		said, ok := ask(ctx, checks)
		out, status := mlapi.Readiness{Status: "ready", Checks: said}, http.StatusOK
		switch {
		case s.draining.Load():
			out.Status, status = "draining", http.StatusServiceUnavailable
		case !ok:
			out.Status, status = "not ready", http.StatusServiceUnavailable
		case !s.start(ctx):
			out.Status, status = "starting", http.StatusServiceUnavailable
		}

		writeJSON(w, status, out)
	})
}

// ask runs all checks at once and returns what each said, and whether all passed.
func ask(ctx context.Context, checks map[string]Check) (said map[string]string, ok bool) {
	type result struct {
		name string
		err  error
	}

	results := make(chan result, len(checks))
	for name, check := range checks {
		go func() { results <- result{name, check(ctx)} }()
	}

	said, ok = map[string]string{}, true
	for range checks {
		res := <-results
		said[res.name] = "ok"
		if res.err != nil {
			said[res.name], ok = res.err.Error(), false
		}
	}

	return said, ok
}

// Profiling adds /debug/pprof.
func (s *Server) Profiling() {
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// Draining says that the server was told to stop and accepts no new long work.
func (s *Server) Draining() bool { return s.draining.Load() }

// Handler is the whole service with its middleware, for tests and for Run.
func (s *Server) Handler() http.Handler { return s.middleware(s.mux) }

// Run serves on addr until ctx is cancelled, then drains: readiness turns 503, the listener and
// idle connections close, and what arrives over the other connections is refused, so that callers
// go elsewhere. Requests in flight get up to the drain time, after which their contexts are
// cancelled. Work that outlives requests is waited for by the drained functions, called in order
// with what is left of the drain time while requests still finish.
//
// The listener closes at once because nothing else takes a stopping container out of rotation on
// Docker: its name keeps resolving to it, and a connection that is refused sends the caller to
// the next address. On Kubernetes the pod has been out of rotation for some seconds when it is
// told to stop (preStop).
func (s *Server) Run(
	ctx context.Context, addr string, drained ...func(context.Context) error,
) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	return s.Serve(ctx, l, drained...)
}

// Serve is Run on a listener that exists.
func (s *Server) Serve(
	ctx context.Context, l net.Listener, drained ...func(context.Context) error,
) error {
	defer s.cancelBase()
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second, // a request's body; streams are only ever written
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return s.base },
	}

	open := countConnections(srv)
	l = &closedOnce{Listener: l, close: sync.OnceValue(l.Close)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	s.log.Info("listening", "addr", l.Addr().String())
	go s.awaitStart(ctx)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}

	s.draining.Store(true)
	s.log.Info("draining", "timeout", s.drain.String())
	start := time.Now()
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	_ = l.Close()
	// closes the idle connections, and each other one after its response
	srv.SetKeepAlivesEnabled(false)
	shut := make(chan error, 1)
	go func() {
		// From here on the server drops what it reads, without an answer: that is only for
		// connections that stay silent.
		open.awaitNone(dctx, politeness)
		shut <- srv.Shutdown(dctx)
	}()

	var errs []error
	for _, f := range drained {
		errs = append(errs, f(dctx))
	}

	if err := <-shut; err != nil {
		// the handlers see it and end their streams with an error the reader can resume from
		s.cancelBase()
		errs = append(errs, fmt.Errorf("drain: requests were still in flight after %s", s.drain),
			srv.Close())
	}

	s.log.Info("stopped", "after", time.Since(start).Round(time.Millisecond).String())
	return errors.Join(errs...)
}
