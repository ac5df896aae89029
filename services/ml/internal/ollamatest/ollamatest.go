// Package ollamatest starts a real Ollama for tests, and puts the tiny test model
// into folders and stores.
package ollamatest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

// Server is an Ollama of one test's own, with an empty store.
type Server struct {
	// URL is http://127.0.0.1:port, with the address of a fleet's own. It stays the same
	// over Kill and Restart.
	URL string

	// Store is the folder of its models.
	Store string

	home, host string // host:port
	readOnly   bool   // the store
	cmd        *exec.Cmd
	exited     chan struct{}
	log        *log
}

// Start starts the ollama on PATH. Without one the test is skipped, unless
// CODEXCONTINUE_REQUIRE_PEERS names ollama.
func Start(t testing.TB) *Server {
	t.Helper()
	peers.Find(t, "ollama", "ollama")
	for attempt := 1; ; attempt++ {
		s := newServer(t, "127.0.0.1:"+peers.FreePort(t, "127.0.0.1"))
		err := s.start()
		if err == nil {
			return s
		}
		if attempt == 3 { // somebody may take the port before Ollama does
			t.Fatalf("%v\n%s", err, s.log.tail())
		}
	}
}

func newServer(t testing.TB, host string) *Server {
	t.Helper()
	home := t.TempDir()
	s := &Server{URL: "http://" + host, home: home, host: host, log: &log{}}
	s.Store = filepath.Join(home, "models")

	t.Cleanup(func() {
		s.Kill(t)
		if t.Failed() {
			t.Logf("the end of the log of Ollama at %s:\n%s", host, s.log.tail())
		}
	})

	return s
}

func (s *Server) start() error {
	s.cmd = exec.Command("ollama", "serve")
	if s.readOnly { // in a mount namespace of its own
		s.cmd = exec.Command("unshare", "-rm", "sh", "-c",
			`mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec ollama serve`, s.Store)
	}

	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "OLLAMA_MODELS=" + s.Store,
		"OLLAMA_HOST=" + s.host, "OLLAMA_NOPRUNE=1",
		"OLLAMA_NO_CLOUD=1", "OLLAMA_MAX_LOADED_MODELS=16", "OLLAMA_NUM_PARALLEL=2",
		"TMPDIR=" + s.home}

	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	ownGroup(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return err
	}

	exited := make(chan struct{})
	s.exited = exited
	cmd := s.cmd
	go func() { _ = cmd.Wait(); close(exited) }()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if resp, err := http.Get(s.URL + "/api/version"); err == nil {
			resp.Body.Close()
			return nil
		}

		select {
		case <-exited:
			return fmt.Errorf("ollama ended at once: %s", cmd.ProcessState)
		case <-time.After(10 * time.Millisecond):
		}
	}

	return fmt.Errorf("ollama did not answer at %s", s.URL)
}

// Kill ends Ollama and its runners at once, as a crash of their container does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if !s.Running() {
		return
	}
	if err := killGroup(s.cmd); err != nil {
		t.Error(err)
	}

	<-s.exited
}

// Restart starts Ollama again after Kill, on the same port and store.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Running reports whether the process runs.
func (s *Server) Running() bool {
	if s.exited == nil {
		return false
	}

	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Client is a client of the server.
func (s *Server) Client() *ollama.Client { return ollama.New(s.URL) }

// Tiny makes a model of the tiny weights whose prompt ends in end (see tinymodel.Modelfile).
func (s *Server) Tiny(t testing.TB, name, end string) {
	t.Helper()
	_, template, _ := strings.Cut(tinymodel.Modelfile("x", end), `"""`)
	template = strings.TrimSuffix(template, "\"\"\"\n")
	s.Make(t, &api.CreateRequest{Model: name, Template: template}, GGUF(t))
}

// Continuing makes a model of the tiny weights that goes on from an assistant's last message.
func (s *Server) Continuing(t testing.TB, name string) {
	t.Helper()
	var b bytes.Buffer
	if err := tinymodel.WriteContinuing(&b); err != nil {
		t.Fatal(err)
	}
	s.Make(t, &api.CreateRequest{Model: name, Template: ContinuingTemplate}, b.Bytes())
}

// Calling makes a model of the tiny weights that calls a tool and fills in (see
// tinymodel.CallingModelfile), with its own SYSTEM prompt and context.
func (s *Server) Calling(t testing.TB, name, system string, numCtx int) {
	t.Helper()
	var b bytes.Buffer
	if err := tinymodel.WriteCalling(&b); err != nil {
		t.Fatal(err)
	}

	_, template, _ := strings.Cut(tinymodel.CallingModelfile("x"), `"""`)
	s.Make(t, &api.CreateRequest{
		Model:      name,
		Template:   strings.TrimSuffix(template, "\"\"\"\n"),
		System:     system,
		Parameters: map[string]any{"num_ctx": numCtx},
	}, b.Bytes())
}

// ContinuingTemplate ends in the text so far when the last message is the assistant's, as those of
// most models do.
const ContinuingTemplate = `{{ if .System }}[SYS]{{ .System }}[/SYS]
{{ end }}{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}` +
	`{{ if eq .Role "assistant" }}[assistant]{{ .Content }}{{ if not $last }}</s>
{{ end }}{{ else if eq .Role "user" }}[user] {{ .Content }}
{{ if $last }}[assistant]{{ end }}{{ end }}{{ end }}`

// ThinkingTemplate is that of a model that thinks: the prompt opens its reasoning, which the tiny
// weights never close.
const ThinkingTemplate = `{{ range .Messages }}[{{ .Role }}] ` +
	`{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{ end }}[assistant]<think>`

// Make makes a model of weights; the request says the rest.
func (s *Server) Make(t testing.TB, req *api.CreateRequest, weights []byte) {
	t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(weights))
	c := s.Client()
	if err := c.CreateBlob(t.Context(), digest, bytes.NewReader(weights)); err != nil {
		t.Fatal(err)
	}

	req.Files = map[string]string{"tiny.gguf": digest}
	if req.Parameters == nil {
		req.Parameters = map[string]any{}
	}

	req.Parameters["num_thread"] = 1 // more would only wait for each other on a busy machine
	if err := c.Create(t.Context(), req, func(api.ProgressResponse) {}); err != nil {
		t.Fatal(err)
	}
}

// GGUF is the file of the tiny weights.
func GGUF(t testing.TB) []byte {
	t.Helper()
	b, err := gguf()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var gguf = sync.OnceValues(func() ([]byte, error) {
	var b bytes.Buffer
	err := tinymodel.Write(&b)
	return b.Bytes(), err
})

// log keeps what Ollama says.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[max(0, l.b.Len()-4000):])
}
