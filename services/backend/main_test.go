package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

const patience = 30 * time.Second

// asBackend makes this test binary the backend itself: a process that a test can kill.
const asBackend = "CODEXCONTINUE_TEST_AS_BACKEND"

func TestMain(m *testing.M) {
	if os.Getenv(asBackend) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func environ(t testing.TB, change func(*backendenv.Config)) []string {
	t.Helper()
	cfg := backendenv.Config{
		Common: contract.Common{
			Environment:  "test",
			LogLevel:     "info",
			ListenAddr:   "127.0.0.1:0",
			DrainTimeout: 2 * time.Second,
		},
		RequiredRedis:     contract.RequiredRedis{RedisURL: "redis://127.0.0.1:1/0"},
		MLServiceURL:      "http://127.0.0.1:1",
		DefaultModel:      "codexcontinue",
		ConversationTTL:   time.Hour,
		GenerationTimeout: time.Minute,
	}
	if change != nil {
		change(&cfg)
	}

	vars, err := contract.Environ(&cfg)
	if err != nil {
		t.Fatal(err)
	}

	return vars
}

func TestRunRefusesAWrongEnvironment(t *testing.T) {
	good := environ(t, nil)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		set  []string
		want string
	}{
		"redis scheme":       {[]string{"REDIS_URL=http://redis:6379"}, "REDIS_URL"},
		"redis port":         {[]string{"REDIS_URL=redis://redis"}, "REDIS_URL"},
		"redis database":     {[]string{"REDIS_URL=redis://redis:6379/x"}, "REDIS_URL"},
		"redis credentials":  {[]string{"REDIS_URL=redis://:hunter2@redis:6379/0"}, "REDIS_PASSWORD_FILE"},
		"password file":      {[]string{"REDIS_PASSWORD_FILE=/does/not/exist"}, "REDIS_PASSWORD_FILE"},
		"empty password":     {[]string{"REDIS_PASSWORD_FILE=" + empty}, "is empty"},
		"ml":                 {[]string{"ML_SERVICE_URL=ml:5000"}, "ML_SERVICE_URL"},
		"model":              {[]string{"DEFAULT_MODEL="}, "DEFAULT_MODEL"},
		"ttl":                {[]string{"CONVERSATION_TTL=7 days"}, "ConversationTTL"},
		"generation timeout": {[]string{"GENERATION_TIMEOUT=0s"}, "GENERATION_TIMEOUT"},
		"log level":          {[]string{"LOG_LEVEL=verbose"}, "LOG_LEVEL"},
		"two at once":        {[]string{"LOG_LEVEL=verbose", "DRAIN_TIMEOUT=-1s"}, "DRAIN_TIMEOUT"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), nil, append(append([]string{}, good...), tc.set...), io.Discard,
				io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to name %s", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestRunCommands(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out,
		io.Discard); err != nil || strings.TrimSpace(out.String()) == "" {
		t.Errorf("version: %q, %v", out.String(), err)
	}

	for _, args := range [][]string{{"serve"}, {"version", "x"}, {"healthcheck", "a", "b"}, {"--help"}} {
		if err := run(t.Context(), args, nil, io.Discard,
			io.Discard); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("%v: %v", args, err)
		}
	}

	if err := run(t.Context(), []string{"healthcheck"}, nil, io.Discard,
		io.Discard); err == nil || !strings.Contains(err.Error(), "LISTEN_ADDR") {
		t.Errorf("healthcheck without an address: %v", err)
	}
}

// logs collects what a service logs, and tells where it listens.
type logs struct {
	mu   sync.Mutex
	all  strings.Builder
	rest []byte
	addr chan string
}

func newLogs() *logs { return &logs{addr: make(chan string, 1)} }

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(b)
	l.rest = append(l.rest, b...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}

		l.rest = rest
		var rec struct{ Msg, Addr string }
		if json.Unmarshal(line, &rec) == nil && rec.Msg == "listening" {
			l.addr <- rec.Addr
		}
	}
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *logs) url(t testing.TB) string {
	t.Helper()
	select {
	case addr := <-l.addr:
		return "http://" + addr
	case <-time.After(patience):
		t.Fatalf("the service does not listen:\n%s", l)
		panic("unreachable")
	}
}

