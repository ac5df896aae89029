package hop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/prometheus/client_golang/prometheus"
)

// resends is how often a registry's client has sent again, by reason.
func resends(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					out[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}

	return out
}

// instance is one life of a peer behind an address.
type instance struct {
	stop  context.CancelFunc
	ended chan error
}

func startInstance(t *testing.T, addr string, h http.HandlerFunc) *instance {
	t.Helper()
	var l net.Listener
	for begin := time.Now(); ; {
		var err error
		if l, err = net.Listen("tcp", addr); err == nil {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}

	s := server.New("peer", slog.New(slog.DiscardHandler), 20*time.Second)
	s.Handle("/", h)
	ctx, stop := context.WithCancel(context.Background())
	i := &instance{stop, make(chan error, 1)}
	go func() { i.ended <- s.Serve(ctx, l) }()
	t.Cleanup(stop)
	return i
}

// TestRestarts: a peer is replaced five times while requests flow over connections that are kept
// alive. None fails, and what has an effect has it once.
func TestRestarts(t *testing.T) {
	const requests, workers, restarts = 2000, 8, 5
	var mu sync.Mutex
	done := map[string]int{}
	handle := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}

		if key := r.Header.Get(wire.KeyHeader); key != "" {
			mu.Lock()
			done[key]++
			mu.Unlock()
		}

		w.WriteHeader(http.StatusNoContent)
	}

	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	peer := startInstance(t, addr, handle)
	c := hop.New("peer", "http://"+addr)
	var sent, failed atomic.Int64
	next := make(chan struct{}, requests)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for n := sent.Add(1); n <= requests; n = sent.Add(1) {
				var err error
				if n%2 == 0 {
					h := http.Header{wire.KeyHeader: {fmt.Sprint("key-", n)}}
					err = c.JSON(t.Context(), http.MethodPost, "/",
						map[string]int64{"n": n}, nil, h)
				} else {
					err = c.JSON(t.Context(), http.MethodGet, "/", nil, nil, nil)
				}

				if err != nil {
					failed.Add(1)
					t.Errorf("request %d: %v", n, err)
				}

				next <- struct{}{}
			}
		})
	}

	for i := range restarts {
		for range requests / (restarts + 1) {
			<-next
		}

		peer.stop()
		old := peer
		peer = startInstance(t, addr, handle)
		if err := <-old.ended; err != nil {
			t.Errorf("restart %d: %v", i, err)
		}
	}

	wg.Wait()
	if failed.Load() != 0 || len(done) != requests/2 {
		t.Errorf("%d of %d failed, %d of %d messages were processed",
			failed.Load(), requests, len(done), requests/2)
	}

	for key, n := range done {
		if n != 1 {
			t.Errorf("%s was processed %d times", key, n)
		}
	}
}

// TestRefusedGoesElsewhere: a name that resolves to a container that takes nothing yet,
// and to one that works.
func TestRefusedGoesElsewhere(t *testing.T) {
	for _, kind := range []string{problem.TypeStarting, problem.TypeDraining} {
		var refused, taken atomic.Int64
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}

		_, port, _ := net.SplitHostPort(first.Addr().String())
		second, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			t.Skipf("the machine has one loopback address: %v", err)
		}

		refuse := &httptest.Server{
			Listener: first,
			Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				refused.Add(1)
				problem.Write(w, r, &problem.Problem{Type: kind, Title: "no", Status: 503})
			})},
		}

		take := &httptest.Server{
			Listener: second,
			Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				if string(b) != `{"a":1}` {
					t.Errorf("the body is %q", b)
				}
				taken.Add(1)
				w.WriteHeader(http.StatusNoContent)
			})},
		}

		refuse.Start()
		take.Start()
		c := hop.New("peer", "http://peer:"+port)
		c.Resolve("127.0.0.1", "127.0.0.2")
		reg := prometheus.NewRegistry()
		c.Register(reg)
		begin := time.Now()
		for range 50 { // without a key: a refusal has done nothing
			if err := c.JSON(t.Context(), http.MethodPost, "/", map[string]int{"a": 1}, nil, nil); err != nil {
				t.Error(err)
			}
		}

		// An address that refuses is avoided for five seconds.
		took := time.Since(begin)
		if most := 2 + int64(took/(5*time.Second)); taken.Load() != 50 || refused.Load() > most {
			t.Errorf("%s: %d taken, %d refused in %s", kind, taken.Load(), refused.Load(), took)
		}

		if got := resends(t, reg)[strings.TrimPrefix(kind, "/problems/")]; got != float64(refused.Load()) {
			t.Errorf("%v sends counted, %d refused", resends(t, reg), refused.Load())
		}

		take.Close()
		refuse.Close()
	}
}

