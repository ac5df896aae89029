package stacks_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	inside "github.com/codexcontinue/codexcontinue/stacks/authority"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// secured returns prod with TLS inside.
func secured(t *testing.T) stacks.Stack {
	t.Helper()
	s := withPassword()
	s.InternalTLS, s.SignIn = new(true), &stacks.SignInSettings{Accounts: true}
	s.Secrets[stacks.InternalAuthorityKey] = true
	stack := load(t, "prod", s)
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}
	return stack
}

func TestInternalTLS(t *testing.T) {
	for name, stack := range map[string]stacks.Stack{
		"prod": secured(t), "healthcare": load(t, "healthcare", withPassword()),
	} {
		if !stack.InternalTLS() {
			t.Fatalf("%s: the services speak plain HTTP", name)
		}

		callers := map[string][]string{}
		for _, svc := range stack.Services {
			if len(svc.CertificateFiles()) != 2 {
				t.Errorf("%s: %s has the files %v", name, svc.Name, svc.CertificateFiles())
			}
			if svc.Contract == nil {
				continue
			}

			vars, err := contract.Render(svc.Contract)
			if err != nil {
				t.Fatal(err)
			}
			callers[svc.Name] = svc.Contract.Shared().TLSCallers
			for variable, value := range vars {
				if strings.HasPrefix(value, "http://") || strings.HasPrefix(value, "redis://") {
					t.Errorf("%s: %s of %s is %s", name, variable, svc.Name, value)
				}
			}
			for _, word := range svc.Health.Command {
				if strings.HasPrefix(word, "http://") {
					t.Errorf("%s: the health check of %s asks %s", name, svc.Name, word)
				}
			}
		}

		callers["ollama"] = []string{stack.Service(stacks.Ollama).Env["TLS_CALLERS"]}
		for service, want := range map[string][]string{
			"gate": {"edge"}, "frontend": {"gate"}, "backend": {"frontend"},
			"ml": {"gate", "backend"}, "ollama": {"ml"},
		} {
			if !slices.Equal(callers[service], want) {
				t.Errorf("%s: %v may call %s, want %v", name, callers[service], service, want)
			}
		}
		if n := stack.OllamaPort(); n != 11433 {
			t.Errorf("%s: Ollama is at %d in its container", name, n)
		}
	}

	plain := load(t, "prod", withPassword())
	if plain.InternalTLS() || plain.OllamaPort() != 11434 ||
		plain.Service(stacks.Gate).EndsTLS() {
		t.Error("prod speaks TLS inside without being asked to")
	}
}

// TestEdgeHost holds that the gate looks for the edge where all containers reach it, and only there.
func TestEdgeHost(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stacks.Settings)
		want   string
	}{
		"an engine": {func(*stacks.Settings) {}, stacks.Edge},
		"TLS inside": {func(s *stacks.Settings) {
			s.InternalTLS, s.Secrets[stacks.InternalAuthorityKey] = new(true), true
		}, ""},
		"a cluster": {func(s *stacks.Settings) { s.Target = stacks.Kubernetes }, ""},
	} {
		s := withPassword()
		tt.change(&s)
		if _, c := gateOf(t, load(t, "prod", s)); c.EdgeHost != tt.want {
			t.Errorf("%s: EDGE_HOST is %q, want %q", name, c.EdgeHost, tt.want)
		}
	}
}

// TestInternalTLSOtherRedis: a Redis of somebody else has an authority of its own, or none.
func TestInternalTLSOtherRedis(t *testing.T) {
	s := withPassword()
	s.InternalTLS, s.Secrets[stacks.InternalAuthorityKey] = new(true), true
	s.Redis = &stacks.RedisSettings{URL: "rediss://redis.example.com:6379/0"}
	stack := load(t, "prod", s)
	c := stack.Service(stacks.Gate).Contract.(*gateenv.Config)
	if c.RedisURL != s.Redis.URL || c.RedisCAFile+c.RedisCertificateFile != "" {
		t.Errorf("the gate is given %s, %q and %q", c.RedisURL, c.RedisCAFile, c.RedisCertificateFile)
	}
}

func TestInternalTLSRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		stack  string
		change func(*stacks.Settings)
		want   string
	}{
		"dev": {"dev", func(s *stacks.Settings) { s.InternalTLS, s.Secrets = new(true), nil },
			"codexcontinue:internalTLS: a development stack publishes"},
		"no authority": {"prod", func(s *stacks.Settings) { s.InternalTLS = new(true) },
			"codexcontinue:internalAuthority: is not set, and this stack needs it: " +
				"codexctl certificates new prod"},
		"a Redis in the clear": {"prod", func(s *stacks.Settings) {
			s.InternalTLS, s.Secrets[stacks.InternalAuthorityKey] = new(true), true
			s.Redis = &stacks.RedisSettings{URL: "redis://redis.example.com:6379/0"}
		}, "codexcontinue:redis.url: redis:// is in the clear"},
		"an authority alone": {"prod", func(s *stacks.Settings) {
			s.Secrets[stacks.InternalAuthorityKey] = true
		}, "codexcontinue:internalAuthority: is set, and the services do not speak TLS"},
		"a shared volume": {"prod", func(s *stacks.Settings) {
			s.Target, s.InternalTLS, s.AssumeSecrets = stacks.Kubernetes, new(true), true
			s.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Shared: new(true)}}
		}, "codexcontinue:volumes.ollama-data.shared: cannot be with codexcontinue:internalTLS"},
	} {
		s := withPassword()
		tt.change(&s)
		_, err := stacks.Load(tt.stack, s, checkout())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := stacks.DecodeSettings(map[string]string{"internalTLS": "yes"}, nil); err == nil {
		t.Error("a setting that is neither true nor false is taken")
	}
}

// TestCertificateText holds that files are made of the value, and that a value which is none, as in
// a plan, shows in them and gives nothing away.
func TestCertificateText(t *testing.T) {
	text := inside.New(time.Now())
	f := stacks.File{Secret: stacks.InternalAuthority, Content: stacks.CertificateFor("gate")}
	if _, err := tls.X509KeyPair([]byte(f.Text(text+"\n")), []byte(f.Text(text))); err != nil {
		t.Error(err)
	}

	const other = "placeholder-of-it"
	s := secured(t)
	if err := s.CheckSecret(f.Secret, text+"\n"); err != nil {
		t.Error(err)
	}
	err := s.CheckSecret(f.Secret, other)
	if err == nil || strings.Contains(err.Error(), other) ||
		!strings.HasPrefix(err.Error(), "codexcontinue:internalAuthority: is no authority: ") {
		t.Errorf("a value that is none: %v", err)
	}
	if err := s.CheckSecret(stacks.RedisPassword, other); err != nil {
		t.Error(err)
	}

	got := f.Text(other)
	if strings.Contains(got, other) || !strings.Contains(got, "is no authority") ||
		got == f.Text(other+"2") {
		t.Errorf("of another value: %q", got)
	}
	if !stacks.HasSecret(f.Content) || !stacks.HasSecret(stacks.AuthoritiesToken) {
		t.Error("a token does not count as one of a secret")
	}
}

// folder holds the files of a service of the stack, whose texts name each other there.
type folder struct {
	dir string
	*strings.Replacer
}

