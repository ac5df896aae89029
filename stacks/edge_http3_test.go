package stacks_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3Client is as client, and asks by HTTP/3 alone.
func (e *tlsEdge) http3Client(name string, roots *x509.CertPool) *http.Client {
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name},
		Dial: func(
			ctx context.Context, _ string, t *tls.Config, q *quic.Config,
		) (*quic.Conn, error) {
			return quic.DialAddr(ctx, "127.0.0.1:"+e.https, t, q)
		},
	}
	e.t.Cleanup(func() { _ = transport.Close() })
	return &http.Client{Transport: transport}
}

// TestEdgeHTTP3 asks by HTTP/3: who asks is what the edge sees, bodies and headers have the same
// bounds as by the other versions, and a stream's events come at once.
func TestEdgeHTTP3(t *testing.T) {
	release := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, "for=", r.Header.Get("X-Forwarded-For"), " proto=",
				r.Header.Get("X-Forwarded-Proto"), " body=", n, err)
			return
		}

		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 2 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer app.Close()

	cert, key := certificate(t, edgeHost)
	e := startGiven(t, t.TempDir(), cert, key, port(t, app))
	client := e.http3Client(edgeHost, trust(cert))
	send := func(size, header int) (*http.Response, string) {
		t.Helper()
		req := request(t, http.MethodPost, "https://"+edgeHost+"/echo",
			strings.NewReader(strings.Repeat("x", size)))
		req.Header.Set("X-Forwarded-For", "6.6.6.6")
		req.Header.Set("X-Forwarded-Proto", "http")
		req.Header.Set("X-Large", strings.Repeat("x", header))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp, readAll(t, resp)
	}

	if resp, body := send(200<<10, 1); resp.ProtoMajor != 3 ||
		body != "for=127.0.0.1 proto=https body=204800 <nil>" {
		t.Errorf("%s by %s", body, resp.Proto)
	}
	if resp, body := send(2<<20, 1); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB: %s %s", resp.Status, body)
	}
	if resp, body := send(0, 80<<10); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 80 KB: %s %s", resp.Status, body)
	}

	resp, err := client.Get("https://" + edgeHost + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	lines := bufio.NewReader(resp.Body)
	for i := range 2 { // the second event is not sent before the first one is here
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		release <- struct{}{}
	}
}
