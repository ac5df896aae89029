package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// project is a folder with the tiny model, and the environment that serves it on a free port, with a
// Redis of its own.
func project(t *testing.T, ollamaURL string) (environ []string, url string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"Modelfile": tinymodel.Modelfile("tiny.gguf", "") + "PARAMETER num_thread 1\n",
		"tiny.gguf": string(ollamatest.GGUF(t)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	m, err := modelfiles.Load(os.DirFS(dir), "Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}

	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	return []string{"ENVIRONMENT=test", "LOG_LEVEL=info", "DEBUG=false", "LISTEN_ADDR=" + addr,
		"DRAIN_TIMEOUT=5s", "OLLAMA_API_URL=" + ollamaURL,
		"DEFAULT_MODEL=m", "MODELFILE_PATH=" + filepath.Join(dir, "Modelfile"),
		"MODELFILE_DIGEST=" + m.Digest, "APPLY_MODEL=true", "MAX_PARALLEL=1", "MAX_QUEUE=2",
		"GENERATION_TIMEOUT=1m", "KEEP_ALIVE=1m", redisURL + redistest.Start(t).URL}, "http://" + addr
}

// redisURL begins the variable of the environment that says where Redis is.
const redisURL = "REDIS_URL="

// backend returns a client whose requests are those of the backend of a service with the environment.
func backend(t *testing.T, environ []string) *http.Client {
	t.Helper()
	at := contract.Redis{}
	for _, v := range environ {
		if url, ok := strings.CutPrefix(v, redisURL); ok {
			at.URL = url
		}
	}

	return identitytest.Client(t, at, "tester", identity.ML)
}

// state returns what the service at the URL says of its model, or "" while it does not answer.
func state(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url + "/models")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()

	var m mlapi.Models
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return ""
	}

	return strings.TrimSpace(fmt.Sprintf("%s %s %s%s", m.Build.Name, m.Build.State, m.Build.Detail,
		m.Build.Error))
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"serve"}, {"model"}, {"model", "apply", "x"}, {"healthcheck", "a", "b"}, {"version", "x"},
		{"--help"},
	} {
		if err := run(t.Context(), args, nil, io.Discard,
			io.Discard); err == nil || !strings.HasPrefix(err.Error(), "usage: ml ") {
			t.Errorf("%v: %v", args, err)
		}
	}

	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out,
		io.Discard); err != nil || len(strings.TrimSpace(out.String())) == 0 {
		t.Errorf("version: %q, %v", out.String(), err)
	}

	if err := run(t.Context(), []string{"healthcheck"}, nil, io.Discard,
		io.Discard); err == nil || !strings.Contains(err.Error(), "LISTEN_ADDR is not set") {
		t.Errorf("healthcheck: %v", err)
	}
}

// TestWrongEnvironment: every variable that is missing or wrong is named at once.
func TestWrongEnvironment(t *testing.T) {
	for _, args := range [][]string{nil, {"model", "apply"}} {
		err := run(t.Context(), args, nil, io.Discard, io.Discard)
		if err == nil {
			t.Fatal("no error")
		}

		for _, name := range []string{"ENVIRONMENT", "LOG_LEVEL", "DEBUG", "LISTEN_ADDR",
			"DRAIN_TIMEOUT", "OLLAMA_API_URL", "DEFAULT_MODEL", "MODELFILE_PATH",
			"MODELFILE_DIGEST", "APPLY_MODEL", "MAX_PARALLEL", "MAX_QUEUE", "GENERATION_TIMEOUT", "KEEP_ALIVE"} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v: %s is not named:\n%v", args, name, err)
			}
		}
	}

	environ, _ := project(t, "http://127.0.0.1:1")
	err := run(t.Context(), nil,
		append(environ, "LOG_LEVEL=loud", "MAX_PARALLEL=0", "OLLAMA_API_URL=http://ollama",
			"GENERATION_TIMEOUT=0s", "MODELFILE_PATH=x"),
		io.Discard, io.Discard)

	for _, name := range []string{
		"LOG_LEVEL", "MAX_PARALLEL", "OLLAMA_API_URL", "GENERATION_TIMEOUT", "MODELFILE_PATH",
	} {
		if err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named:\n%v", name, err)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	environ, _ := project(t, "http://127.0.0.1:1")
	err = run(t.Context(), nil, append(environ, "LISTEN_ADDR="+l.Addr().String()), io.Discard,
		io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "LISTEN_ADDR: ") {
		t.Errorf("got %v", err)
	}
}

// output is a buffer that can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}
func (o *output) String() string { o.mu.Lock(); defer o.mu.Unlock(); return o.b.String() }

