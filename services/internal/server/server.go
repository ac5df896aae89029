// Package server runs an HTTP service: it listens, answers the probes and /metrics, gives every
// request an id, and drains before it stops.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is an HTTP service. Routes are registered before Run.
type Server struct {
	name     string
	log      *slog.Logger
	drain    time.Duration
	mux      *http.ServeMux
	metrics  *metrics
	registry *prometheus.Registry
	draining atomic.Bool

	timeouts timeouts

	// guard stands before every route but those for the stack's own tools; nil lets all through.
	guard func(http.Handler) http.Handler

	// tls is what it speaks TLS with; nil is plain HTTP. open are the paths that it answers to who
	// has not shown who it is.
	tls  *tls.Config
	open map[string]bool

	// connect answers CONNECT; nil refuses it.
	connect http.Handler

	// private begin the paths of which the log has the route alone.
	private []string

	// starting is true until all checks of starts have passed once. checked is closed when they
	// have run for the first time.
	starting atomic.Bool
	starts   map[string]Check
	checked  chan struct{}

	// base is the parent of every request's context. It is cancelled when the drain is over.
	base       context.Context
	cancelBase context.CancelFunc
}

// timeouts bound how long a client holds a connection that it does not use.
type timeouts struct {
	// header and request are the times in which a request's header comes, and all of it.
	header, request time.Duration

	// piece is the time in which the client reads a piece of its response, of maxPiece bytes at
	// most. There is no bound for a whole one: a stream lasts as long as an answer.
	piece time.Duration
}

const maxPiece = 64 << 10

// Check returns an error if something that the service depends on does not work. It returns within
// the deadline of its context.
type Check func(ctx context.Context) error

// New returns a server whose name labels its metrics. drain bounds the wait for requests in
// flight when it stops.
func New(name string, log *slog.Logger, drain time.Duration) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	base, cancel := context.WithCancel(context.Background())
	s := &Server{name: name, log: log, drain: drain, mux: http.NewServeMux(), registry: reg,
		metrics: newMetrics(reg, name), base: base, cancelBase: cancel, open: map[string]bool{},
		timeouts: timeouts{header: 10 * time.Second, request: time.Minute, piece: time.Minute}}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return s
}

// Registry returns the registry for metrics of the service itself.
func (s *Server) Registry() *prometheus.Registry { return s.registry }

// Handle registers a route: a pattern of http.ServeMux.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// HandleFunc registers a route: a pattern of http.ServeMux.
func (s *Server) HandleFunc(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// Guard puts the handler that wrap makes before every route but the probes, the metrics and
// /debug/. It must be called before Run.
func (s *Server) Guard(wrap func(http.Handler) http.Handler) { s.guard = wrap }

// Private has the log name the routes of requests, and not the paths, if those begin with the
// prefix: what follows it may say something of people. It must be called before Run.
func (s *Server) Private(prefix string) { s.private = append(s.private, prefix) }

// Secure makes the server speak TLS alone; nil changes nothing. Who shows no certificate is
// answered the paths of Liveness and Readiness, for the probes of a cluster, and refused all else.
// It must be called before Run.
func (s *Server) Secure(config *tls.Config) { s.tls = config }

// Connect has the handler answer the method CONNECT, which has no path. It must be called before
// Run.
func (s *Server) Connect(h http.Handler) { s.connect = h }

// Liveness answers 200 at the path while the process serves. It depends on nothing else, so that an
// outage of a dependency does not restart the service.
func (s *Server) Liveness(path string) {
	s.open[path] = true
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteJSON(w, http.StatusOK, wire.Readiness{Status: "ok", Checks: map[string]string{}})
	})
}

// readyTimeout bounds all checks of one readiness request together.
const readyTimeout = 2 * time.Second

// Readiness answers 200 at the path if every check passes and the server is neither draining
// nor starting, else 503.
func (s *Server) Readiness(path string, checks map[string]Check) {
	s.open[path] = true
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		results, ok := runChecks(ctx, checks)
		out, status := wire.Readiness{Status: wire.StatusReady, Checks: results}, http.StatusOK
		switch {
		case s.draining.Load():
			out.Status, status = "draining", http.StatusServiceUnavailable
		case !ok:
			out.Status, status = "not ready", http.StatusServiceUnavailable
		case !s.start(ctx):
			out.Status, status = "starting", http.StatusServiceUnavailable
		}

		wire.WriteJSON(w, status, out)
	})
}

// runChecks runs all checks at once. It returns the result of each, and whether all passed.
func runChecks(ctx context.Context, checks map[string]Check) (results map[string]string, ok bool) {
	type result struct {
		name string
		err  error
	}

	done := make(chan result, len(checks))
	for name, check := range checks {
		go func() { done <- result{name, check(ctx)} }()
	}

	results, ok = map[string]string{}, true
	for range checks {
		res := <-done
		results[res.name] = wire.CheckOK
		if res.err != nil {
			results[res.name], ok = res.err.Error(), false
		}
	}

	return results, ok
}

// Profiling registers the routes of /debug/pprof.
func (s *Server) Profiling() {
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// Draining reports whether the server is stopping and accepts no new long work.
func (s *Server) Draining() bool { return s.draining.Load() }

// Handler returns the whole service with its middleware.
func (s *Server) Handler() http.Handler { return s.middleware(s.mux) }

// Run serves on addr until ctx is cancelled, then drains: readiness turns 503, the listener and
// idle connections close, and new requests on the other connections are refused, so that callers go
// elsewhere. Requests in flight get up to the drain time, after which their contexts are cancelled.
// The drained functions wait for work that outlives requests. They are called in order, with what
// is left of the drain time, while requests still finish.
//
// The listener closes at once because nothing else takes a stopping container out of rotation on
// Docker: its name keeps resolving to it, and a refused connection sends the caller to the next
// address. On Kubernetes the pod has been out of rotation for some seconds (preStop).
func (s *Server) Run(
	ctx context.Context, addr string, drained ...func(context.Context) error,
) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	return s.Serve(ctx, l, drained...)
}

// Serve is like Run on an existing listener.
func (s *Server) Serve(
	ctx context.Context, l net.Listener, drained ...func(context.Context) error,
) error {
	defer s.cancelBase()
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.timeouts.header,
		ReadTimeout:       s.timeouts.request, // streams are only ever written
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return s.base },
	}

	open := countConnections(srv)
	l = &closedOnce{Listener: l, close: sync.OnceValue(l.Close)}
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}

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
	// This closes the idle connections, and every other one after its response.
	srv.SetKeepAlivesEnabled(false)
	shut := make(chan error, 1)
	go func() {
		// From Shutdown on the server drops what it reads without an answer, which suits only
		// connections that stay silent.
		open.awaitNone(dctx, politeness)
		shut <- srv.Shutdown(dctx)
	}()

	var errs []error
	for _, f := range drained {
		errs = append(errs, f(dctx))
	}

	if err := <-shut; err != nil {
		// The handlers end their streams with an error from which readers can resume.
		s.cancelBase()
		errs = append(errs, fmt.Errorf("drain: requests were still in flight after %s", s.drain),
			srv.Close())
	}

	s.log.Info("stopped", "after", time.Since(start).Round(time.Millisecond).String())
	return errors.Join(errs...)
}
