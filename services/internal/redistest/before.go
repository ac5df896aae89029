package redistest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// Before returns the URL of the server through a proxy that calls f once, before it passes on the
// first command that has the text.
func Before(t testing.TB, r *Server, text string, f func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	var once sync.Once
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}

			server, err := net.Dial("tcp", r.Addr)
			if err != nil {
				client.Close()
				continue
			}

			go func() {
				_, _ = io.Copy(client, server)
				client.Close()
			}()

			go func() {
				defer server.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := client.Read(b)
					if err != nil {
						return
					}
					if bytes.Contains(b[:n], []byte(text)) {
						once.Do(f)
					}
					if _, err := server.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()

	return "redis://" + l.Addr().String()
}
