package hop

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestHandshake avoids an address where a handshake fails, but not for a caller who did not wait.
func TestHandshake(t *testing.T) {
	for name, tt := range map[string]struct {
		answers, avoided bool
	}{
		"it fails":               {answers: false, avoided: true},
		"the caller has gone on": {answers: true, avoided: false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if tt.answers { // it would, and takes its time
					cancel()
					time.Sleep(100 * time.Millisecond)
				}
			}()

			avoided := false
			transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext}
			secure(transport, func(string) { avoided = true }, &tls.Config{})
			if _, err := transport.DialTLSContext(ctx, "tcp", l.Addr().String()); err == nil {
				t.Fatal("nobody speaks TLS there")
			}
			if avoided != tt.avoided {
				t.Errorf("the address is avoided: %v", avoided)
			}
		})
	}
}
