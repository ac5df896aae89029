package server_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// dial opens a connection, which gets little ahead of what is read of it, and sends the text.
func dial(t *testing.T, url, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() })

	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}

	return conn
}

// stalled sends the request of a client that reads nothing of the response.
func stalled(t *testing.T, url, path string) {
	t.Helper()
	dial(t, url, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
}

// TestSlowRequest checks that a client that sends its request a byte at a time is let go of, and
// that no handler takes what is too large.
func TestSlowRequest(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	s.SetTimeouts(500*time.Millisecond, time.Second, patience)
	handled := make(chan error, 2)
	s.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		handled <- err
	})

	url, _, _ := serve(t, s)

	for name, begin := range map[string]string{
		"header": "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"body":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
	} {
		conn := dial(t, url, begin)
		ended := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, conn); close(ended) }()
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			select {
			case <-ended:
			default:
				if time.Now().Before(deadline) {
					_, _ = conn.Write([]byte("x"))
					continue
				}
				t.Errorf("a slow %s: the connection stays open", name)
			}

			break
		}
	}

	if err := within(t, "the slow body", handled); err == nil {
		t.Error("the slow body came whole")
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("X-Large", strings.Repeat("x", 80<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || len(handled) > 0 {
		t.Errorf("a large header: %s", resp.Status)
	}
}

// TestStalledReader checks that a client that does not read ends neither a stream nor a large
// response late, and that one that reads slowly gets all of it.
func TestStalledReader(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	const piece = 4 * time.Second // a slow reader reads on well within it, on a busy machine too
	s.SetTimeouts(patience, patience, piece)
	ended := make(chan error, 1)
	large := strings.Repeat("x", 32<<20)
	s.HandleFunc("GET /stream", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil {
			_, err = io.WriteString(w, large[:1000])
		}
		ended <- err
	})

	s.HandleFunc("GET /large", func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.WriteString(w, large)
		ended <- err
	})

	url, _, _ := serve(t, s)

	for _, path := range []string{"/stream", "/large"} {
		stalled(t, url, path)
		if err := within(t, "the end of "+path, ended); err == nil {
			t.Errorf("%s: the whole response was written", path)
		}
	}

	resp, err := http.Get(url + "/large")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	got := 0
	for {
		n, err := io.CopyN(io.Discard, resp.Body, 4<<20)
		if got += int(n); err != nil {
			break
		}
		time.Sleep(piece / 6) // for longer than the bound, together
	}

	if err := within(t, "the end", ended); err != nil || got != len(large) {
		t.Errorf("a slow reader gets %d bytes: %v", got, err)
	}
}

// TestOwnDeadline checks that a handler that sets deadlines of its own has no other.
func TestOwnDeadline(t *testing.T) {
	s := server.New("x", slog.New(slog.DiscardHandler), time.Second)
	s.SetTimeouts(patience, patience, time.Hour)
	ended := make(chan error, 1)
	s.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for err == nil {
			_, err = io.WriteString(w, strings.Repeat("x", 1000))
		}
		ended <- err
	})

	url, _, _ := serve(t, s)
	stalled(t, url, "/")
	if err := within(t, "the end", ended); err == nil {
		t.Error("no error")
	}
}