// TestBroken: what may have been done is sent again only where doing it twice is doing it once.
func TestBroken(t *testing.T) {
	key := http.Header{wire.KeyHeader: {"k"}}
	for _, tt := range []struct {
		name, method string
		header       http.Header
		streaming    bool
		ctx          func(context.Context) context.Context
		want         int64
	}{
		{name: "GET", method: http.MethodGet, want: 3},
		{name: "DELETE", method: http.MethodDelete, want: 3},
		{name: "POST", method: http.MethodPost, want: 1},
		{name: "PATCH", method: http.MethodPatch, want: 1},
		{name: "POST with a key", method: http.MethodPost, header: key, want: 3},
		{name: "POST of a streaming client", method: http.MethodPost, streaming: true, want: 3},
		{name: "POST that its caller lets repeat", method: http.MethodPost, ctx: hop.Repeatable, want: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if calls.Add(1) < 3 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			defer s.Close()
			c := hop.New("peer", s.URL)
			if tt.streaming {
				c = hop.NewStreaming("peer", s.URL)
			}

			ctx := t.Context()
			if tt.ctx != nil {
				ctx = tt.ctx(ctx)
			}

			err := c.JSON(ctx, tt.method, "/", map[string]int{}, nil, tt.header)
			if calls.Load() != tt.want || (err == nil) != (tt.want == 3) {
				t.Errorf("sent %d times: %v", calls.Load(), err)
			}
		})
	}
}

// TestRefusedForEver: what the peer said is the error, and the caller's time bounds the tries.
func TestRefusedForEver(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, &problem.Problem{
			Type: problem.TypeStarting, Title: "no", Status: 503, Detail: "still starting",
		})
	}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the peer is asked at least once
	defer cancel()
	err := hop.New("peer", s.URL).JSON(ctx, http.MethodGet, "/", nil, nil, nil)
	var p *problem.Problem
	if !errors.As(err, &p) || p.Detail != "still starting" {
		t.Errorf("%v", err)
	}
	if ctx.Err() == nil {
		t.Error("gave up before its time")
	}
}

// TestLongAway: callers of a peer that has been away for long are told soon.
func TestLongAway(t *testing.T) {
	c := hop.New("peer", "http://127.0.0.1:1")
	begin := time.Now()
	for ago := time.Minute; ago > 0; ago -= time.Second { // somebody asks all the time
		c.Failed(begin.Add(-ago))
	}

	if err := c.JSON(t.Context(), http.MethodGet, "/", nil, nil, nil); err == nil ||
		time.Since(begin) > 8*time.Second { // of the ten for which they wait for one that has just gone
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

// TestAwayOnceMore: a peer was away long ago, and nobody asked when it was back. When it is being
// replaced now, its callers wait for it.
func TestAwayOnceMore(t *testing.T) {
	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	c := hop.New("peer", "http://"+addr)
	c.Failed(time.Now().Add(-time.Hour))
	done := make(chan error, 1)
	go func() { done <- c.JSON(t.Context(), http.MethodGet, "/", nil, nil, nil) }()
	select {
	case err := <-done:
		t.Fatalf("it was given up: %v", err)
	case <-time.After(2 * time.Second):
	}

	startInstance(t, addr, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
}
