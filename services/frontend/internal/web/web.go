// Package web is the web UI's HTTP side: pages, fragments, the answer's event stream and the proxy to the backend.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// App is the web UI.
type App struct {
	cfg     contract.Frontend
	log     *slog.Logger
	backend *hop.Client
}

// New makes the web UI.
func New(cfg contract.Frontend, log *slog.Logger) (*App, error) {
	return &App{cfg: cfg, log: log, backend: hop.New("backend", cfg.BackendURL)}, nil
}

// Register adds the routes to the server.
func (a *App) Register(s *server.Server) {
	s.Liveness("/healthz")
	s.Readiness("/ready", map[string]server.Check{"backend": a.ready})
	if a.cfg.Debug {
		s.Profiling()
	}
}

func (a *App) ready(ctx context.Context) error {
	if err := a.backend.JSON(ctx, http.MethodGet, "/health", nil, nil, nil); err != nil {
		return fmt.Errorf("the backend does not answer: %w", err)
	}
	return nil
}

// Drain ends the event streams, whose browsers resume them elsewhere.
func (a *App) Drain(context.Context) error { return nil }