// process is a backend that a test can kill.
type process struct {
	t     testing.TB
	url   string
	cmd   *exec.Cmd
	ended chan error
}

func startProcess(t testing.TB, env []string) *process {
	t.Helper()
	out := newLogs()
	p := &process{t: t, cmd: exec.Command(os.Args[0]), ended: make(chan error, 1)}
	p.cmd.Env, p.cmd.Stderr = append(append([]string{}, env...), asBackend+"=1"), out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended already
		if t.Failed() && testing.Verbose() {
			t.Logf("%s:\n%s", p.url, out)
		}
	})

	p.url = out.url(t)
	return p
}

// kill is kill -9.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	<-p.ended
}

// stop is SIGTERM: what is not complete when the drain is over is left to others.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	if err := <-p.ended; err != nil {
		p.t.Errorf("a backend that was stopped: %v", err)
	}
}

// serveHere runs the backend in this process until the test ends.
func serveHere(t testing.TB, env []string) (url string, out *logs) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, done := newLogs(), make(chan error, 1)
	go func() { done <- run(ctx, nil, env, io.Discard, out) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})

	return out.url(t), out
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return resp.StatusCode, string(b)
}

// The service starts without its peers, says what is wrong with each, and recovers by itself.
func TestPeersAreMissing(t *testing.T) {
	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	url, out := serveHere(t, environ(t, func(b *backendenv.Config) {
		b.RedisURL = "redis://" + addr + "/0"
		b.Debug = true
	}))

	if code, _ := get(t, url+"/health"); code != 200 {
		t.Errorf("/health: %d", code)
	}

	for range 3 {
		code, body := get(t, url+"/ready")
		if code != 503 || !strings.Contains(body, "REDIS_URL: "+addr+" cannot be reached") ||
			strings.Contains(body, `"ml"`) {
			t.Errorf("/ready: %d %s", code, body)
		}
	}

	if err := run(t.Context(), []string{"healthcheck", url + "/health"}, nil, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}

	if err := run(t.Context(), []string{"healthcheck", url + "/ready"}, nil, io.Discard,
		io.Discard); err == nil || !strings.Contains(err.Error(), "REDIS_URL") {
		t.Errorf("healthcheck of /ready: %v", err)
	}

	if code, body := get(t, url+"/metrics"); code != 200 ||
		!strings.Contains(body, "backend_generations_active 0") ||
		strings.Contains(body, "backend_redis_errors_total 0") {
		t.Errorf("/metrics: %d", code)
	}

	if code, _ := get(t, url+"/debug/pprof/cmdline"); code != 200 {
		t.Errorf("pprof with DEBUG: %d", code)
	}
	if n := strings.Count(out.String(), "Redis does not work"); n != 1 {
		t.Errorf("logged %d times that Redis does not work:\n%s", n, out)
	}
}

// Without ml there are no new answers, and everything else works: the backend is ready.
func TestReadyWithoutModelService(t *testing.T) {
	redis := redistest.Start(t)
	url, _ := serveHere(t, environ(t, func(b *backendenv.Config) { b.RedisURL = redis.URL }))
	if code, body := get(t, url+"/ready"); code != 200 {
		t.Errorf("/ready: %d %s", code, body)
	}

	asks := newPerson(t, contract.Redis{URL: redis.URL}, func() string { return url })
	for _, path := range []string{"/api/conversations", "/api/status"} {
		if err := asks.get(t.Context(), path, new(any)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRedisPassword(t *testing.T) {
	redis, ml := redistest.Start(t, "--requirepass", "correct-horse"), mltest.Start(t)
	file := filepath.Join(t.TempDir(), "password")
	for name, tc := range map[string]struct {
		password string
		code     int
		want     string
	}{
		"right": {"correct-horse\n", 200, `"redis":"ok"`},
		"wrong": {"battery-staple\n", 503, "refuses the password"},
		"none":  {"", 503, "asks for a password: set REDIS_PASSWORD_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			env := environ(t, func(b *backendenv.Config) {
				b.RedisURL, b.MLServiceURL = redis.URL, ml.URL
				if tc.password != "" {
					b.RedisPasswordFile = file
				}
			})

			if err := os.WriteFile(file, []byte(tc.password), 0o600); err != nil {
				t.Fatal(err)
			}

			url, out := serveHere(t, env)
			code, body := get(t, url+"/ready")
			if code != tc.code || !strings.Contains(body, tc.want) {
				t.Errorf("/ready: %d %s", code, body)
			}
			if code, _ := get(t, url+"/debug/pprof/cmdline"); code != 404 {
				t.Errorf("pprof without DEBUG: %d", code)
			}

			for _, s := range []string{"correct-horse", "battery-staple"} {
				if strings.Contains(body+out.String(), s) {
					t.Errorf("a password is shown: %s", body)
				}
			}
		})
	}
}

