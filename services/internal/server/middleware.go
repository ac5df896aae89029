package server

import (
	"crypto/rand"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(reg *prometheus.Registry, service string) *metrics {
	labels := prometheus.Labels{"service": service}
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name:        "http_requests_total",
			ConstLabels: labels,
			Help:        "Requests answered, by route pattern, method and status code.",
		}, []string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "http_request_duration_seconds",
			ConstLabels: labels,
			Help: "Time from the request's header to the end of its response; of a " +
				"stream, to its last event.",
			Buckets: []float64{
				.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300,
			},
		}, []string{"route"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name:        "http_requests_in_flight",
			ConstLabels: labels,
			Help:        "Requests being answered now.",
		}),
	}
}

// middleware gives a request its id, refuses it while the server starts or drains, logs and counts
// it, and turns a panic into a problem.
func (s *Server) middleware(mux *http.ServeMux) http.Handler {
	guarded := http.Handler(mux)
	if s.guard != nil {
		guarded = s.guard(mux)
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get(wire.RequestIDHeader)
		if !validRequestID(id) {
			id = rand.Text()
		}

		ctx := logging.WithRequestID(r.Context(), id)
		r = r.WithContext(ctx)
		w.Header().Set(wire.RequestIDHeader, id)
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}

		refused, reason := s.refusal(r)
		rec := &recorder{ResponseWriter: w, timeout: s.timeouts.piece}
		s.metrics.inFlight.Inc()
		unmatched, route := mux.Handler(r)
		tunnel := r.Method == http.MethodConnect && s.connect != nil
		switch {
		case tunnel:
			route = "tunnel"
		case route == "":
			route = "none"
		}

		defer func() {
			s.metrics.inFlight.Dec()
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.log.ErrorContext(ctx, "panic", "panic", p, "stack", string(debug.Stack()))
				if rec.status == 0 {
					problem.Write(rec, r,
						problem.New(http.StatusInternalServerError,
							"Something went wrong here. The logs have more under the request's id."))
				} else {
					// half a response must not look like a whole one
					defer panic(http.ErrAbortHandler)
				}
			} else if p != nil {
				defer panic(p)
			}

			code := rec.status
			if code == 0 {
				code = http.StatusOK
			}

			elapsed := time.Since(start)
			s.metrics.requests.WithLabelValues(route, method(r.Method), strconv.Itoa(code)).Inc()
			s.metrics.duration.WithLabelValues(route).Observe(elapsed.Seconds())
			log := s.log.InfoContext
			if probe(r.URL.Path) && code < 400 {
				log = s.log.DebugContext // probes come every few seconds
			}

			path, _, secret := strings.Cut(r.URL.Path, wire.APIKeyPrefix)
			if secret {
				path += wire.APIKeyPrefix + "..."
			}
			if slices.ContainsFunc(s.private, func(p string) bool { return strings.HasPrefix(path, p) }) {
				path = route[strings.Index(route, " ")+1:]
			}

			log(ctx, "request", "method", r.Method, "path", path, "status", code, "bytes",
				rec.bytes,
				"ms", wire.Milliseconds(elapsed))
		}()

		if s.tls != nil && !mtls.Known(r.TLS) && !s.open[r.URL.Path] {
			w.Header().Set("Connection", "close")
			problem.Write(rec, r, problem.New(http.StatusForbidden,
				"Show a certificate of the stack's authority."))
			return
		}

		if refused != nil {
			refuse(rec, r, refused, reason)
			return
		}

		if tunnel {
			s.connect.ServeHTTP(rec, r)
			return
		}
		if route == "none" {
			notRouted(rec, r, unmatched)
			return
		}

		body := expected(r)
		if tool(r.URL.Path) {
			mux.ServeHTTP(rec, r)
		} else {
			guarded.ServeHTTP(rec, r)
		}
		body.linger(rec)
	})
}

// notRouted answers a request that matches no route with a problem. unmatched is the mux's own
// handler for it: it knows whether the path exists with other methods, but answers in plain text.
func notRouted(w http.ResponseWriter, r *http.Request, unmatched http.Handler) {
	answer := &discarded{header: http.Header{}}
	unmatched.ServeHTTP(answer, r)
	if answer.status != http.StatusMethodNotAllowed {
		problem.Write(w, r, problem.New(http.StatusNotFound, "There is nothing at this path."))
		return
	}

	allow := answer.header.Get("Allow")
	w.Header().Set("Allow", allow)
	problem.Write(w, r, problem.New(http.StatusMethodNotAllowed, "This path takes %s.", allow))
}

// discarded is a response of which only the header and the status are kept.
type discarded struct {
	header http.Header
	status int
}

func (v *discarded) Header() http.Header         { return v.header }
func (v *discarded) WriteHeader(code int)        { v.status = code }
func (v *discarded) Write(b []byte) (int, error) { return len(b), nil }

// method returns m if it is a known method, else "other": a client may send any word, and the
// label's values have to be bounded.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

func probe(path string) bool {
	switch path {
	case "/health", "/healthz", "/ready", "/metrics":
		return true
	}
	return false
}

// tool reports whether the path is for the stack's own tools, which the edge does not let in.
func tool(path string) bool { return probe(path) || strings.HasPrefix(path, "/debug/") }

// validRequestID reports whether id may be used: it accepts what proxies and tracing tools make,
// and nothing that could forge a log line.
func validRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}

	for _, c := range []byte(id) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_',
			c == '.':
		default:
			return false
		}
	}

	return true
}

// recorder records the status and size of a response, and lets go of a client that does not read
// it. Unwrap lets http.ResponseController reach the connection.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64

	// timeout bounds the writing of a piece. It is 0 where the handler sets deadlines of its own.
	timeout time.Duration
}

func (r *recorder) WriteHeader(code int) {
	if r.status == 0 && code >= 200 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}

	n := 0
	for {
		piece := b[n:min(len(b), n+maxPiece)]
		if r.timeout > 0 {
			// A response without a connection, as in a test, has no deadline.
			_ = r.controller().SetWriteDeadline(time.Now().Add(r.timeout))
		}

		written, err := r.ResponseWriter.Write(piece)
		n += written
		r.bytes += int64(written)
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// SetWriteDeadline is what http.ResponseController calls.
func (r *recorder) SetWriteDeadline(deadline time.Time) error {
	r.timeout = 0
	return r.controller().SetWriteDeadline(deadline)
}

func (r *recorder) controller() *http.ResponseController {
	return http.NewResponseController(r.ResponseWriter)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
