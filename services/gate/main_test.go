package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

func environ(
	t *testing.T, addr, redisURL, frontendURL string, changes ...func(*gateenv.Config),
) []string {
	t.Helper()
	cfg := &gateenv.Config{
		Common: contract.Common{
			Environment:  "test",
			LogLevel:     "info",
			ListenAddr:   addr,
			DrainTimeout: 10 * time.Second,
		},
		RequiredRedis:     contract.RequiredRedis{RedisURL: redisURL},
		FrontendURL:       frontendURL,
		MLServiceURL:      frontendURL,
		RawCompletions:    true,
		Title:             "CodexContinue",
		SignIn:            gateenv.None,
		SessionIdle:       time.Hour,
		SessionLife:       24 * time.Hour,
		GenerationTimeout: time.Minute,
	}

	for _, change := range changes {
		change(cfg)
	}

	vars, err := contract.Environ(cfg)
	if err != nil {
		t.Fatal(err)
	}

	return vars
}

// start runs the service until the test ends or stop is called, and returns its URL. The log may be
// read after stop.
func start(
	t *testing.T, redisURL, frontendURL string, changes ...func(*gateenv.Config),
) (base string, stop func() error, log *bytes.Buffer) {
	t.Helper()
	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	env := environ(t, addr, redisURL, frontendURL, changes...)
	ctx, cancel := context.WithCancel(t.Context())
	log = &bytes.Buffer{}
	done := make(chan error, 1)
	go func() { done <- run(ctx, nil, env, io.Discard, log) }()

	deadline := time.Now().Add(20 * time.Second)
	ready := []string{"healthcheck", "http://" + addr + "/ready"}
	for run(ctx, ready, env, io.Discard, io.Discard) != nil {
		select {
		case err := <-done:
			t.Fatalf("run: %v", err)
		default:
		}

		if time.Now().After(deadline) {
			t.Fatal("never ready")
		}

		time.Sleep(10 * time.Millisecond)
	}

	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return "http://" + addr, stop, log
}

// frontend records the requests that it gets.
type frontend struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request

	// asked is how many requests have come, also those that wait for mu.
	asked atomic.Int64

	// refuses is set when it deletes nothing.
	refuses atomic.Bool

	// full is set when whoever asks has a conversation.
	full atomic.Bool

	// handed is set when whoever asks has handed something over.
	handed atomic.Bool

	// keeps is set when nobody can be given somebody else's conversations.
	keeps atomic.Bool

	// consents gets the tokens of those whose conversations somebody else is given.
	consents chan string

	// hold keeps event streams open until it is closed.
	hold chan struct{}
}