// newFolder writes the files, given the secrets' values, with each old text replaced by the new one
// after it.
func newFolder(
	t *testing.T, svc *stacks.Service, secrets map[string]string, oldNew ...string,
) folder {
	t.Helper()
	dir := t.TempDir()
	for _, f := range svc.Files {
		oldNew = append(oldNew, f.Path, filepath.Join(dir, path.Base(f.Path)))
	}

	out := folder{dir, strings.NewReplacer(oldNew...)}
	for _, f := range svc.Files {
		text := out.Replace(f.Text(secrets[f.Secret]))
		if err := os.WriteFile(filepath.Join(dir, path.Base(f.Path)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// clientOf returns what the service of the stack calls others with.
func clientOf(t *testing.T, text, service, server string) *tls.Config {
	t.Helper()
	a, err := inside.Parse(text)
	if err != nil {
		t.Fatal(err)
	}

	pair := []byte(a.Issue(service))
	c, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(a.Trusted()))
	return &tls.Config{Certificates: []tls.Certificate{c}, RootCAs: pool, ServerName: server}
}

// TestInternalRedis starts the real Redis as the stack does, and comes to it in all ways.
func TestInternalRedis(t *testing.T) {
	peers.Find(t, "redis", "redis-server")
	stack, text := secured(t), inside.New(time.Now())
	const password = "correct-horse-battery-staple"
	r := stack.Service(stacks.Redis)
	port := peers.FreePort(t, "127.0.0.1")
	data := t.TempDir()
	f := newFolder(t, r, map[string]string{
		stacks.RedisPassword: password, stacks.InternalAuthority: text,
	}, "bind * -::*", "bind 127.0.0.1", "tls-port 6379", "tls-port "+port, "/data", data)

	// Its own commands go to the port of the test, and its hours are short.
	for name, command := range map[string]string{
		"redis-cli": peers.Find(t, "redis", "redis-cli") + " -p " + port + ` "$@"`,
		"sleep":     "/bin/sleep 0.2",
	} {
		script := []byte("#!/bin/sh\nexec " + command + "\n")
		if err := os.WriteFile(filepath.Join(f.dir, name), script, 0o700); err != nil {
			t.Fatal(err)
		}
	}

	run := func(words []string) *exec.Cmd {
		for i := range words {
			words[i] = f.Replace(words[i])
		}
		cmd := exec.Command(words[0], words[1:]...)
		if words[0] == "redis-cli" {
			cmd.Path = filepath.Join(f.dir, "redis-cli")
		}
		cmd.Env = append(os.Environ(), "PATH="+f.dir+":"+os.Getenv("PATH"))
		for name, value := range r.Env {
			cmd.Env = append(cmd.Env, name+"="+f.Replace(value))
		}
		return cmd
	}

	out := &output{}
	cmd := run(slices.Clone(r.Command))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Redis said:\n%s", out)
		}
	})

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		said, err := run(slices.Clone(r.Health.Command)).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the health check: %v: %s", err, said)
		}
	}

	passwords := redisPasswords(stack, password)
	ask := func(config *tls.Config) error {
		c := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:" + port, Username: stacks.Backend, Password: passwords[stacks.Backend],
			TLSConfig: config, MaxRetries: -1, DisableIdentity: true,
			DialTimeout: time.Minute, ReadTimeout: time.Minute, // no answer is not taken for a no
		})
		defer c.Close()
		return c.Ping(context.Background()).Err()
	}

	after, err := inside.Rotate(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	anonymous := clientOf(t, text, stacks.Backend, stacks.Redis)
	anonymous.Certificates = nil
	for name, tt := range map[string]struct {
		config *tls.Config
		want   bool
	}{
		"a service":               {clientOf(t, text, stacks.Backend, stacks.Redis), true},
		"one that rotated before": {clientOf(t, after, stacks.Backend, stacks.Redis), true},
		"one without certificate": {anonymous, false},
		"another stack's": {
			clientOf(t, inside.New(time.Now()), stacks.Backend, stacks.Redis), false,
		},
		"one that means another": {clientOf(t, text, stacks.Backend, stacks.Ollama), false},
		"plain text":             {nil, false},
	} {
		if err := ask(tt.config); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The start script, which drops old records, speaks TLS as well.
	gate := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:" + port, Username: stacks.Gate, Password: passwords[stacks.Gate],
		TLSConfig: clientOf(t, text, stacks.Gate, stacks.Redis), DisableIdentity: true,
	})
	defer gate.Close()

	if err := gate.RPush(t.Context(), auditDays, ago(900), ago(0)).Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for len(gate.LRange(t.Context(), auditDays, 0, -1).Val()) != 1 {
		if time.Now().After(deadline) {
			t.Fatal("old records are not dropped")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestInternalEdge has the real Caddy of the stack call a gate by TLS.
func TestInternalEdge(t *testing.T) {
	program := peers.Find(t, "caddy", "caddy")
	stack, text := secured(t), inside.New(time.Now())
	for name, tt := range map[string]struct {
		gate string // the authority of the gate
		as   string // its name
		want int
	}{
		"the gate":               {text, stacks.Gate, http.StatusOK},
		"one that rotated":       {rotated(t, text), stacks.Gate, http.StatusOK},
		"another service":        {text, stacks.Backend, http.StatusBadGateway},
		"one of another stack's": {inside.New(time.Now()), stacks.Gate, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			caller := ""
			config := clientOf(t, tt.gate, tt.as, "")
			config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, config.RootCAs
			config.MinVersion = tls.VersionTLS13
			l, err := tls.Listen("tcp", "127.0.0.1:0", config)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					caller = r.TLS.PeerCertificates[0].Subject.CommonName + " by " + r.Proto +
						" for " + r.Host
				})}
			go func() { _ = srv.Serve(l) }()
			t.Cleanup(func() { srv.Close() })

			_, upstream, _ := net.SplitHostPort(l.Addr().String())
			port := peers.FreePort(t, "127.0.0.1")
			f := newFolder(t, stack.Service(stacks.Edge),
				map[string]string{stacks.InternalAuthority: text},
				"dynamic a gate 8003", "dynamic a localhost "+upstream,
				":8080 {", "http://127.0.0.1:"+port+" {",
				"lb_try_duration 10s", "lb_try_duration 300ms")
			p := start(t, program, "run", "--config", filepath.Join(f.dir, "Caddyfile"),
				"--adapter", "caddyfile")
			url := "http://127.0.0.1:" + port
			p.await("health", func() bool {
				resp, err := http.Get(url + "/edge/health")
				if err != nil {
					return false
				}
				resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			})

			resp, err := http.Get(url + "/")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("the edge answers %s", resp.Status)
			}
			mu.Lock()
			defer mu.Unlock()
			// The host is the one that was asked for: links to pages are made of it.
			want := map[int]string{200: "edge by HTTP/1.1 for 127.0.0.1:" + port}[tt.want]
			if caller != want {
				t.Errorf("the gate sees %q, want %q", caller, want)
			}
		})
	}
}

func rotated(t *testing.T, text string) string {
	t.Helper()
	out, err := inside.Rotate(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return out
}