// Redis has users: the one of REDIS_URL needs no more than the documented rights.
func TestRedisUser(t *testing.T) {
	redis, ml := redistest.Start(t, "--user", "default", "off",
		"--user", "chat", "on", ">correct-horse", "~*", "&*", "+@all", "-@admin", "-@dangerous"), mltest.Start(t)
	file := filepath.Join(t.TempDir(), "password")
	for name, tc := range map[string]struct {
		user, password string
		code           int
		want           string
	}{
		"right":          {"chat@", "correct-horse", 200, `"redis":"ok"`},
		"wrong password": {"chat@", "battery-staple", 503, `refuses the user \"chat\" or the password`},
		"no user":        {"", "correct-horse", 503, "refuses the password"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tc.password), 0o600); err != nil {
				t.Fatal(err)
			}

			at := contract.Redis{URL: strings.Replace(redis.URL, "//", "//"+tc.user, 1),
				Password: tc.password}
			url, out := serveHere(t, environ(t, func(b *backendenv.Config) {
				b.RedisURL, b.MLServiceURL, b.RedisPasswordFile = at.URL, ml.URL, file
			}))

			code, body := get(t, url+"/ready")
			if code != tc.code || !strings.Contains(body, tc.want) {
				t.Errorf("/ready: %d %s", code, body)
			}
			if strings.Contains(body+out.String(), tc.password) {
				t.Errorf("a password is shown: %s", body)
			}
			if code == 200 {
				chat(t, at, url)
			}
		})
	}
}

// chat asks for an answer and reads it to its end.
func chat(t testing.TB, redis contract.Redis, url string) {
	t.Helper()
	client := identitytest.Client(t, redis, "tester", identity.Backend)
	req, err := http.NewRequest(http.MethodPost, url+"/api/chat",
		strings.NewReader(`{"message":"Hi"}`))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", sse.ContentType)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), "event: done") {
		t.Errorf("chat: %s %s, %v", resp.Status, b, err)
	}
}

