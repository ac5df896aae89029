// Package logging provides the structured logger of the services: JSON lines of log/slog on stderr,
// with the service's name, and on every line that belongs to a request its id.
package logging

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// New returns a logger for the service. level is debug, info, warn or error; anything else
// means info, as the environment contract refuses it earlier. debug overrides level and
// adds source positions.
func New(w io.Writer, service, level string, debug bool) *slog.Logger {
	l := slog.LevelInfo
	switch strings.ToLower(level) {
	case "debug":
		l = slog.LevelDebug
	case "warn":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	}

	if debug {
		l = slog.LevelDebug
	}

	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l, AddSource: debug})
	return slog.New(&handler{h}).With("service", service)
}

type requestIDKey struct{}

// WithRequestID returns a context that carries the request's id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id that WithRequestID stored, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// handler adds the request id of the context to each record.
type handler struct{ slog.Handler }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler { return &handler{h.Handler.WithGroup(name)} }
