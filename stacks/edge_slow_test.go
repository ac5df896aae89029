package stacks_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestEdgeSlowClients: who sends a request a byte at a time, or one with a large header, is let go
// of, and meanwhile holds up nobody.
func TestEdgeSlowClients(t *testing.T) {
	var slow atomic.Int64 // requests of slow clients that came through whole
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil && r.URL.Path != "/" {
			slow.Add(1)
		}
	}))
	defer app.Close()
	_, url := edge(t, port(t, app), "read_header 10s", "read_header 1s",
		"read_body 60s", "read_body 1s")
	address := strings.TrimPrefix(url, "http://")

	var clients sync.WaitGroup
	open := make(chan struct{}, 200)
	for i := range cap(open) {
		clients.Go(func() {
			begin := "GET /slow HTTP/1.1\r\nHost: x\r\nX-Slow: "
			if i%2 == 0 {
				begin = "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
			}
			trickle(t, address, begin, open)
		})
	}

	for range cap(open) {
		<-open
	}

	if resp, _ := get(t, request(t, http.MethodGet, url+"/", nil)); resp.StatusCode != http.StatusOK {
		t.Errorf("beside %d slow clients: %s", cap(open), resp.Status)
	}

	clients.Wait()

	req := request(t, http.MethodGet, url+"/large", nil)
	req.Header.Set("X-Large", strings.Repeat("x", 80<<10))
	resp, _ := get(t, req)
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 80 KB: %s", resp.Status)
	}

	if n := slow.Load(); n > 0 {
		t.Errorf("%d of the requests came through", n)
	}
}

// trickle begins a request and goes on a byte at a time until the other side ends the connection.
func trickle(t *testing.T, address, begin string, open chan<- struct{}) {
	conn, err := net.Dial("tcp", address)
	open <- struct{}{}
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()

	if _, err := fmt.Fprint(conn, begin); err != nil {
		t.Error(err)
		return
	}

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	}()

	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case <-ended:
			return
		case <-deadline:
			t.Errorf("after half a minute the connection is open: %q", begin)
			return
		case <-tick.C:
			_, _ = conn.Write([]byte("x"))
		}
	}
}
