// Package redistest starts real Redis servers for a test: one, with TLS, a master with its replica
// and Sentinel, a Cluster.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// patience bounds every wait for something that should happen at once.
const patience = 20 * time.Second

// Server is a Redis of one test's own.
type Server struct {
	// Addr is 127.0.0.1:port, and URL redis://127.0.0.1:port/0.
	Addr, URL string
	port      string
	cmd       *exec.Cmd
	exited    chan error
}

// Start starts the redis-server on PATH, or the one that REDIS_SERVER names, with further
// arguments of its command line. Without one the test is skipped, unless
// CODEXCONTINUE_REQUIRE_PEERS names redis.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return retried(t, func(port string) (*Server, error) {
		return launch(t, port, append([]string{"--port", port}, args...)...)
	})
}

// StartAs is Start of a server that knows the user by whom the service signs in to the stack's own
// Redis, with what it may do there. URL names that user. Client is not bound by it.
func StartAs(t testing.TB, service string, args ...string) *Server {
	t.Helper()
	rules := stacks.RedisACL(service)
	if rules == "" {
		t.Fatalf("the stack's Redis has no user %s", service)
	}

	user := append([]string{"--user", service, "reset", "on", "nopass"}, strings.Fields(rules)...)
	s := Start(t, append(user, args...)...)
	s.URL = strings.Replace(s.URL, "//", "//"+service+"@", 1)
	return s
}

// StartOn is Start of a server that keeps its data in the directory, as that of the stack does.
func StartOn(t testing.TB, dir string) *Server {
	t.Helper()
	return retried(t, func(port string) (*Server, error) {
		return run(t, port,
			exec.Command(binary(t), "--port", port, "--bind", "127.0.0.1", "--dir", dir,
				"--appendonly", "yes", "--appendfsync", "everysec", "--save", ""))
	})
}

// retried starts a server on a port. It tries again, as somebody may take the port before Redis does.
func retried(t testing.TB, start func(port string) (*Server, error)) *Server {
	t.Helper()
	for attempt := 1; ; attempt++ {
		s, err := start(peers.FreePort(t, "127.0.0.1"))
		if err == nil {
			return s
		}
		if attempt == 5 {
			t.Fatal(err)
		}
	}
}

func binary(t testing.TB) string {
	t.Helper()
	if b := os.Getenv("REDIS_SERVER"); b != "" {
		return b
	}
	return peers.Find(t, "redis", "redis-server")
}

// launch starts a server that the arguments make listen on the port.
func launch(t testing.TB, port string, args ...string) (*Server, error) {
	t.Helper()
	cmd := exec.Command(binary(t),
		append(args, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
			"--dir", peers.Folder(t, "redistest-"), "--daemonize", "no", "--repl-diskless-sync-delay", "0")...)
	return run(t, port, cmd)
}

func run(t testing.TB, port string, cmd *exec.Cmd) (*Server, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}

	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-exited
	})

	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			addr := "127.0.0.1:" + port
			return &Server{
				Addr:   addr,
				URL:    "redis://" + addr + "/0",
				port:   port,
				cmd:    cmd,
				exited: exited,
			}, nil
		}

		select {
		case err := <-exited:
			exited <- err
			return nil, fmt.Errorf("redis-server ended at once: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}

	return nil, fmt.Errorf("redis-server did not answer on port %s", port)
}

// Kill ends the server at once, as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.exited <- <-s.exited
}

// Restart kills the server, if that was not done, and starts it anew at the same address; it has
// lost its data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Kill()
	s.exited <- <-s.exited
	again, err := run(t, s.port, exec.Command(s.cmd.Path, s.cmd.Args[1:]...))
	if err != nil {
		t.Fatal(err)
	}

	s.cmd, s.exited = again.cmd, again.exited
}

// Pause stops the server until resume is called: it answers nothing, and its connections stay.
func (s *Server) Pause(t testing.TB) (resume func()) {
	t.Helper()
	signal := func(sig syscall.Signal) {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
	}

	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// Client is a client of the server, to look at what is stored.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	opt.Username = ""

	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}

	return c
}

// until waits for something that a server says.
func until(t testing.TB, what string, reached func() (bool, error)) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ok, err := reached()
		if ok && err == nil {
			return
		}
		last = err
	}

	t.Fatalf("waited in vain until %s: %v", what, last)
}