// TestSharesItsQueue: with a Redis ml's queue is that of all; without it ml goes on.
func TestSharesItsQueue(t *testing.T) {
	const password = "correct-horse"
	r := redistest.Start(t, "--requirepass", password)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	environ, url := project(t, "http://127.0.0.1:1")
	environ = append(environ, "REDIS_URL="+r.URL, "REDIS_PASSWORD_FILE="+file)
	ctx, stop := context.WithCancel(t.Context())
	var logs output
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, environ, io.Discard, &logs) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if strings.Contains(logs.String(), password) {
			t.Error("the log shows the password")
		}
	}()

	says := func(metric string) func() bool {
		return func() bool {
			resp, err := http.Get(url + "/metrics")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			return strings.Contains(string(b), "\n"+metric+"\n")
		}
	}

	decides := func(times int) func() bool {
		return func() bool {
			return strings.Count(logs.String(), "Redis decides who gets a turn") == times
		}
	}

	await(t, says("ml_queue_shared 1"))
	await(t, decides(1))
	r.Kill(t)
	await(t, says("ml_queue_shared 0"))
	if err := run(t.Context(), []string{"healthcheck"}, environ, io.Discard, io.Discard); err != nil {
		t.Errorf("without Redis: %v", err)
	}

	r.Restart(t)
	await(t, says("ml_queue_shared 1"))
	await(t, decides(2))

	for variable, value := range map[string]string{"REDIS_PASSWORD_FILE": "/gone", "REDIS_URL": "redis://a:1/x"} {
		if err := run(t.Context(), nil, append(environ, variable+"="+value), io.Discard,
			io.Discard); err == nil || !strings.HasPrefix(err.Error(), variable+": ") {
			t.Errorf("%s=%s: %v", variable, value, err)
		}
	}
}

// TestService: the whole process on a real Ollama, from its start to its stop.
func TestService(t *testing.T) {
	s := ollamatest.Start(t)
	environ, url := project(t, s.URL)
	client := backend(t, environ)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var logs output
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, environ, io.Discard, &logs) }()
	await(t, func() bool {
		return run(t.Context(), []string{"healthcheck"}, environ, io.Discard, io.Discard) == nil
	})
	await(t, func() bool {
		return run(t.Context(), []string{"healthcheck", url + "/ready"}, nil, io.Discard,
			io.Discard) == nil
	})

	await(t, func() bool { return state(t, client, url) == "m ready" })

	var progress output
	if err := run(t.Context(), []string{"model", "apply"}, environ, io.Discard,
		&progress); err != nil || !strings.Contains(progress.String(), "ready") {
		t.Errorf("apply: %v\n%s", err, progress.String())
	}

	resp, err := client.Post(url+"/chat", "application/json",
		strings.NewReader(`{"messages":[{"role":"user","content":"my secret question"}]}`))
	if err != nil {
		t.Fatal(err)
	}

	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(answer), `"text":"Hello!"`) ||
		!strings.Contains(string(answer), `"done":{"model":"m"`) {
		t.Errorf("answer: %s", answer)
	}

	refusesStrangers(t, url, environ)
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not stop")
	}

	if l := logs.String(); !strings.Contains(l, "draining") ||
		strings.Contains(l, "secret question") {
		t.Errorf("log:\n%s", l)
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not become true")
		}
	}
}

// refusesStrangers checks that the service answers the gate and the backend alone, and lists models
// for backups.
func refusesStrangers(t *testing.T, url string, environ []string) {
	t.Helper()
	at := contract.Redis{URL: strings.TrimPrefix(environ[len(environ)-1], redisURL)}
	person := identity.Person{ID: "VICTIM"}
	sign := func(service, audience string) string {
		return identity.Authorization(identitytest.Signer(t, at, service).Sign(person, audience))
	}

	type answer struct {
		authorization string
		status        int
		only          string // the route, if there is one; "" are all
	}
	answers := map[string]answer{
		"another signer": {sign("frontend", identity.ML), http.StatusUnauthorized, ""},
		"the gate":       {sign(identity.Gate, identity.ML), http.StatusOK, ""},
		"the backend":    {sign(identity.Backend, identity.ML), http.StatusOK, ""},
		"a backup":       {sign(identity.Backup, identity.ML), http.StatusOK, "GET /models"},
	}
	for name, token := range identitytest.Forged(t, at, person.ID, identity.ML) {
		answers[name] = answer{identity.Authorization(token), http.StatusUnauthorized, ""}
	}

	for name, tc := range answers {
		for _, route := range []string{"GET /models", "POST /chat", "POST /embed"} {
			method, path, _ := strings.Cut(route, " ")
			want := tc.status
			if tc.only != "" && tc.only != route {
				want = http.StatusUnauthorized
			}
			req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}

			req.Header.Set("Authorization", tc.authorization)
			req.Header.Set(wire.OwnerHeader, "VICTIM")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if want != resp.StatusCode && (want != http.StatusOK || path == "/models") ||
				want == http.StatusOK && resp.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s: %s %s answers %s", name, method, path, resp.Status)
			}
		}
	}
}
