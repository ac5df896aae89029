//go:build unix

package load_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/slowmodel"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// sources names another checkout whose services and Caddyfile are run, to compare two versions.
const sources = "CODEXCONTINUE_LOAD_SOURCES"

// process is one program of a stack that runs without containers.
type process struct {
	name, address string
	argv, env     []string

	// healthy is the path that answers 200 when it works; empty is a port that is listened on.
	healthy string
	log     *os.File

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts it, in a process group of its own.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}

	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	p.cmd, p.ended = cmd, ended
	return nil
}

// kill ends it and its children at once.
func (p *process) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}

	err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	p.cmd = nil
	return err
}

// await returns when it works.
func (p *process) await(ctx context.Context) error {
	client := &http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}

	for {
		err := func() error {
			if p.healthy == "" {
				c, err := net.DialTimeout("tcp", p.address, time.Second)
				if err == nil {
					c.Close()
				}
				return err
			}

			resp, err := client.Get("http://" + p.address + p.healthy)
			if err != nil {
				return err
			}
			defer resp.Body.Close()

			text, _ := io.ReadAll(resp.Body) // only to say more
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", resp.Status, text)
			}

			return nil
		}()
		if err == nil {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not work: %w", p.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// processes are a stack on this machine without containers: Redis, the slow model, ml, two backends
// behind a balancer that does what a cluster's Service does, a frontend, a gate, and the edge where
// there is a Caddy.
type processes struct {
	url string
	all map[string][]*process

	// edge reports whether there is one.
	edge bool
}

// startProcesses builds the services and starts everything.
func startProcesses(t *testing.T) *processes {
	t.Helper()
	redis, ollama := peers.Find(t, "redis", "redis-server"), peers.Find(t, "ollama", "ollama")
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for name, pkg := range map[string]string{
		"ml":        "./services/ml",
		"backend":   "./services/backend",
		"frontend":  "./services/frontend",
		"gate":      "./services/gate",
		"slowmodel": "./test/slowmodel/cmd/slowmodel",
	} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		if cmd.Dir = root; name != "slowmodel" {
			cmd.Dir = cmp.Or(os.Getenv(sources), root)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}

	writeModel(t, filepath.Join(dir, "modelfile"))
	m, err := modelfiles.Load(os.DirFS(dir), "modelfile/Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}

	s := &processes{all: map[string][]*process{}}
	add := func(service string, p *process) *process {
		p.name = service + strconv.Itoa(len(s.all[service])+1)
		log := filepath.Join(dir, p.name+".log")
		if p.log, err = os.Create(log); err != nil {
			t.Fatal(err)
		}

		s.all[service] = append(s.all[service], p)
		t.Cleanup(func() {
			_ = p.kill()
			p.log.Close()
			if keep := os.Getenv("CODEXCONTINUE_LOAD_LOGS"); keep != "" {
				text, err := os.ReadFile(log)
				if err == nil {
					err = os.WriteFile(filepath.Join(keep, p.name+".log"), text, 0o644)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})

		return p
	}

	environ := func(c contract.Environment) []string {
		t.Helper()
		vars, err := contract.Environ(c)
		if err != nil {
			t.Fatal(err)
		}
		return vars
	}

	common := func(address string) contract.Common {
		return contract.Common{
			Environment:  "load",
			LogLevel:     "warn",
			DrainTimeout: time.Minute,
			ListenAddr:   address,
		}
	}

	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}

	redisAt := freeAddress(t)
	_, redisPort, _ := net.SplitHostPort(redisAt)
	add(
		"redis",
		&process{
			address: redisAt,
			argv: []string{redis, "--port", redisPort, "--bind", "127.0.0.1", "--dir", data,
				"--appendonly", "yes", "--appendfsync", "everysec", "--save", ""},
		},
	)

	ollamaAt := freeAddress(t)
	add(
		"ollama",
		&process{
			address: ollamaAt,
			healthy: "/api/version",
			argv:    []string{filepath.Join(dir, "slowmodel"), "serve"},
			env: []string{
				"OLLAMA_REAL=" + ollama,
				"OLLAMA_HOST=" + ollamaAt,
				"HOME=" + dir,
				"OLLAMA_MODELS=" + filepath.Join(dir, "models"),
				"OLLAMA_NO_CLOUD=1",
				"OLLAMA_NOPRUNE=1",
				"OLLAMA_KEEP_ALIVE=-1",
				"PATH=" + os.Getenv("PATH"),
			},
		},
	)

	const parallel = 64
	mlAt := freeAddress(t)
	add("ml", &process{
		address: mlAt,
		healthy: "/ready",
		argv:    []string{filepath.Join(dir, "ml")},
		env: environ(&mlenv.Config{
			Common:            common(mlAt),
			OllamaURL:         "http://" + ollamaAt,
			DefaultModel:      "load",
			ApplyModel:        true,
			ModelfilePath:     filepath.Join(dir, "modelfile", "Modelfile"),
			ModelfileDigest:   m.Digest,
			MaxParallel:       parallel,
			MaxQueue:          64,
			GenerationTimeout: 5 * time.Minute,
			KeepAlive:         -1,
			OptionalRedis:     contract.OptionalRedis{RedisURL: "redis://" + redisAt + "/0"},
		}),
	})

	var backends []string
	for range 2 {
		at := freeAddress(t)
		backends = append(backends, at)
		add("backend", &process{
			address: at,
			healthy: "/health",
			argv:    []string{filepath.Join(dir, "backend")},
			env: environ(&backendenv.Config{
				Common:            common(at),
				RequiredRedis:     contract.RequiredRedis{RedisURL: "redis://" + redisAt + "/0"},
				MLServiceURL:      "http://" + mlAt,
				DefaultModel:      "load",
				GenerationTimeout: 5 * time.Minute,
			}),
		})
	}

	domainFile := filepath.Join(dir, "domain.json")
	texts, err := domain.Texts{
		Title: "Load", Greeting: "Ask", Prompts: []string{"Ask"}, Notice: "A test",
	}.Encode()
	if err == nil {
		err = os.WriteFile(domainFile, []byte(texts), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}

	frontendAt := freeAddress(t)
	add("frontend", &process{
		address: frontendAt,
		healthy: "/healthz",
		argv:    []string{filepath.Join(dir, "frontend")},
		env: environ(&frontendenv.Config{
			Common:     common(frontendAt),
			BackendURL: "http://" + balance(t, backends),
			DomainFile: domainFile,
		}),
	})

	gateAt := freeAddress(t)
	add("gate", &process{
		address: gateAt,
		healthy: "/ready",
		argv:    []string{filepath.Join(dir, "gate")},
		env: environ(&gateenv.Config{
			Common:            common(gateAt),
			RequiredRedis:     contract.RequiredRedis{RedisURL: "redis://" + redisAt + "/0"},
			FrontendURL:       "http://" + frontendAt,
			MLServiceURL:      "http://" + mlAt,
			RawCompletions:    true,
			Title:             "Load",
			SignIn:            gateenv.None,
			SessionIdle:       time.Hour,
			SessionLife:       time.Hour,
			GenerationTimeout: 5 * time.Minute,
		}),
	})

	s.url = "http://" + gateAt
	if caddy, err := exec.LookPath("caddy"); err == nil {
		edgeAt := freeAddress(t)
		add("edge", &process{address: edgeAt, healthy: "/edge/health", env: []string{"HOME=" + dir},
			argv: []string{
				caddy,
				"run",
				"--adapter",
				"caddyfile",
				"--config",
				writeCaddyfile(t, dir, cmp.Or(os.Getenv(sources), root), edgeAt, gateAt),
			}})

		s.url, s.edge = "http://"+edgeAt, true
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, service := range []string{"redis", "ollama", "ml", "backend", "frontend", "gate", "edge"} {
		for _, p := range s.all[service] {
			if err := errors.Join(p.start(), p.await(ctx)); err != nil {
				text, _ := os.ReadFile(p.log.Name()) // only to say more
				t.Fatalf("%v\n%s", err, text)
			}
		}
	}

	return s
}

// kill kills the first process of a service, and starts it again a moment later, as an engine does.
func (s *processes) kill(ctx context.Context, service string) (string, error) {
	list := s.all[service]
	p := list[0]
	s.all[service] = append(list[1:], p) // the next one next time
	if err := p.kill(); err != nil {
		return p.name, err
	}

	select {
	case <-ctx.Done():
		return p.name, ctx.Err()
	case <-time.After(300 * time.Millisecond):
	}

	return p.name, p.start()
}

func (s *processes) healthy(ctx context.Context, service string) error {
	for _, p := range s.all[service] {
		if err := p.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writeModel writes the model that ml makes.
func writeModel(t *testing.T, dir string) {
	t.Helper()
	var gguf bytes.Buffer
	if err := errors.Join(os.MkdirAll(dir, 0o755), tinymodel.Write(&gguf)); err != nil {
		t.Fatal(err)
	}

	text := slowmodel.Modelfile("./tiny.gguf") +
		"\nPARAMETER num_ctx 8192\nPARAMETER num_thread 1\n"
	err := errors.Join(os.WriteFile(filepath.Join(dir, "tiny.gguf"), gguf.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "Modelfile"), []byte(text), 0o644))
	if err != nil {
		t.Fatal(err)
	}
}

// writeCaddyfile writes the stack's own Caddyfile with addresses of this machine.
func writeCaddyfile(t *testing.T, dir, root, edge, gate string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "stacks", "edge", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}

	_, edgePort, _ := net.SplitHostPort(edge)
	_, gatePort, _ := net.SplitHostPort(gate)
	config := string(text)
	for from, to := range map[string]string{
		"\n:8080 {":           "\n:" + edgePort + " {\n\tbind 127.0.0.1",
		"dynamic a gate 8003": "dynamic a localhost " + gatePort,
	} {
		if strings.Count(config, from) != 1 {
			t.Fatalf("stacks/edge/Caddyfile does not hold %q once", from)
		}
		config = strings.Replace(config, from, to, 1)
	}

	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}

	return file
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
}

// balance passes connections on to one address after the other, and to the next where one is
// refused, until the test ends.
func balance(t *testing.T, addresses []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	pass := func(in net.Conn, n int) {
		defer in.Close()
		for i := range addresses {
			out, err := net.DialTimeout("tcp", addresses[(n+i)%len(addresses)], time.Second)
			if err != nil {
				continue
			}

			go func() {
				_, _ = io.Copy(out, in) // either end may go
				out.Close()
				in.Close()
			}()

			_, _ = io.Copy(in, out)
			out.Close()
			return
		}
	}

	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pass(c, n)
		}
	}()

	return l.Addr().String()
}