func newFrontend(t *testing.T) *frontend {
	f := &frontend{hold: make(chan struct{}), consents: make(chan string, 8)}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		f.mu.Lock()
		f.requests = append(f.requests, r)
		f.mu.Unlock()
		if r.URL.Path == "/api/status" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"status": "ready", "model": {"name": "m", "state": "ready"},
				"services": [{"name": "redis", "status": "ready", "detail": "at 10.0.0.7"}]}`)
			return
		}

		if r.URL.Path == "/api/conversations/take" {
			if f.keeps.Load() {
				problem.Write(w, r, problem.New(http.StatusForbidden, "Not to them."))
				return
			}
			var take backendapi.Take
			_ = json.NewDecoder(r.Body).Decode(&take) // of something else it is nobody's
			f.consents <- take.From
			f.full.Store(false)
			return
		}

		if r.URL.Path == "/api/conversations/export" {
			_, _ = io.WriteString(w, "{\"conversations\":[]}\n")
			return
		}

		if r.Method == http.MethodGet && r.URL.Path == "/api/conversations" {
			page := backendapi.ConversationPage{}
			if f.full.Load() {
				page.Conversations = make([]backendapi.Conversation, 1)
			}
			wire.WriteJSON(w, http.StatusOK, page)
			return
		}

		if r.Method == http.MethodGet && r.URL.Path == "/api/submissions" {
			page := backendapi.Submissions{}
			if f.handed.Load() {
				page.Submissions = []backendapi.Submission{{ID: "handed-over"}}
			}
			wire.WriteJSON(w, http.StatusOK, page)
			return
		}

		if r.Method == http.MethodDelete && f.refuses.Load() {
			problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "Not now."))
			return
		}

		if !strings.HasSuffix(r.URL.Path, "/events") {
			_, _ = io.WriteString(w, "the page")
			return
		}

		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: delta\ndata: {}\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-f.hold:
		case <-r.Context().Done():
		}
	}))

	t.Cleanup(func() { close(f.hold); f.Close() })
	return f
}

// last returns the request that came last.
func (f *frontend) last(t *testing.T) *http.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("the frontend got no request")
	}
	return f.requests[len(f.requests)-1]
}

// at returns the request for the path.
func (f *frontend) at(t *testing.T, path string) *http.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.URL.Path == path {
			return r
		}
	}
	t.Fatalf("the frontend got no request for %s", path)
	return nil
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}

	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}

	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return resp, string(body)
}

// redisGet is an identity.Get.
func redisGet(c *redis.Client) identity.Get {
	return func(ctx context.Context, key string) (string, error) { return c.Get(ctx, key).Result() }
}

// TestForward checks that a request reaches the frontend in the name of the browser's owner, which
// the backend can check, and with nothing that the browser made up.
func TestForward(t *testing.T) {
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	base, stop, log := start(t, r.URL, f.URL)
	resp, body := get(t, base+"/c/1?x=y",
		"Authorization", "Bearer made-up", "X-Codexcontinue-Owner", "somebody",
		"Cookie", "theme=dark; codexcontinue_owner=OLD; __Host-codexcontinue_session=S",
		"X-Forwarded-Proto", "https", "X-Forwarded-For", "192.0.2.1", "X-Request-Id", "abc")
	if resp.StatusCode != http.StatusOK || body != "the page" || len(resp.Cookies()) != 1 {
		t.Fatalf("%s %q, cookies %v", resp.Status, body, resp.Cookies())
	}

	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || len(c.Value) != 26 {
		t.Errorf("cookie %v", c)
	}

	got := f.last(t)
	opt, err := redis.ParseURL(r.URL)
	if err != nil {
		t.Fatal(err)
	}

	client := redis.NewClient(opt)
	defer client.Close()
	v := identity.NewVerifier(identity.Backend, redisGet(client), identity.Gate)
	token := strings.TrimPrefix(got.Header.Get("Authorization"), "Bearer ")
	p, signer, err := v.Verify(t.Context(), token)
	if err != nil || signer != identity.Gate || len(p.ID) != 26 || p.ID == c.Value || p.Admin {
		t.Errorf("%+v by %q, %v", p, signer, err)
	}

	for name, want := range map[string]string{
		"X-Codexcontinue-Owner": "", "Cookie": "theme=dark", "X-Forwarded-Proto": "https",
		"X-Forwarded-For": "192.0.2.1", "X-Request-Id": "abc",
	} {
		if h := got.Header.Get(name); h != want {
			t.Errorf("%s: %q, want %q", name, h, want)
		}
	}

	if got.Host != strings.TrimPrefix(base, "http://") || got.URL.String() != "/c/1?x=y" {
		t.Errorf("host %s, URL %s", got.Host, got.URL)
	}

	// The same browser is the same person, at every gate; another browser is another.
	second, stopSecond, _ := start(t, r.URL, f.URL)
	for _, tt := range []struct {
		base, cookie string
		same         bool
	}{{base, c.Value, true}, {second, c.Value, true}, {base, "", false},
		{base, "ABC", false}, {base, strings.Repeat("A", 26), false}} {
		get(t, tt.base+"/", "Cookie", "codexcontinue_browser="+tt.cookie)
		token := strings.TrimPrefix(f.last(t).Header.Get("Authorization"), "Bearer ")
		q, _, err := v.Verify(t.Context(), token)
		if err != nil || (q.ID == p.ID) != tt.same {
			t.Errorf("%+v: %+v, %v, the first was %s", tt, q, err, p.ID)
		}
	}

	if err := stopSecond(); err != nil {
		t.Errorf("run: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if strings.Contains(log.String(), c.Value) || strings.Contains(log.String(), token) {
		t.Errorf("the log has the cookie or the token:\n%s", log)
	}
}

// TestOnce checks that a request that the edge sends again is of the same person, though the
// browser has not heard of its cookie.
func TestOnce(t *testing.T) {
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	base, _, _ := start(t, r.URL, f.URL)
	person := func(key string) string {
		resp, _ := get(t, base+"/", "Idempotency-Key", key)
		return resp.Cookies()[0].Value
	}

	const edges = "6f0f4a14-8b9a-4a8e-9f4b-0c4f4a148b9a"
	if first, again := person(edges), person(edges); first != again {
		t.Error("a request that is sent again has another owner")
	}
	if first, again := person("mine"), person("mine"); first == again {
		t.Error("a key of the client's own names an owner")
	}
}

// TestHosts checks that only the names of the loopback address are answered.
func TestHosts(t *testing.T) {
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	base, _, _ := start(t, r.URL, f.URL)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:1": 200, "[::1]": 200, "[::1]:9": 200,
		"evil.example": 421, "192.168.1.2:8080": 421, "localhost.evil.example": 421,
		"127.0.0.1.nip.io": 421,
	} {
		if resp, body := get(t, base+"/", "Host", host); resp.StatusCode != want {
			t.Errorf("%s: %s %s, want %d", host, resp.Status, body, want)
		}
	}

	// A page of another site's may say in this header what it likes, and its own name in the other.
	for host, typed := range map[string]string{
		"evil.example": "localhost", "localhost": "evil.example",
	} {
		if resp, body := get(t, base+"/", "Host", host, "X-Forwarded-Host", typed); resp.StatusCode != 421 {
			t.Errorf("%s, typed %s: %s %s", host, typed, resp.Status, body)
		}
	}
}

// TestDrain checks that an event stream of a page ends cleanly when the gate stops.
func TestDrain(t *testing.T) {
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	base, stop, log := start(t, r.URL, f.URL)
	resp, err := http.Get(base + "/generations/1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(rest), "\n\n") {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}

	for _, want := range []string{`"msg":"listening"`, `"msg":"draining"`, `"msg":"stopped"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func TestCommandLine(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out, io.Discard); err != nil ||
		strings.TrimSpace(out.String()) == "" {
		t.Errorf("version: %q, %v", out.String(), err)
	}

	for _, tt := range []struct {
		args    []string
		environ []string
		want    string
	}{
		{[]string{"nonsense"}, nil, "usage: gate"},
		{[]string{"healthcheck"}, nil, "LISTEN_ADDR is not set"},
		{nil, nil, "SIGN_IN"},
		{nil, append(environ(t, ":0", "redis://127.0.0.1:1/0", "http://127.0.0.1:1"),
			"LISTEN_ADDR=nowhere:99999"), "LISTEN_ADDR"},
	} {
		err := run(t.Context(), tt.args, tt.environ, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run(%q): %v, want %q", tt.args, err, tt.want)
		}
	}
}
