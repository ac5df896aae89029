package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

const patience = 20 * time.Second

// listen accepts connections, of each of which all is sent back, in capitals.
func listen(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for said := bufio.NewScanner(conn); said.Scan(); {
					fmt.Fprintln(conn, strings.ToUpper(said.Text()))
				}
			}()
		}
	}()

	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// proxy serves the handler as the service does, and returns its address.
func proxy(t *testing.T, h *Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s := server.New("egress", slog.New(slog.DiscardHandler), time.Second)
	s.Connect(h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), l) }()
	t.Cleanup(func() { <-ended })
	return l.Addr().String()
}

// connect asks the proxy for the destination, and returns the connection with its answer.
func connect(t *testing.T, proxy, destination string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}

	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", destination)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return conn, r, resp
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestTunnel passes on what either side says, and that it has said all, and logs who asked for
// what.
func TestTunnel(t *testing.T) {
	destination := "127.0.0.1:" + listen(t)
	var log lines
	at := proxy(t, New([]string{destination}, false, slog.New(slog.NewTextHandler(&log, nil))))
	conn, r, resp := connect(t, at, destination)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the proxy says %s", resp.Status)
	}

	fmt.Fprintln(conn, "a secret")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "A SECRET\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}

	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		said := log.String()
		if strings.Contains(said, "destination="+destination) && strings.Contains(said, "sent=9") {
			if strings.Contains(strings.ToLower(said), "a secret") {
				t.Errorf("the log has what was said: %s", said)
			}
			break
		}
		if time.Since(start) > patience {
			t.Fatalf("the log has\n%s", said)
		}
	}
}

func TestRefused(t *testing.T) {
	port := listen(t)
	for name, tt := range map[string]struct {
		listed, asked string
		private       bool
		want          int
	}{
		"an address that is listed": {"127.0.0.1:" + port, "127.0.0.1:" + port, false, 200},
		"another port":              {"127.0.0.1:1", "127.0.0.1:" + port, false, 403},
		"another name":              {"localhost.:" + port, "localhost:" + port, false, 403},
		"a name of this machine":    {"localhost:" + port, "localhost:" + port, false, 403},
		"one of a private network":  {"localhost:" + port, "localhost:" + port, true, 403},
		"capitals":                  {"localhost:" + port, "LOCALHOST:" + port, true, 403},
		"nobody there":              {"127.0.0.1:1", "127.0.0.1:1", false, 502},
	} {
		t.Run(name, func(t *testing.T) {
			h := New([]string{tt.listed}, tt.private, slog.New(slog.DiscardHandler))
			if _, _, resp := connect(t, proxy(t, h), tt.asked); resp.StatusCode != tt.want {
				t.Errorf("the proxy says %s, want %d", resp.Status, tt.want)
			}
		})
	}
}

func TestPublic(t *testing.T) {
	for _, a := range []string{
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0",
		"224.0.0.1", "100.100.100.200", "::1", "fd00::1", "fe80::1", "ff02::1",
		"::ffff:169.254.169.254", "::ffff:10.0.0.1",
	} {
		if public(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range []string{"fd00:ec2::254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"} {
		if addr := netip.MustParseAddr(a); public(addr) || private(addr) {
			t.Errorf("%s is reached", a)
		}
	}
	for _, a := range []string{"10.0.0.1", "::ffff:10.0.0.1", "fd00::1"} {
		if !private(netip.MustParseAddr(a)) {
			t.Errorf("%s is not private", a)
		}
	}
	for _, a := range []string{"198.51.100.10", "2001:db8::10", "::ffff:198.51.100.10"} {
		if !public(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
}

// TestDrain stops when the tunnels have ended, and cuts those that do not end.
func TestDrain(t *testing.T) {
	destination := "127.0.0.1:" + listen(t)
	for name, ends := range map[string]bool{"one that ends": true, "one that stays": false} {
		t.Run(name, func(t *testing.T) {
			h := New([]string{destination}, false, slog.New(slog.DiscardHandler))
			conn, r, _ := connect(t, proxy(t, h), destination)
			most := patience
			if !ends {
				most = 200 * time.Millisecond
			}

			ctx, cancel := context.WithTimeout(t.Context(), most)
			defer cancel()
			waited := make(chan error, 1)
			go func() { waited <- h.Wait(ctx) }()
			select {
			case err := <-waited:
				if ends || err != nil {
					t.Fatalf("waits for no tunnel: %v", err)
				}
				return
			case <-time.After(50 * time.Millisecond):
			}

			if ends {
				fmt.Fprintln(conn, "the last words")
				if got, err := r.ReadString('\n'); got != "THE LAST WORDS\n" {
					t.Errorf("while it drains, got %q, %v", got, err)
				}
				conn.Close()
			}
			if err := <-waited; err != nil {
				t.Error(err)
			}
			if (ctx.Err() == nil) != ends {
				t.Errorf("waited until %v", ctx.Err())
			}
		})
	}
}

// TestBounded refuses the tunnel too many, and ends those in which nothing moves.
func TestBounded(t *testing.T) {
	destination := "127.0.0.1:" + listen(t)
	h := New([]string{destination}, false, slog.New(slog.DiscardHandler))
	h.open, h.idle = make(chan struct{}, 1), 3*time.Second // the second comes in this time
	at := proxy(t, h)
	_, first, _ := connect(t, at, destination)
	if _, _, resp := connect(t, at, destination); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second tunnel: %s", resp.Status)
	}
	if got, err := io.ReadAll(first); len(got) > 0 || err != nil {
		t.Errorf("the first ends with %q, %v", got, err)
	}

	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, _, resp := connect(t, at, destination); resp.StatusCode == http.StatusOK {
			break
		}
		if time.Since(start) > patience {
			t.Fatal("no place is free after the first has ended")
		}
	}
}
