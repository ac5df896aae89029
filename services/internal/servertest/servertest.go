// Package servertest has an HTTP server that a test kills and brings back.
package servertest

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Server is an HTTP server on a port of its own of the loopback address. It is not httptest's, which
// waits for the streams that a failed test left open.
type Server struct {
	URL string // without a slash at its end

	handler http.Handler

	mu     sync.Mutex
	http   *http.Server
	served chan error
}

// Start starts a server, which is killed when the test ends.
func Start(t testing.TB, handler http.Handler) *Server {
	t.Helper()
	s := &Server{handler: handler}
	s.listen(t, "127.0.0.1:0")
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) listen(t testing.TB, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}

	hs, served := &http.Server{Handler: s.handler}, make(chan error, 1)
	go func() { served <- hs.Serve(l) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.URL, s.http, s.served = "http://"+l.Addr().String(), hs, served
}

// Kill cuts all connections, and nobody answers until Restart.
func (s *Server) Kill() {
	s.mu.Lock()
	hs, served := s.http, s.served
	s.http = nil
	s.mu.Unlock()
	if hs != nil {
		hs.Close()
		<-served
	}
}

// Restart listens at the old address again, with the same handler.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.listen(t, strings.TrimPrefix(s.URL, "http://"))
}
