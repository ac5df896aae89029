// Package redistest starts a real Redis for a test.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// Server is a Redis of one test's own, without persistence.
type Server struct {
	// URL is redis://127.0.0.1:port/0.
	URL  string
	port string
	cmd  *exec.Cmd
}

// Start starts the redis-server on PATH, or the one that REDIS_SERVER names, with further arguments of its command line.
// Without one the test is skipped, unless CODEXCONTINUE_REQUIRE_PEERS names redis.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	binary := os.Getenv("REDIS_SERVER")
	if binary == "" {
		binary = peers.Find(t, "redis", "redis-server")
	}
	for attempt := 1; ; attempt++ {
		s, err := start(t, binary, args)
		if err == nil {
			return s
		}
		if attempt == 5 { // somebody took the port between our look and Redis's bind
			t.Fatal(err)
		}
	}
}

func start(t testing.TB, binary string, args []string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	l.Close()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", t.TempDir(), "--daemonize", "no"}, args...)...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-exited
	})
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return &Server{URL: "redis://127.0.0.1:" + port + "/0", port: port, cmd: cmd}, nil
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
}

// Client is a client of the server, to look at what is stored.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	return c
}
