package redistest

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Lossy returns the URL of a way to the server that loses a reply: after lose, the one to the first
// command in which the text is, with its connection.
func (s *Server) Lossy(t testing.TB) (url string, lose func(text string)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })

	var mu sync.Mutex
	var wanted []byte
	found := func(command []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if wanted == nil || !bytes.Contains(command, wanted) {
			return false
		}
		wanted = nil
		return true
	}

	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go s.pass(client, found)
		}
	}()

	return strings.Replace(s.URL, s.Addr, l.Addr().String(), 1), func(text string) {
		mu.Lock()
		defer mu.Unlock()
		wanted = []byte(text)
	}
}

// pass passes a connection on to the server until either side ends it, or a reply is to be lost.
func (s *Server) pass(client net.Conn, found func(command []byte) bool) {
	defer client.Close()
	server, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return
	}
	defer server.Close()

	var lost atomic.Bool
	go func() {
		defer client.Close()
		for b := make([]byte, 64<<10); ; {
			n, err := server.Read(b)
			if err != nil || lost.Load() {
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}()

	for b := make([]byte, 64<<10); ; {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		if found(b[:n]) { // before the server can answer
			lost.Store(true)
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
	}
}