// Redis speaks TLS: whom the backend trusts, and what it says when the two do not fit.
func TestRedisTLS(t *testing.T) {
	authority, ml := redistest.NewAuthority(t), mltest.Start(t)
	open := []string{"--tls-auth-clients", "no"}
	server := authority.StartTLS(t, "127.0.0.1", open...)
	other := authority.StartTLS(t, "redis.example.com", open...)
	strict := authority.StartTLS(t, "127.0.0.1")
	plain := redistest.Start(t)
	for name, tc := range map[string]struct {
		url, ca string
		code    int
		want    string
	}{
		"trusted":             {server.URL, authority.File, 200, `"redis":"ok"`},
		"unknown authority":   {server.URL, "", 503, "set REDIS_CA_FILE"},
		"another authority":   {server.URL, redistest.NewAuthority(t).File, 503, "set REDIS_CA_FILE"},
		"another host":        {other.URL, authority.File, 503, "certificate does not fit"},
		"wants a certificate": {strict.URL, authority.File, 503, "set tls-auth-clients no"},
		"the server is plain": {"rediss://" + plain.Addr + "/0", authority.File, 503,
			"does not answer in time: if it does not speak TLS, write REDIS_URL with redis://"},
		"the server is not": {"redis://" + server.Addr + "/0", "", 503, "write REDIS_URL with rediss://"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serveHere(t, environ(t, func(b *backendenv.Config) {
				b.RedisURL, b.RedisCAFile, b.MLServiceURL = tc.url, tc.ca, ml.URL
			}))
			// On a busy machine a handshake may take longer than a check.
			code, body := get(t, url+"/ready")
			for start := time.Now(); !strings.Contains(body, tc.want) && time.Since(start) < patience; {
				code, body = get(t, url+"/ready")
			}
			if code != tc.code || !strings.Contains(body, tc.want) {
				t.Errorf("/ready: %d %s", code, body)
			}
			if code == 200 {
				chat(t, contract.Redis{URL: tc.url, CAFile: tc.ca}, url)
			}
		})
	}

	t.Run("the system's authorities", func(t *testing.T) {
		out := newLogs()
		backend := exec.Command(os.Args[0]) // a process reads them once
		backend.Env = append(environ(t, func(b *backendenv.Config) {
			b.RedisURL, b.MLServiceURL = server.URL, ml.URL
		}),
			asBackend+"=1", "SSL_CERT_FILE="+authority.File)

		backend.Stderr = out
		if err := backend.Start(); err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() {
			_ = backend.Process.Kill() // it may have ended already
			_ = backend.Wait()
		})

		if code, body := get(t, out.url(t)+"/ready"); code != 200 {
			t.Errorf("/ready: %d %s", code, body)
		}
	})

	for name, content := range map[string]string{"missing": "", "no certificate": "hello\n"} {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}

		env := environ(t, func(b *backendenv.Config) {
			b.RedisURL, b.RedisCAFile = server.URL, file
		})
		if err := run(t.Context(), nil, env, io.Discard,
			io.Discard); err == nil || !strings.Contains(err.Error(), "REDIS_CA_FILE: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedIdentity checks that the backend believes the gate alone whose a request is.
func TestForgedIdentity(t *testing.T) {
	redis := redistest.Start(t)
	at := contract.Redis{URL: redis.URL}
	url, out := serveHere(t, environ(t, func(b *backendenv.Config) { b.RedisURL = redis.URL }))
	forged := identitytest.Forged(t, at, "VICTIM", identity.Backend)
	forged["by itself"] = identitytest.Signer(t, at, identity.Backend).
		Sign(identity.Person{ID: "VICTIM"}, identity.Backend)
	ask := func(method, path, authorization string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}

		req.Header.Set("X-Codexcontinue-Owner", "VICTIM")
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
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

	for name, token := range forged {
		authorization := ""
		if token != "" {
			authorization = identity.Authorization(token)
		}

		for _, route := range []string{
			"GET /api/conversations", "POST /api/conversations", "POST /api/chat",
			"DELETE /api/generations/1", "GET /api/generations/1/events", "GET /api/status",
			"GET /api/models", "GET /openapi.json",
		} {
			method, path, _ := strings.Cut(route, " ")
			if resp, body := ask(method, path, authorization); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s answers %s %s", name, route, resp.Status, body)
			}
		}

		if i := strings.LastIndex(token, "."); i > 0 && i < len(token)-1 &&
			strings.Contains(out.String(), token[i+1:]) {
			t.Errorf("%s: the log has the signature:\n%s", name, out)
		}
	}

	// What is refused above is the token alone, and it counts before what else a request says.
	gate := identitytest.Signer(t, at, identity.Gate)
	for _, person := range []string{"ME", "VICTIM"} {
		authorization := identity.Authorization(gate.Sign(identity.Person{ID: person}, identity.Backend))
		if resp, body := ask(http.MethodPost, "/api/conversations", authorization); resp.StatusCode !=
			http.StatusCreated {
			t.Errorf("%s: %s %s", person, resp.Status, body)
		}
		if resp, body := ask(http.MethodGet, "/api/conversations", authorization); resp.StatusCode !=
			http.StatusOK || strings.Count(body, `"created_at"`) != 1 {
			t.Errorf("%s: %s %s", person, resp.Status, body)
		}
	}
}
