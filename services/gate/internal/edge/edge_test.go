package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// engine answers lookups of the edge as an engine's resolver does.
type engine struct {
	takes time.Duration

	mu        sync.Mutex
	addresses []netip.Addr
	err       error
	asked     int
}

func (e *engine) lookup(ctx context.Context, _, host string) ([]netip.Addr, error) {
	e.mu.Lock()
	e.asked++
	addresses, err := slices.Clone(e.addresses), e.err
	e.mu.Unlock()
	select {
	case <-time.After(e.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	if err == nil && len(addresses) == 0 {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addresses, err
}

// at moves the edge.
func (e *engine) at(addresses ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addresses = nil
	for _, a := range addresses {
		e.addresses = append(e.addresses, netip.MustParseAddr(a))
	}
}

// fails makes lookups fail; nil has them succeed again.
func (e *engine) fails(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// lookups returns how many there have been.
func (e *engine) lookups() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// watching runs a Watch of an edge that is at the addresses, by a clock of its own.
func watching(
	t *testing.T, test func(t *testing.T, e *engine, w *Watch), addresses ...string,
) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{takes: 100 * time.Millisecond}
		e.at(addresses...)
		w := NewWatch("edge", slog.New(slog.DiscardHandler))
		w.lookup = e.lookup
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		time.Sleep(e.takes)
		synctest.Wait()
		test(t, e, w)
	})
}

// believed reports whether what a peer says of its address is believed.
func believed(ctx context.Context, w *Watch, peer string) bool {
	var got string
	h := w.Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("X-Forwarded-For")
	}))
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.RemoteAddr = peer
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	h.ServeHTTP(httptest.NewRecorder(), r)
	return got != ""
}

// TestGuard holds that the headers of the edge alone are believed.
func TestGuard(t *testing.T) {
	watching(t, func(t *testing.T, _ *engine, w *Watch) {
		for peer, want := range map[string]bool{
			"172.18.0.5:4000": true, "[::ffff:172.18.0.5]:4000": true, "[fd00::5]:4000": true,
			"172.18.0.6:4000": false, "[fd00::6]:4000": false, "172.18.0.55:1": false,
			"172.18.0.5": false, "@": false, "": false,
		} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = peer
			for _, h := range headers {
				r.Header.Set(h, "x")
			}
			r.Header.Set("X-Request-Id", "abc")

			w.Guard(http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) {
				for _, h := range headers {
					if (got.Header.Get(h) == "x") != want {
						t.Errorf("%q: %s is %q", peer, h, got.Header.Get(h))
					}
				}
				if got.Header.Get("X-Request-Id") != "abc" || got.RemoteAddr != peer {
					t.Errorf("%q: %v from %s", peer, got.Header, got.RemoteAddr)
				}
			})).ServeHTTP(httptest.NewRecorder(), r)
		}
	}, "172.18.0.5", "fd00::5")
}

// TestReplaced holds that an edge that was replaced is believed with its first request, and its
// former address no longer than until the next lookup.
func TestReplaced(t *testing.T) {
	watching(t, func(t *testing.T, e *engine, w *Watch) {
		ctx := t.Context()
		e.at("172.18.0.9")
		if !believed(ctx, w, "172.18.0.9:1") {
			t.Error("the new edge is not believed")
		}
		if believed(ctx, w, "172.18.0.5:1") {
			t.Error("the former edge's address is believed")
		}

		e.at("172.18.0.10")
		time.Sleep(every + e.takes)
		if believed(ctx, w, "172.18.0.9:1") {
			t.Error("the former edge's address is believed though nobody asked")
		}

		e.at()
		time.Sleep(every + e.takes)
		if believed(ctx, w, "172.18.0.10:1") {
			t.Error("an edge that is gone is believed")
		}
	}, "172.18.0.5")
}

// TestFlood holds that a container which claims to be the edge, as often as it can, neither makes
// lookups more often than once a second nor keeps a new edge from being believed.
func TestFlood(t *testing.T) {
	watching(t, func(t *testing.T, e *engine, w *Watch) {
		stop := time.Now().Add(10 * time.Second)
		before := e.lookups()
		for i := range 50 {
			go func() {
				for time.Now().Before(stop) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+i)*time.Millisecond)
					if i%2 == 0 {
						ctx = t.Context()
					}
					if believed(ctx, w, "172.18.0.6:1") {
						t.Error("the stranger is believed")
					}
					cancel()
				}
			}()
		}

		time.Sleep(3 * time.Second)
		e.at("172.18.0.9")
		begin := time.Now()
		if !believed(t.Context(), w, "172.18.0.9:1") {
			t.Error("the new edge is not believed")
		}
		if took := time.Since(begin); took > between+2*e.takes {
			t.Errorf("the new edge waits for %s", took)
		}

		time.Sleep(time.Until(stop) + 3*time.Second)
		if n := e.lookups() - before; n > 16 {
			t.Errorf("%d lookups in 13 seconds", n)
		}
	}, "172.18.0.5")
}

// TestOutage holds that the edge is believed for a while after its name cannot be looked up, and
// that nobody is afterwards, until it can.
func TestOutage(t *testing.T) {
	watching(t, func(t *testing.T, e *engine, w *Watch) {
		ctx := t.Context()
		e.fails(&net.DNSError{Err: "connection refused", Name: "edge"})
		time.Sleep(kept - every)
		if !believed(ctx, w, "172.18.0.5:1") || believed(ctx, w, "172.18.0.6:1") {
			t.Error("another than the edge's last address is believed")
		}

		time.Sleep(every + time.Second)
		if believed(ctx, w, "172.18.0.5:1") {
			t.Error("the edge's last address is believed for ever")
		}

		e.fails(nil)
		if !believed(ctx, w, "172.18.0.5:1") {
			t.Error("the edge is not believed after the outage")
		}
	}, "172.18.0.5")
}

// TestQuiet holds that the log has a line in ten seconds about others than the edge, which tells how
// many of their requests there were.
func TestQuiet(t *testing.T) {
	watching(t, func(t *testing.T, _ *engine, w *Watch) {
		var log strings.Builder
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		for _, tt := range []struct {
			requests int
			want     string
		}{
			{3, "address=172.18.0.6:1 requests=1\n"},
			{2, "address=172.18.0.6:1 requests=3\n"},
			{0, ""},
			{1, "address=172.18.0.6:1 requests=2\n"},
		} {
			log.Reset()
			for range tt.requests {
				believed(t.Context(), w, "172.18.0.6:1")
			}

			if got := log.String(); !strings.HasSuffix(got, tt.want) ||
				strings.Count(got, "\n") != strings.Count(tt.want, "\n") {
				t.Errorf("logged is %q, want one line that ends in %q", got, tt.want)
			}
			time.Sleep(quiet)
		}
	}, "172.18.0.5")
}

// TestUntouched holds that requests without the headers ask nobody.
func TestUntouched(t *testing.T) {
	watching(t, func(t *testing.T, e *engine, w *Watch) {
		before := e.lookups()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		w.Guard(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
		if e.lookups() != before {
			t.Error("a lookup for a request that claims nothing")
		}
	}, "172.18.0.5")
}
