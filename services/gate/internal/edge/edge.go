// Package edge tells the edge from others that connect to the gate. What the edge says of a
// request's address, scheme and host in the headers X-Forwarded-... is believed, and nobody else's
// word. The edge is who has an address to which its name resolves: on an engine's network a container
// can neither take another's name nor its address.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// every is the time between two lookups while nobody is in doubt.
	every = 5 * time.Second

	// between is the least time between two lookups. Who is in doubt waits for the next one.
	between = time.Second

	// patience bounds a lookup.
	patience = 2 * time.Second

	// kept is how long addresses are believed while the name cannot be looked up.
	kept = 15 * time.Second

	// quiet is the least time between two lines of the log about others than the edge.
	quiet = 10 * time.Second
)

// headers are those that the edge sets.
var headers = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// Watch knows the addresses of the edge, which change when it is replaced.
type Watch struct {
	host   string
	log    *slog.Logger
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	last   atomic.Pointer[answer]

	// turn is held by the one who looks up, and has the time when the last lookup began.
	turn chan time.Time

	// ignored counts the requests of others than the edge since the log had a line about them, at the
	// time logged. mu guards both.
	mu      sync.Mutex
	logged  time.Time
	ignored int
}

// answer is what a lookup found, and when.
type answer struct {
	addresses []netip.Addr
	at        time.Time
}

// NewWatch returns a Watch of the host, which knows of no address yet.
func NewWatch(host string, log *slog.Logger) *Watch {
	w := &Watch{host: host, log: log, turn: make(chan time.Time, 1)}
	w.lookup = net.DefaultResolver.LookupNetIP
	w.last.Store(&answer{})
	w.turn <- time.Time{}
	return w
}

// Run looks the edge up every five seconds until the context ends, so that an address that it no
// longer has is not believed for longer.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Guard returns a handler that takes the headers of the edge from requests that others make. They
// are answered as if they had none.
func (w *Watch) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if claims(r) && !w.is(r.Context(), r.RemoteAddr) {
			w.say(r)
			r = r.Clone(r.Context())
			for _, h := range headers {
				r.Header.Del(h)
			}
		}

		next.ServeHTTP(rw, r)
	})
}

// say logs that the headers of the request are ignored, or counts it for the next line.
func (w *Watch) say(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ignored++
	if time.Since(w.logged) < quiet {
		return
	}

	w.log.WarnContext(r.Context(), "not the edge: its X-Forwarded headers are ignored",
		"address", r.RemoteAddr, "requests", w.ignored)
	w.logged, w.ignored = time.Now(), 0
}

// claims reports whether the request has one of the edge's headers.
func claims(r *http.Request) bool {
	return slices.ContainsFunc(headers, func(h string) bool { return r.Header[h] != nil })
}

// is reports whether the edge is at the address, which has a port. An address that is not known is
// looked up: the edge may have got it a moment ago.
func (w *Watch) is(ctx context.Context, address string) bool {
	peer, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}

	a := peer.Addr().Unmap().WithZone("")
	if w.knows(a) {
		return true
	}

	w.look(ctx)
	return w.knows(a)
}

func (w *Watch) knows(a netip.Addr) bool {
	last := w.last.Load()
	return time.Since(last.at) < kept && slices.Contains(last.addresses, a)
}

// look looks the name up, or waits for somebody else's lookup that begins later than this call.
func (w *Watch) look(ctx context.Context) {
	came := time.Now()
	var began time.Time
	select {
	case began = <-w.turn:
	case <-ctx.Done():
		return
	}
	defer func() { w.turn <- began }()

	if began.After(came) {
		return
	}

	select {
	case <-time.After(time.Until(began.Add(between))):
	case <-ctx.Done():
		return
	}

	// Others wait for it, so a request that ends does not end it.
	began = time.Now()
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	found, err := w.lookup(looking, "ip", w.host)
	var fault *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &fault) && fault.IsNotFound: // there is no edge, or not yet
	default:
		// Whether there is an edge is not known: an engine passes a name that it does not have on to
		// the host's resolver, which may time out while the edge is gone. Its last addresses, which
		// another container may get then, count for as long as they are kept.
		w.log.WarnContext(ctx, "look up the edge", "error", err)
		return
	}

	for i, a := range found {
		found[i] = a.Unmap()
	}
	w.last.Store(&answer{found, began})
}
