package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const patience = 20 * time.Second

func do(
	t *testing.T, s *server.Server, method, path string, h map[string]string,
) (*httptest.ResponseRecorder, problem.Problem) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for k, v := range h {
		r.Header.Set(k, v)
	}

	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	var p problem.Problem
	if w.Header().Get("Content-Type") == problem.ContentType {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
	}

	return w, p
}

func TestNotRouted(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	s.HandleFunc("POST /a", func(http.ResponseWriter, *http.Request) {})
	if w, p := do(t, s, "GET", "/b", nil); w.Code != 404 || p.Status != 404 || p.RequestID == "" {
		t.Errorf("%d %+v", w.Code, p)
	}

	if w, p := do(t, s, "GET", "/a", nil); w.Code != 405 || p.Status != 405 ||
		w.Header().Get("Allow") != "POST" {
		t.Errorf("%d %+v %v", w.Code, p, w.Header())
	}

	do(t, s, "BREW", "/a", nil)
	if w, _ := do(t, s, "GET", "/metrics", nil); !strings.Contains(w.Body.String(), `method="other"`) ||
		strings.Contains(w.Body.String(), "BREW") {
		t.Error("a made-up method is a label of its own")
	}
}

func TestRequestID(t *testing.T) {
	var logs bytes.Buffer
	s := server.New("x", logging.New(&logs, "x", "info", false), time.Second)
	got := ""
	s.HandleFunc("GET /a", func(_ http.ResponseWriter, r *http.Request) {
		got = logging.RequestID(r.Context())
	})
	for id, keep := range map[string]bool{
		"abc-1_2.3":              true,
		"":                       false,
		"a b":                    false,
		"a\"b":                   false,
		"ä":                      false,
		strings.Repeat("a", 129): false,
	} {
		logs.Reset()
		w, _ := do(t, s, "GET", "/a", map[string]string{wire.RequestIDHeader: id})
		if echoed := w.Header().Get(wire.RequestIDHeader); echoed != got || got == "" ||
			(got == id) != keep || !strings.Contains(logs.String(), got) {
			t.Errorf("%q: handler has %q, response %q", id, got, echoed)
		}
	}
}

func TestPanic(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	s.HandleFunc("GET /before", func(http.ResponseWriter, *http.Request) { panic("secret") })
	s.HandleFunc("GET /after", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic("secret")
	})

	if w, p := do(t, s, "GET", "/before", nil); w.Code != 500 || p.Status != 500 ||
		strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}

	hs := httptest.NewServer(s.Handler())
	defer hs.Close()
	resp, err := http.Get(hs.URL + "/after")
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}

	if err == nil {
		t.Error("half a response looks like a whole one")
	}
}

func TestReadiness(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	var fault error
	s.Liveness("/health")
	s.Readiness("/ready", map[string]server.Check{"a": func(context.Context) error {
		return nil
	}, "b": func(context.Context) error { return fault }})
	check := func(code int, status, b string) {
		t.Helper()
		w, _ := do(t, s, "GET", "/ready", nil)
		var r wire.Readiness
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != code ||
			r.Status != status || r.Checks["a"] != "ok" || r.Checks["b"] != b {
			t.Errorf("%d %s: %v", w.Code, w.Body, err)
		}
	}

	check(200, "ready", "ok")
	fault = errors.New("down")
	check(503, "not ready", "down")
	if w, _ := do(t, s, "GET", "/health", nil); w.Code != 200 {
		t.Errorf("liveness depends on a check: %d", w.Code)
	}
}

// serve runs the server until stop is called.
func serve(
	t *testing.T, s *server.Server, drained ...func(context.Context) error,
) (url string, stop context.CancelFunc, ended chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, l, drained...)
}

func serveOn(
	t *testing.T, s *server.Server, l net.Listener, drained ...func(context.Context) error,
) (url string, stop context.CancelFunc, ended chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended = make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, drained...) }()
	return "http://" + l.Addr().String(), stop, ended
}

// counted is a listener that signals each call of Accept: the server has got
// the connections before.
type counted struct {
	net.Listener
	asked chan struct{}
}

