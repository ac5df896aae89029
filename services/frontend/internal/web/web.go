// Package web is the HTTP side of the web UI: pages, fragments of pages, the event stream of an
// answer and the proxy to the backend's API. Every page works without JavaScript; the scripts in
// static/ only spare reloads.
package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"

	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/markdown"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// App is the web UI.
type App struct {
	cfg      frontendenv.Config
	log      *slog.Logger
	backend  *client
	md       *markdown.Renderer
	assets   *assets
	pages    *pages
	domain   domain.Texts
	csrf     *http.CrossOriginProtection
	backbase *url.URL

	// draining is closed when the service stops: event streams end, and their
	// browsers reconnect elsewhere.
	draining  chan struct{}
	drainOnce sync.Once
}

// New returns the web UI. It fails only on an invalid BACKEND_URL or a faulty build.
func New(cfg frontendenv.Config, texts domain.Texts, log *slog.Logger) (*App, error) {
	base, err := url.Parse(cfg.BackendURL)
	if err != nil {
		return nil, fmt.Errorf("BACKEND_URL: %w", err)
	}

	a := &App{
		cfg:      cfg,
		log:      log,
		backend:  newClient(cfg.BackendURL),
		md:       markdown.New(),
		domain:   texts,
		backbase: base,
		csrf:     http.NewCrossOriginProtection(),
		draining: make(chan struct{}),
	}

	if a.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if a.pages, err = loadPages(a.assets); err != nil {
		return nil, err
	}

	a.csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, http.StatusForbidden, "This request came from another site and was refused.")
	}))
	return a, nil
}

// Secure makes the app speak TLS with the backend; nil changes nothing. It must be called
// before the first request.
func (a *App) Secure(config *tls.Config) { a.backend.hop.Secure(config) }

// Register adds the routes to the server.
func (a *App) Register(s *server.Server) {
	s.Liveness("/healthz")
	// Readiness asks nothing: pages work without the backend, and show that it is away.
	s.Readiness("/ready", nil)
	a.backend.hop.Register(s.Registry())
	if a.cfg.Debug {
		s.Profiling()
	}

	for pattern, h := range a.routes() {
		s.Handle(pattern, a.protect(h))
	}
}

// routes returns what answers each pattern of http.ServeMux.
func (a *App) routes() map[string]http.Handler {
	all := map[string]http.Handler{
		"GET /static/{hash}/{name}": a.assets,
		"/api/":                     a.signed(a.proxy()),
	}
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /{$}":                   a.home,
		"GET /c/{id}":                a.conversation,
		"GET /c/{id}/edit":           a.edit,
		"GET /c/{id}/edit/{answer}":  a.question,
		"POST /c/{id}/replace":       a.chat,
		"POST /c/{id}/rename":        a.rename,
		"POST /c/{id}/delete":        a.remove,
		"POST /chat":                 a.chat,
		"POST /c/{id}/rate/{answer}": a.rate,
		"GET /c/{id}/rate/{answer}":  a.ratingForm,
		"GET /submissions":           a.submissions,
		"GET /review":                a.review,
		"POST /review/{answer}":      a.decide,

		"POST /c/{id}/rate/{answer}/submit":   a.submit,
		"POST /submissions/{answer}/withdraw": a.withdraw,

		"GET /generations/{id}/events": a.events,
		"POST /generations/{id}/stop":  a.stop,
		"POST /theme":                  a.theme,
		"GET /search":                  a.search,
		"GET /passages/{id}":           a.passage,
		"GET /fragments/passages/{id}": a.passageFragment,
		"GET /status":                  a.status,
		"GET /fragments/sidebar":       a.sidebarFragment,
		"GET /fragments/model":         a.modelFragment,
		"GET /fragments/status":        a.statusFragment,
		"/":                            a.notFound,
	} {
		all[pattern] = a.signed(h)
	}

	return all
}

// Drain ends the event streams; their browsers reconnect and find another replica.
func (a *App) Drain(context.Context) error {
	a.drainOnce.Do(func() { close(a.draining) })
	return nil
}
