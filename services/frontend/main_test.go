package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func environ(t *testing.T, addr, backend string) []string {
	t.Helper()
	texts, err := domain.Texts{
		Title:    "CodexContinue",
		Greeting: "What are you working on?",
		Prompts:  []string{"Write a Go function."},
		Notice:   "Answers can be wrong.",
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "domain.json")
	if err := os.WriteFile(file, []byte(texts), 0o644); err != nil {
		t.Fatal(err)
	}

	vars, err := contract.Environ(&frontendenv.Config{
		Common: contract.Common{
			Environment:  "dev",
			LogLevel:     "info",
			ListenAddr:   addr,
			DrainTimeout: 10 * time.Second,
		},
		BackendURL: backend,
		DomainFile: file,
	})
	if err != nil {
		t.Fatal(err)
	}

	return vars
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
}

// TestServeAndDrain checks that the service passes its own health check and follows an answer,
// and that on a stop it ends the stream at once with the request to connect again, long before
// the drain time is over.
func TestServeAndDrain(t *testing.T) {
	backend := httptest.NewServer(fakebackend.New(time.Now(),
		func(_ string, a *fakebackend.Answer) {
			a.Text("word")
			<-a.Stopped()
		}))
	defer func() { backend.CloseClientConnections(); backend.Close() }()
	addr := freeAddr(t)
	env := environ(t, addr, backend.URL)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log lines
	done := make(chan error, 1)
	go func() { done <- run(ctx, nil, env, io.Discard, &log) }()
	deadline := time.Now().Add(10 * time.Second)
	for run(ctx, []string{"healthcheck"}, env, io.Discard, io.Discard) != nil {
		if time.Now().After(deadline) {
			t.Fatalf("never healthy:\n%s", log.String())
		}
	}

	post, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/chat",
		strings.NewReader("message=x"))
	get, _ := http.NewRequestWithContext(t.Context(), "GET",
		"http://"+addr+"/generations/g1/events", nil)
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	post.Header.Set("Authorization", "Bearer tester")
	get.Header.Set("Authorization", "Bearer tester")
	sent, err := http.DefaultTransport.RoundTrip(post)
	if err != nil {
		t.Fatal(err)
	}

	sent.Body.Close()
	stream, err := http.DefaultClient.Do(get)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()

	first := make([]byte, 1)
	if _, err := io.ReadFull(stream.Body, first); err != nil || stream.StatusCode != 200 {
		t.Fatalf("%s: %v", stream.Status, err)
	}

	begin := time.Now()
	stop()
	rest, err := io.ReadAll(stream.Body)
	if err != nil || !strings.Contains(string(rest), "event: again") {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the stop took %s", took)
	}

	for _, want := range []string{`"msg":"listening"`, `"msg":"draining"`, `"msg":"stopped"`, `"request_id"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestCommandLine(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out, io.Discard); err != nil ||
		strings.TrimSpace(out.String()) == "" {
		t.Errorf("version: %q, %v", out.String(), err)
	}

	down := freeAddr(t)
	for _, tt := range []struct {
		args    []string
		environ []string
		want    string
	}{
		{[]string{"nonsense"}, nil, "usage: frontend"},
		{[]string{"version", "x"}, nil, "usage: frontend"},
		{[]string{"healthcheck", "a", "b"}, nil, "usage: frontend"},
		{[]string{"healthcheck"}, nil, "LISTEN_ADDR is not set"},
		{[]string{"healthcheck", "http://" + down + "/healthz"}, nil, "refused"},
		{nil, nil, "BACKEND_URL"},
		{nil, append(environ(t, ":0", "http://backend:8000"), "BACKEND_URL=http://backend"), "BACKEND_URL"},
		{nil, append(environ(t, ":0", "http://backend:8000"), "LISTEN_ADDR=nowhere:99999"), "LISTEN_ADDR"},
		{nil, append(environ(t, ":0", "http://backend:8000"), "DOMAIN_FILE=/absent.json"), "DOMAIN_FILE"},
	} {
		err := run(t.Context(), tt.args, tt.environ, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run(%q): %v, want %q", tt.args, err, tt.want)
		}
	}
}
