package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// late is a chat request whose body is still to come.
type late struct {
	net.Conn
	r    *bufio.Reader
	body string
}

// begin sends a chat request up to its body, and returns when the server waits for this: the
// request is in flight.
func begin(t *testing.T, url, body string) *late {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}

	l := &late{c, bufio.NewReader(c), body}
	if _, err := fmt.Fprintf(c,
		"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n",
		len(body)); err != nil {
		t.Fatal(err)
	}

	if line, err := l.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q: %v", line, err)
	}
	if _, err := l.r.ReadString('\n'); err != nil { // the end of the interim response
		t.Fatal(err)
	}

	return l
}

// finish sends the body.
func (l *late) finish(t *testing.T) (int, string) {
	t.Helper()
	if _, err := io.WriteString(l, l.body); err != nil {
		t.Fatal(err)
	}

	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return resp.StatusCode, string(b)
}

// draining waits until the instance has been told to stop.
func draining(t *testing.T, i *instance) {
	t.Helper()
	for deadline := time.Now().Add(patience); !i.srv.Draining(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the instance does not drain")
		}
	}
}
