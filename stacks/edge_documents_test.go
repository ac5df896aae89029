package stacks_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestEdgeDocuments: where a stack has knowledge the edge lets documents in that are larger than any
// other request, and says what is too large.
func TestEdgeDocuments(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	defer app.Close()

	program := peers.Find(t, "caddy", "caddy")
	stack := load(t, "prod", withKnowledge(withPassword()))
	port8080 := peers.FreePort(t, "127.0.0.1")
	text := replaced(t, stack.Service(stacks.Edge).Files[0].Text(""),
		"dynamic a gate 8003", "dynamic a localhost "+port(t, app),
		":8080 {", "http://127.0.0.1:"+port8080+" {")
	config := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	p := start(t, program, "run", "--config", config, "--adapter", "caddyfile")
	url := "http://127.0.0.1:" + port8080
	p.await("health", func() bool {
		resp, err := http.Get(url + "/edge/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})

	// A client that asks first is told before it has sent what is too large.
	asking := http.DefaultTransport.(*http.Transport).Clone()
	asking.ExpectContinueTimeout, asking.DisableKeepAlives = time.Minute, true
	for _, x := range []struct {
		path   string
		size   int
		status int
		says   string
	}{
		{"/documents/handbook", 65 << 20, 200, fmt.Sprint(65 << 20)},
		{"/documents/handbook/files/a.pdf", 64 << 20, 200, fmt.Sprint(64 << 20)},
		{"/documents/handbook", 67 << 20, 413, "What was sent at once is larger than 64 MiB."},
		{"/documents", 2 << 20, 413, "The request is larger than 1 MB."},
		{"/chat", 2 << 20, 413, "The request is larger than 1 MB."},
		{"/v1/chat/completions", 2 << 20, 200, fmt.Sprint(2 << 20)},
	} {
		req := request(t, http.MethodPost, url+x.path, bytes.NewReader(make([]byte, x.size)))
		req.Header.Set("Expect", "100-continue")
		resp, err := asking.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}

		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != x.status || !strings.Contains(string(body), x.says) {
			t.Errorf("%d bytes to %s: %s %s, %v", x.size, x.path, resp.Status, body, err)
		}
	}

	p.await("a line of the log", func() bool {
		return strings.Contains(p.out.String(), "/documents/handbook/files/...")
	})
	if strings.Contains(p.out.String(), "a.pdf") {
		t.Error("the log has the name of a file")
	}
}
