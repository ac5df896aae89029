package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// tokens is the length of each measured answer.
const tokens = 400

// own are the repository's services in their order of start.
var own = []string{"ml", "backend", "frontend", "gate"}

// tags are the build tags that services/Dockerfile names.
const tags = "nethttpomithttp2"

// health are the paths of the services' liveness probes.
var health = map[string]string{
	"ml": "/health", "backend": "/health", "frontend": "/healthz", "gate": "/ready",
}

// chain is the services and their dependencies, run as processes on loopback to measure them
// without the cost of containers.
type chain struct {
	*bench
	dir string

	// ports are by program. env is the configuration of each of own.
	ports map[string]int
	env   map[string][]string

	// running is in the order of start.
	running []*process
}

func (c *chain) url(name, path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", c.ports[name], path)
}

func (c *chain) redisURL() string {
	return fmt.Sprintf("redis://127.0.0.1:%d/0", c.ports["redis"])
}

func (c *chain) stop() {
	for _, p := range slices.Backward(c.running) {
		p.stop()
	}
}

// newChain builds the services, stripped and static as in their production images, and
// starts Ollama and Redis, which gets the options.
func (b *bench) newChain(ctx context.Context, name string, options ...string) (*chain, error) {
	golang, err := b.find("go", "install Go")
	if err != nil {
		return nil, err
	}

	redis, err := b.find("redis-server", "install redis-server")
	if err != nil {
		return nil, err
	}

	ollama, err := b.find("ollama", "run test/peers/build.sh ollama, or install Ollama")
	if err != nil {
		return nil, err
	}

	c := &chain{
		bench: b,
		dir:   filepath.Join(b.dir, name),
		ports: map[string]int{},
		env:   map[string][]string{},
	}

	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}

	for _, s := range own {
		_, err := b.output(ctx, b.root, "env", "CGO_ENABLED=0", golang, "build", "-trimpath",
			"-tags="+tags, "-ldflags=-s -w", "-o", c.binary(s), "./services/"+s)
		if err != nil {
			return nil, err
		}
	}

	for _, s := range append([]string{"redis", "ollama", "edge", "https"}, own...) {
		if c.ports[s], err = freePort(); err != nil {
			return nil, err
		}
	}

	if err := c.startOthers(ctx, redis, options, ollama); err == nil {
		if err = c.configure(); err == nil {
			return c, nil
		}
	}

	c.stop()
	return nil, err
}

func (c *chain) binary(service string) string { return filepath.Join(c.dir, service) }

func (c *chain) startOthers(
	ctx context.Context, redis string, options []string, ollama string,
) error {
	argv := append([]string{redis, "--port", fmt.Sprint(c.ports["redis"]), "--bind", "127.0.0.1",
		"--save", "", "--dir", c.dir}, options...)
	p, err := c.start(ctx, "redis", "", nil, argv...)
	if err != nil {
		return err
	}

	c.running = append(c.running, p)
	p, err = c.start(ctx, "ollama", c.url("ollama", "/"),
		[]string{"HOME=" + c.dir, fmt.Sprintf("OLLAMA_HOST=127.0.0.1:%d", c.ports["ollama"]),
			"OLLAMA_MODELS=" + filepath.Join(c.dir, "models"), "OLLAMA_KEEP_ALIVE=-1",
			"OLLAMA_NUM_PARALLEL=2",
			"PATH=" + strings.Join(c.path, string(os.PathListSeparator))},
		ollama, "serve")
	if err != nil {
		return err
	}

	c.running = append(c.running, p)
	version, err := c.output(ctx, c.dir, redis, "--version")
	if err != nil {
		return err
	}

	for _, f := range strings.Fields(version) {
		if v, ok := strings.CutPrefix(f, "v="); ok {
			c.report.Versions["redis"] = v
		}
	}

	version, err = c.output(ctx, c.dir, ollama, "--version")
	if f := strings.Fields(version); err == nil && len(f) > 0 {
		c.report.Versions["ollama"] = f[len(f)-1]
	}

	return err
}

