package stacks_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
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

// edge starts the real Caddy on the stack's Caddyfile, in front of the port upstream of this machine.
func edge(t *testing.T, upstream string, oldNew ...string) (*process, string) {
	t.Helper()
	program := peers.Find(t, "caddy", "caddy")
	stack := load(t, "prod", withPassword())
	service := stack.Service(stacks.Edge)
	port := freePort(t)
	text := replaced(t, service.Files[0].Text(""), append(oldNew, ":8080 {", "http://127.0.0.1:"+port+" {", "dynamic a frontend 8501", "dynamic a localhost "+upstream)...)
	config := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, program, "run", "--config", config, "--adapter", "caddyfile")
	url := "http://127.0.0.1:" + port
	p.await("health", func() bool {
		resp, err := http.Get(url + service.Health.ReadyPath)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p, url
}

func get(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func port(t *testing.T, server *httptest.Server) string {
	t.Helper()
	_, p, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEdge(t *testing.T) {
	release := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "secret/1.0")
		switch r.URL.Path {
		case "/stream":
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
		case "/echo":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		default:
			fmt.Fprintf(w, "for=%s proto=%s host=%s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Host)
		}
	}))
	defer app.Close()
	p, url := edge(t, port(t, app), "grace_period 5s", "grace_period 300ms")

	t.Run("passes requests on and hides the machinery", func(t *testing.T) {
		req := request(t, http.MethodGet, url+"/chat?x=1", nil)
		req.Header.Set("X-Forwarded-For", "6.6.6.6") // who asks does not say who asks
		req.Header.Set("Authorization", "Bearer hunter2")
		req.Header.Set("Cookie", "session=hunter2")
		resp, body := get(t, req)
		if want := "for=127.0.0.1 proto=http host=" + strings.TrimPrefix(url, "http://"); resp.StatusCode != http.StatusOK || body != want {
			t.Errorf("got %s %q, want %q", resp.Status, body, want)
		}
		for _, name := range []string{"Server", "Via"} {
			if v := resp.Header.Values(name); len(v) != 0 {
				t.Errorf("%s: %q", name, v)
			}
		}
		p.await("the line in the access log", func() bool { return strings.Contains(p.out.String(), `"uri":"/chat?x=1"`) })
		if strings.Contains(p.out.String(), "hunter2") {
			t.Error("the log shows credentials")
		}
	})
	t.Run("keeps the services' probes inside", func(t *testing.T) {
		for _, path := range []string{"/metrics", "/ready", "/healthz", "/debug/pprof/"} {
			if resp, body := get(t, request(t, http.MethodGet, url+path, nil)); resp.StatusCode != http.StatusNotFound || strings.Contains(body, "for=") {
				t.Errorf("%s: %s %q", path, resp.Status, body)
			}
		}
	})
	t.Run("bounds the body", func(t *testing.T) {
		if _, body := get(t, request(t, http.MethodPost, url+"/echo", strings.NewReader(strings.Repeat("x", 200<<10)))); body != "204800 <nil>" {
			t.Errorf("200 KiB: %s", body)
		}
		resp, body := get(t, request(t, http.MethodPost, url+"/echo", strings.NewReader(strings.Repeat("x", 2<<20))))
		if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"status":413`) {
			t.Errorf("2 MiB: %s %s %q", resp.Status, resp.Header.Get("Content-Type"), body)
		}
	})
	t.Run("streams every event at once and cuts streams when it stops", func(t *testing.T) {
		resp, err := http.DefaultClient.Do(request(t, http.MethodGet, url+"/stream", nil))
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
			if i == 0 {
				release <- struct{}{}
			}
		}
		p.stop(10 * time.Second)
		if rest, err := io.ReadAll(lines); err == nil {
			t.Errorf("the cut stream looks complete: %q", rest)
		}
	})
}

// TestEdgeWaitsForTheApplication: between two containers a request is tried again; after that it is told why it failed.
func TestEdgeWaitsForTheApplication(t *testing.T) {
	upstream := freePort(t)
	p, url := edge(t, upstream, "lb_try_duration 10s", "lb_try_duration 300ms")
	resp, body := get(t, request(t, http.MethodGet, url+"/", nil))
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"status":502`) || resp.Header.Get("Server") != "" {
		t.Errorf("without an application: %s %v %q", resp.Status, resp.Header, body)
	}
	p.stop(10 * time.Second)

	p, url = edge(t, upstream)
	answered := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/chat", strings.NewReader("hello"))
		if err != nil {
			answered <- err.Error()
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- fmt.Sprint(resp.StatusCode, " ", string(body), err)
	}()
	select {
	case got := <-answered:
		t.Fatalf("answered before there was an application: %s", got)
	case <-time.After(300 * time.Millisecond): // several tries
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+upstream)
	if err != nil {
		t.Fatal(err)
	}
	app := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}}
	app.Start()
	defer app.Close()
	if got := <-answered; got != "200 hello<nil>" {
		t.Errorf("got %q", got)
	}
	p.stop(20 * time.Second)
}
