// Package maintenance shows people a page, and programs an error, while something is done to the
// stack. An operator puts up a notice, which Redis keeps, so that it outlives every container.
package maintenance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/openai"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// key is where Redis has the notice. A restore puts one there as well: see package backups of
// codexctl.
const key = "gate:maintenance"

const (
	// every is how often each gate looks for the notice, and patience how long it waits for Redis.
	every    = time.Second
	patience = 5 * time.Second

	// retryAfter is when clients may come again, in seconds.
	retryAfter = 30

	// maxMessage bounds a message, in characters.
	maxMessage = 500
)

// Standard is the message of a notice without one.
const Standard = "This site is being worked on. It will be back soon."

// Notice says that people have to wait.
type Notice struct {
	Message string `json:"message"`

	// By is the name of who put it up, as the machine of codexctl has it.
	By    string    `json:"by"`
	Since time.Time `json:"since"`
}

// New returns a notice with the message, or with Standard if that is empty.
func New(message, by string, now time.Time) (*Notice, error) {
	switch {
	case message == "":
		message = Standard
	case !utf8.ValidString(message) || strings.ContainsFunc(message, unicode.IsControl):
		return nil, errors.New("the message must be one line of text")
	case utf8.RuneCountInString(message) > maxMessage:
		return nil, fmt.Errorf("the message has %d characters, and may have %d",
			utf8.RuneCountInString(message), maxMessage)
	}
	return &Notice{Message: message, By: by, Since: now.UTC().Truncate(time.Second)}, nil
}

// Get returns the notice, or nil if there is none.
func Get(ctx context.Context, st *store.Store) (*Notice, error) {
	text, err := st.Get(ctx, key)
	if err != nil || text == "" {
		return nil, err
	}

	n := &Notice{}
	if err := json.Unmarshal([]byte(text), n); err != nil {
		return nil, fmt.Errorf("the notice of maintenance: %w", err)
	}
	return n, nil
}

// Put puts the notice up; nil takes it down.
func Put(ctx context.Context, st *store.Store, n *Notice) error {
	if n == nil {
		_, err := st.Delete(ctx, key)
		return err
	}

	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return st.Set(ctx, key, string(text), 0)
}

// Watch knows the notice. While Redis is away it knows the last one.
type Watch struct {
	store *store.Store
	log   *slog.Logger
	now   atomic.Pointer[Notice]
}

// NewWatch returns a Watch that knows of no notice yet.
func NewWatch(st *store.Store, log *slog.Logger) *Watch { return &Watch{store: st, log: log} }

// Look looks for the notice.
func (w *Watch) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := Get(ctx, w.store)
	if err != nil {
		return err
	}
	if before := w.now.Swap(n); (before == nil) != (n == nil) {
		w.log.Info("maintenance", "on", n != nil)
	}
	return nil
}

// Run looks for the notice until the context ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = w.Look(ctx) // the last one counts while Redis is away
		}
	}
}

// Guard returns a handler that answers with the notice while there is one, but for what open lets
// through. Requests that go on already are left alone.
func (w *Watch) Guard(
	p *pages.Pages, open func(*http.Request) bool, next http.Handler,
) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := w.now.Load()
		switch {
		case n == nil || open(r):
			next.ServeHTTP(rw, r)
		case strings.HasPrefix(r.URL.Path, "/v1/"):
			openai.Unavailable(rw, "maintenance", n.Message, retryAfter)
		case strings.Contains(r.Header.Get("Accept"), "text/html"):
			rw.Header().Set("Retry-After", fmt.Sprint(retryAfter))
			p.Render(rw, r, http.StatusServiceUnavailable, "maintenance",
				pages.Page{Title: "Back soon", Main: n})
		default:
			f := problem.New(http.StatusServiceUnavailable, "%s", n.Message)
			f.RetryAfter = retryAfter
			problem.Write(rw, r, f)
		}
	})
}
