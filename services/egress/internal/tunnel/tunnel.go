// Package tunnel connects clients to the destinations of a list, by HTTP CONNECT.
//
// What goes through a tunnel is TLS, mostly: it is neither read nor logged. Who asked for what is.
package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// Bounds of what goes through.
const (
	// most is how many tunnels there are at once.
	most = 64

	// dialTimeout bounds the look-up of the name and the connection together.
	dialTimeout = 10 * time.Second

	// idle is how long a tunnel stays in which nothing moves, longest how long any.
	idle, longest = 2 * time.Minute, time.Hour
)

// errAddress reports an address that a name of the list must not have.
var errAddress = errors.New("is no address of the internet")

// Handler answers CONNECT. Others than the destinations of its list are refused.
type Handler struct {
	destinations map[string]bool
	private      bool
	log          *slog.Logger
	open         chan struct{}

	idle, longest time.Duration
}

// New returns a handler for the destinations, host:port each. private lets their names have
// addresses of private networks.
func New(destinations []string, private bool, log *slog.Logger) *Handler {
	h := &Handler{
		destinations: map[string]bool{},
		private:      private,
		log:          log,
		open:         make(chan struct{}, most),
		idle:         idle,
		longest:      longest,
	}
	for _, d := range destinations {
		h.destinations[d] = true
	}
	return h
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	log := h.log.With("destination", r.Host, "client", r.RemoteAddr)
	refuse := func(status int, why string) {
		log.WarnContext(r.Context(), "refused", "why", why)
		problem.Write(w, r, problem.New(status, "%s", why))
	}

	if !h.destinations[strings.ToLower(r.Host)] {
		refuse(http.StatusForbidden, "The settings of the stack do not name this destination.")
		return
	}

	select {
	case h.open <- struct{}{}:
		defer func() { <-h.open }()
	default:
		refuse(http.StatusServiceUnavailable, fmt.Sprintf("There are %d tunnels already.", most))
		return
	}

	there, err := h.dial(r.Context(), strings.ToLower(r.Host))
	if errors.Is(err, errAddress) {
		refuse(http.StatusForbidden, "The destination's name leads into a private network.")
		return
	}
	if err != nil {
		refuse(http.StatusBadGateway, "The destination cannot be reached: "+err.Error())
		return
	}
	defer there.Close()

	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		log.ErrorContext(r.Context(), "tunnel", "error", err)
		return
	}
	defer here.Close()

	start := time.Now()
	sent, received := h.join(here, buffered.Reader, there)
	log.InfoContext(r.Context(), "tunnel", "sent", sent, "received", received,
		"ms", time.Since(start).Milliseconds())
}

// Wait waits for the tunnels that are open, and no longer than the context lasts. They are cut then:
// one in which nothing moves, as clients keep for later, would hold up a stop.
func (h *Handler) Wait(ctx context.Context) error {
	for range cap(h.open) { // who has every place has waited for all
		select {
		case h.open <- struct{}{}:
		case <-ctx.Done():
			h.log.Info("tunnels are cut")
			return nil
		}
	}
	return nil
}

// dial connects to a destination of the list. The addresses that a name has are looked at one by
// one, when they are connected to, so that none can take another's place.
func (h *Handler) dial(ctx context.Context, destination string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(destination)
	if err != nil {
		return nil, err
	}

	d := net.Dialer{Timeout: dialTimeout}
	if _, err := netip.ParseAddr(host); err != nil { // the list says no address itself
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !public(at.Addr()) && !(h.private && private(at.Addr())) {
				return fmt.Errorf("%s %w", at.Addr(), errAddress)
			}
			return nil
		}
	}

	return d.DialContext(ctx, "tcp", destination)
}

// shared is what carriers have between them and their customers (RFC 6598), and some clouds for
// their metadata.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// refused are no addresses of anybody's servers: a cloud's metadata in IPv6, and translations of
// IPv4, which may be of any address that is refused (RFC 6052, RFC 8215).
var refused = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
}

// public reports whether it is an address of the internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a) && !isRefused(a)
}

// private reports whether it is an address of a private network that may be reached.
func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() && !isRefused(a)
}

func isRefused(a netip.Addr) bool {
	return slices.ContainsFunc(refused, func(p netip.Prefix) bool { return p.Contains(a) })
}

// join passes on what comes from either side, until one has failed, both have ended, or nothing has
// moved for too long.
func (h *Handler) join(here net.Conn, ahead *bufio.Reader, there net.Conn) (sent, received int64) {
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return 0, 0
	}

	end := time.Now().Add(h.longest)
	moved := func() {
		next := time.Now().Add(h.idle)
		if next.After(end) {
			next = end
		}
		_, _ = here.SetDeadline(next), there.SetDeadline(next)
	}

	moved()
	done := make(chan struct{})
	go func() {
		defer close(done)
		sent = pass(there, ahead, moved)
	}()
	received = pass(here, there, moved)
	<-done
	return sent, received
}

// pass copies until from ends, and then ends what to gets.
func pass(to net.Conn, from io.Reader, moved func()) int64 {
	n, err := io.Copy(to, readerFunc(func(p []byte) (int, error) {
		n, err := from.Read(p)
		moved()
		return n, err
	}))

	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
	}
	return n
}

// readerFunc is a function that reads.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