func (c *counted) Accept() (net.Conn, error) {
	c.asked <- struct{}{}
	return c.Listener.Accept()
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// TestDrain checks that requests in flight are completed, and that work that outlives
// requests is waited for.
func TestDrain(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), patience)
	entered, release := make(chan struct{}), make(chan struct{})
	s.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request in flight was cancelled: %v", err)
		}
		io.WriteString(w, "complete")
	})

	draining := make(chan bool, 1)
	url, stop, ended := serve(t, s, func(context.Context) error {
		draining <- s.Draining()
		return nil
	})

	got := make(chan string, 1)
	go func() {
		resp, err := http.Get(url + "/slow")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()

		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()

	within(t, "the request", entered)
	stop()
	if !within(t, "the drained function", draining) {
		t.Error("called while it is not draining")
	}

	close(release)
	if b := within(t, "the response", got); b != "complete" {
		t.Errorf("got %q", b)
	}
	if err := within(t, "the end", ended); err != nil {
		t.Error(err)
	}
}

// TestDrainTimeout checks that what is left after the drain time is cancelled and reported.
func TestDrainTimeout(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), 50*time.Millisecond)
	entered, cancelled := make(chan struct{}), make(chan struct{})
	s.HandleFunc("GET /stuck", func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(cancelled)
	})

	failed := errors.New("job left")
	url, stop, ended := serve(t, s, func(context.Context) error { return failed })
	go func() {
		if resp, err := http.Get(url + "/stuck"); err == nil {
			resp.Body.Close()
		}
	}()

	within(t, "the request", entered)
	stop()
	err := within(t, "the end", ended)
	if !errors.Is(err, failed) || !strings.Contains(err.Error(), "requests were still in flight") {
		t.Errorf("%v", err)
	}

	within(t, "the cancelled context", cancelled)
}

func TestHealthcheck(t *testing.T) {
	code := 200
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			code = 404
		}
		w.WriteHeader(code)
		io.WriteString(w, "why")
	}))
	defer hs.Close()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(hs.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}

	for _, addr := range []string{
		":" + port, "0.0.0.0:" + port, "[::]:" + port, host + ":" + port, "localhost:" + port,
	} {
		if err := server.Healthcheck(t.Context(),
			[]string{"LISTEN_ADDR=wrong", "LISTEN_ADDR=" + addr}, "/health", ""); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}

	code = 503
	if err := server.Healthcheck(t.Context(), nil, "", hs.URL+"/health"); err == nil ||
		!strings.Contains(err.Error(), "why") {
		t.Errorf("%v", err)
	}

	if err := server.Healthcheck(t.Context(), []string{"LISTEN_ADDR=nonsense"}, "/health",
		""); err == nil || !strings.Contains(err.Error(), "LISTEN_ADDR") {
		t.Errorf("%v", err)
	}
}

// kept opens a connection that is kept alive, and returns a function that
// sends one request over it.
func kept(t *testing.T, url string) func(method, path, body string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() })
	lines := bufio.NewReader(conn)
	return func(method, path, body string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Write(conn); err != nil {
			t.Fatal(err)
		}

		resp, err := http.ReadResponse(lines, r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}

		return resp, string(b)
	}
}