// configure writes the model and renders each service's environment with the
// contract, as a plan does.
func (c *chain) configure() error {
	if err := writeModel(filepath.Join(c.dir, "modelfile")); err != nil {
		return err
	}

	m, err := modelfiles.Load(os.DirFS(c.dir), "modelfile/Modelfile", "")
	if err != nil {
		return err
	}

	domainFile := filepath.Join(c.dir, "domain.json")
	texts, err := domain.Texts{
		Title:    "Bench",
		Greeting: "Ask",
		Prompts:  []string{"Ask"},
		Notice:   "A benchmark",
	}.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(domainFile, []byte(texts), 0o644); err != nil {
		return err
	}

	common := func(name string) contract.Common {
		return contract.Common{
			Environment:  "bench",
			LogLevel:     "warn",
			DrainTimeout: time.Second,
			ListenAddr:   fmt.Sprintf("127.0.0.1:%d", c.ports[name]),
		}
	}

	redis := c.redisURL()

	// The queue has room for the streams that are open at once.
	ml, errML := contract.Environ(&mlenv.Config{
		Common:            common("ml"),
		OllamaURL:         c.url("ollama", ""),
		DefaultModel:      "bench",
		ModelfilePath:     filepath.Join(c.dir, "modelfile", "Modelfile"),
		ModelfileDigest:   m.Digest,
		ApplyModel:        true,
		MaxParallel:       2,
		MaxQueue:          2 * streams,
		GenerationTimeout: 5 * time.Minute,
		KeepAlive:         -1,
		OptionalRedis:     contract.OptionalRedis{RedisURL: redis},
	})

	backend, errBackend := contract.Environ(&backendenv.Config{
		Common:            common("backend"),
		RequiredRedis:     contract.RequiredRedis{RedisURL: redis},
		MLServiceURL:      c.url("ml", ""),
		DefaultModel:      "bench",
		GenerationTimeout: 5 * time.Minute,
	})

	frontend, errFrontend := contract.Environ(&frontendenv.Config{
		Common:     common("frontend"),
		BackendURL: c.url("backend", ""),
		DomainFile: domainFile,
	})

	gate, errGate := contract.Environ(&gateenv.Config{
		Common:            common("gate"),
		RequiredRedis:     contract.RequiredRedis{RedisURL: redis},
		FrontendURL:       c.url("frontend", ""),
		MLServiceURL:      c.url("ml", ""),
		RawCompletions:    true,
		Title:             "Bench",
		SignIn:            gateenv.None,
		SessionIdle:       time.Hour,
		SessionLife:       time.Hour,
		GenerationTimeout: 5 * time.Minute,
	})

	for name, vars := range map[string][]string{
		"ml": ml, "backend": backend, "frontend": frontend, "gate": gate,
	} {
		c.env[name] = append(c.env[name], vars...)
	}

	return errors.Join(errML, errBackend, errFrontend, errGate)
}

// service starts one of own.
func (c *chain) service(ctx context.Context, name string) (*process, error) {
	p, err := c.start(ctx, name, c.url(name, health[name]), c.env[name], c.binary(name))
	if err == nil {
		c.running = append(c.running, p)
	}
	return p, err
}

// all starts the services and waits until the model can be used.
func (c *chain) all(ctx context.Context) (map[string]*process, error) {
	out := map[string]*process{}
	for _, name := range own {
		p, err := c.service(ctx, name)
		if err != nil {
			return nil, err
		}
		out[name] = p
	}

	return out, awaitReady(ctx, c.url("ml", "/ready"))
}

// edge starts Caddy with the stack's own Caddyfile and other addresses. It reports false
// if there is no Caddy.
func (c *chain) edge(ctx context.Context) (bool, error) {
	caddy, err := c.find("caddy", "")
	if err != nil {
		return false, nil
	}

	text, err := os.ReadFile(filepath.Join(c.root, "stacks", "edge", "Caddyfile"))
	if err != nil {
		return false, err
	}

	_, err = c.caddy(ctx, "edge", caddy, string(text), c.url("edge", "/edge/health"),
		"\n:8080 {", fmt.Sprintf("\n:%d {\n\tbind 127.0.0.1", c.ports["edge"]),
		"dynamic a gate 8003", fmt.Sprintf("dynamic a localhost %d", c.ports["gate"]))
	return err == nil, err
}

// caddy starts Caddy with the configuration, in which each text is replaced by the one that
// follows it, and waits until health answers. It keeps its certificates in the chain's folder.
func (c *chain) caddy(
	ctx context.Context, name, program, config, health string, oldNew ...string,
) (*process, error) {
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(config, oldNew[i]) {
			return nil, fmt.Errorf("the Caddyfile does not hold %q: teach the bench its new form",
				oldNew[i])
		}
		config = strings.ReplaceAll(config, oldNew[i], oldNew[i+1])
	}

	file := filepath.Join(c.dir, name+".caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}

	p, err := c.start(ctx, name, health,
		[]string{"HOME=" + c.dir, "XDG_DATA_HOME=" + filepath.Join(c.dir, name+"-data")}, program,
		"run", "--config", file, "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}

	c.running = append(c.running, p)
	version, err := c.output(ctx, c.dir, program, "version")
	c.report.Versions["caddy"], _, _ = strings.Cut(version, " ")
	return p, err
}

// writeModel writes a model that never stops by itself, so that every answer is as
// long as the bench wants.
func writeModel(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}

	var gguf bytes.Buffer
	if err := tinymodel.Write(&gguf); err != nil {
		return err
	}

	// The context is set as in the models that the stacks have. More threads than one would only
	// wait for each other.
	text := tinymodel.Modelfile("./tiny.gguf", tinymodel.LoopToken) +
		fmt.Sprintf("\nPARAMETER num_predict %d\nPARAMETER num_ctx 8192\nPARAMETER num_thread 1\n",
			tokens)
	return errors.Join(os.WriteFile(filepath.Join(dir, "tiny.gguf"), gguf.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "Modelfile"), []byte(text), 0o644))
}
