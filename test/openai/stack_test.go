// Package openai_test asks the API for programs with OpenAI's own clients: through the real gate and
// ml, of a real Ollama with a tiny model.
package openai_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/redis/go-redis/v9"
)

// stack is a gate and what it needs, without containers.
type stack struct {
	gate, ml, redis, key string

	log  string // the file with what the gate and ml say
	stop func()
}

// numCtx is the model's context in tokens.
const numCtx = tinymodel.CallingContext

// start builds and starts everything, and makes a key on the page.
func start(t *testing.T) *stack {
	t.Helper()
	ollama, redisServer := peers.Find(t, "ollama", "ollama"), peers.Find(t, "redis", "redis-server")
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", "./services/gate", "./services/ml")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	digest := writeModel(t, dir)
	address := func() string { return "127.0.0.1:" + peers.FreePort(t, "127.0.0.1") }
	redisPort := peers.FreePort(t, "127.0.0.1")
	redisURL := "redis://127.0.0.1:" + redisPort + "/0"
	ollamaAt, mlAt, gateAt := address(), address(), address()
	s := &stack{gate: "http://" + gateAt, ml: "http://" + mlAt, redis: redisURL}
	s.log = filepath.Join(dir, "log")
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })

	ctx, cancel := context.WithCancel(t.Context())
	var running []*exec.Cmd
	run := func(log *os.File, env []string, argv ...string) {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		if cmd.Env = env; log != nil {
			cmd.Stdout, cmd.Stderr = log, log
		}
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 20 * time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}

	s.stop = func() {
		cancel()
		for _, cmd := range running {
			_ = cmd.Wait() // it was interrupted
		}
		running = nil
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			said, err := os.ReadFile(s.log)
			t.Logf("the services said:\n%s, %v", said, err)
		}
	})

	run(nil, nil, redisServer, "--port", redisPort, "--bind", "127.0.0.1", "--save", "",
		"--rdbcompression", "no", "--dir", dir) // else a dump of a value may not have its texts
	run(nil, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "OLLAMA_HOST=" + ollamaAt,
		"OLLAMA_MODELS=" + filepath.Join(dir, "models"), "OLLAMA_NO_CLOUD=1", "OLLAMA_NUM_PARALLEL=2",
	}, ollama, "serve")
	common := func(address string) contract.Common {
		return contract.Common{
			Environment: "test", LogLevel: "debug", DrainTimeout: 5 * time.Second, ListenAddr: address,
		}
	}
	run(log, environ(t, &mlenv.Config{
		Common:            common(mlAt),
		OllamaURL:         "http://" + ollamaAt,
		DefaultModel:      "tiny",
		ApplyModel:        true,
		ModelfilePath:     filepath.Join(dir, "modelfile", "Modelfile"),
		ModelfileDigest:   digest,
		MaxParallel:       1,
		MaxQueue:          1,
		GenerationTimeout: time.Minute,
		KeepAlive:         -1,
		OptionalRedis:     contract.OptionalRedis{RedisURL: redisURL},
	}), filepath.Join(dir, "ml"))
	run(log, environ(t, &gateenv.Config{
		Common:            common(gateAt),
		RequiredRedis:     contract.RequiredRedis{RedisURL: redisURL},
		FrontendURL:       s.ml, // it is not asked
		MLServiceURL:      s.ml,
		RawCompletions:    true,
		Title:             "Test",
		SignIn:            gateenv.None,
		SessionIdle:       time.Hour,
		SessionLife:       time.Hour,
		GenerationTimeout: time.Minute,
	}), filepath.Join(dir, "gate"))

	await(t, "ml and the gate", func() bool {
		for _, u := range []string{s.ml, s.gate} {
			resp, err := http.Get(u + "/ready")
			if err != nil {
				return false
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	})
	s.key = s.makeKey(t, "chat", "completions", "embeddings", "models")
	return s
}

func environ(t *testing.T, c contract.Environment) []string {
	t.Helper()
	vars, err := contract.Environ(c)
	if err != nil {
		t.Fatal(err)
	}
	return vars
}

// writeModel writes the model into dir/modelfile, and returns its digest.
func writeModel(t *testing.T, dir string) string {
	t.Helper()
	var weights bytes.Buffer
	if err := tinymodel.WriteCalling(&weights); err != nil {
		t.Fatal(err)
	}

	folder := filepath.Join(dir, "modelfile")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	text := tinymodel.CallingModelfile("./tiny.gguf") + "SYSTEM Be kind.\n" +
		fmt.Sprintf("PARAMETER num_ctx %d\nPARAMETER num_thread 1\n", numCtx)
	for name, content := range map[string][]byte{
		"tiny.gguf": weights.Bytes(), "Modelfile": []byte(text),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	m, err := modelfiles.Load(os.DirFS(dir), "modelfile/Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// makeKey makes a key on the page, as a browser does.
func (s *stack) makeKey(t *testing.T, scopes ...string) string {
	t.Helper()
	form := url.Values{"name": {"test"}, "scope": scopes}
	resp, err := http.PostForm(s.gate+"/account/keys", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`cck_[A-Z2-7]{39}`).FindString(string(page))
	if key == "" {
		t.Fatalf("no key on the page: %s", page)
	}
	return key
}

// gauge returns the value of one of ml's gauges.
func (s *stack) gauge(t *testing.T, name string) string {
	t.Helper()
	resp, err := http.Get(s.ml + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+" ")
	value, _, _ := strings.Cut(after, "\n")
	return value
}

// quiet waits until no request is with Ollama.
func (s *stack) quiet(t *testing.T) {
	t.Helper()
	await(t, "Ollama to be asked nothing", func() bool {
		return s.gauge(t, "ml_queue_running") == "0"
	})
}

// unkept stops everything, and checks that neither Redis nor the logs have one of the texts.
func (s *stack) unkept(t *testing.T, texts ...string) {
	t.Helper()
	o, err := redis.ParseURL(s.redis)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	defer client.Close()
	names, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(names) == 0 {
		t.Fatalf("Redis has the keys %q, %v", names, err)
	}
	for _, name := range names {
		value, err := client.Dump(t.Context(), name).Result() // "" of one that has expired
		if err != nil && err != redis.Nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if strings.Contains(name+value, text) {
				t.Errorf("%s in Redis has %q", name, text)
			}
		}
	}

	s.stop()
	log, err := os.ReadFile(s.log)
	if err != nil || !strings.Contains(string(log), "/v1/chat/completions") {
		t.Fatalf("the log is %q, %v", log, err)
	}
	for _, text := range texts {
		if strings.Contains(string(log), text) {
			t.Errorf("the log has %q", text)
		}
	}
}

func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if reached() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}