// TestDrainRefuses checks that, while requests in flight finish, new ones are refused before their
// handler in a way that lets them be sent elsewhere.
func TestDrainRefuses(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), patience)
	entered, release := make(chan struct{}), make(chan struct{})
	s.HandleFunc("GET /slow", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "complete")
	})

	handled := 0
	s.HandleFunc("POST /a", func(http.ResponseWriter, *http.Request) { handled++ })
	s.Liveness("/health")
	s.Readiness("/ready", nil)
	draining, finish := make(chan struct{}), make(chan struct{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	l := &counted{inner, make(chan struct{}, 100)}
	url, stop, ended := serveOn(t, s, l, func(context.Context) error {
		close(draining)
		<-finish
		return nil
	})

	idle, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()

	io.WriteString(idle, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Fatal(err)
	}

	// A new connection without a request is not idle.
	send, probe, ready := kept(t, url), kept(t, url), kept(t, url)
	slow := make(chan *http.Response, 1)
	go func() {
		resp, err := http.Get(url + "/slow")
		if err != nil {
			t.Error(err)
		}
		slow <- resp
	}()

	within(t, "the request", entered)
	for range 6 { // five connections and the Accept of a sixth
		within(t, "the connections", l.asked)
	}

	stop()
	within(t, "the drain", draining)

	resp, body := send("POST", "/a", strings.Repeat("x", 512<<10))
	var p problem.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 503 ||
		p.Type != problem.TypeDraining || !resp.Close || resp.Header.Get("Retry-After") != "1" ||
		resp.Header.Get(wire.RefusedHeader) != wire.RefusedDraining {
		t.Errorf("%s %v %q: %v", resp.Status, resp.Header, body, err)
	}

	if resp, _ := probe("GET", "/health", ""); resp.StatusCode != 200 {
		t.Errorf("/health: %s", resp.Status)
	}

	if resp, body := ready("GET", "/ready", ""); resp.StatusCode != 503 ||
		!strings.Contains(body, `"draining"`) {
		t.Errorf("/ready: %s %s", resp.Status, body)
	}

	if err := idle.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection: %v", err)
	}

	if conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		conn.Close()
		t.Error("the listener is open")
	}

	close(release)
	if resp := within(t, "the response in flight", slow); resp != nil {
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "complete" || !resp.Close {
			t.Errorf("in flight: %q, %v, Connection: close %v", b, err, resp.Close)
		}
		resp.Body.Close()
	}

	close(finish)
	if err := within(t, "the end", ended); err != nil {
		t.Error(err)
	}
	if handled != 0 {
		t.Errorf("a refused request was handled %d times", handled)
	}
}

// TestStartWhen checks that a server refuses everything but probes until its
// checks have passed once.
func TestStartWhen(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), patience)
	var up atomic.Bool
	check := func(context.Context) error {
		if !up.Load() {
			return errors.New("no storage")
		}
		return nil
	}

	s.HandleFunc("POST /a", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	s.Liveness("/health")
	s.Readiness("/ready", nil)
	s.StartWhen(map[string]server.Check{"storage": check})
	url, stop, ended := serve(t, s)
	for path, want := range map[string]int{"/health": 200, "/metrics": 200, "/ready": 503} {
		if resp, _ := kept(t, url)("GET", path, ""); resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}

	resp, body := kept(t, url)("POST", "/a", "x")
	if resp.StatusCode != 503 || !resp.Close || !strings.Contains(body, problem.TypeStarting) ||
		resp.Header.Get(wire.RefusedHeader) != wire.RefusedStarting {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}

	up.Store(true)
	deadline := time.Now().Add(patience)
	for {
		if resp, _ := kept(t, url)("POST", "/a", "x"); resp.StatusCode == http.StatusNoContent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never let in")
		}
	}

	up.Store(false) // a later outage is left to the handlers
	if resp, _ := kept(t, url)("POST", "/a", "x"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("after an outage: %s", resp.Status)
	}

	stop()
	if err := within(t, "the end", ended); err != nil {
		t.Error(err)
	}
}

// TestPrivate looks for a path in the log that is not to be there.
func TestPrivate(t *testing.T) {
	var logs bytes.Buffer
	s := server.New("x", logging.New(&logs, "x", "info", false), time.Second)
	s.Private("/files/")
	s.HandleFunc("PUT /files/{name}", func(http.ResponseWriter, *http.Request) {})
	s.HandleFunc("GET /other/{name}", func(http.ResponseWriter, *http.Request) {})
	do(t, s, "PUT", "/files/secret", nil)
	do(t, s, "GET", "/files/secret", nil)
	do(t, s, "GET", "/files/secret/more", nil)
	do(t, s, "GET", "/other/shown", nil)
	if l := logs.String(); strings.Contains(l, "secret") || !strings.Contains(l, "/other/shown") ||
		!strings.Contains(l, `"path":"/files/{name}"`) {
		t.Errorf("the log is %s", l)
	}
}
