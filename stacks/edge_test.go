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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// edge starts the real Caddy on the stack's Caddyfile, in front of the port
// upstream of this machine.
func edge(t *testing.T, upstream string, oldNew ...string) (*process, string) {
	t.Helper()
	return edgeOf(t, append(oldNew, "dynamic a gate 8003", "dynamic a localhost "+upstream)...)
}

// edgeOf starts the real Caddy on the stack's Caddyfile, in which each old text is replaced by
// the new one after it.
func edgeOf(t *testing.T, oldNew ...string) (*process, string) {
	t.Helper()
	program := peers.Find(t, "caddy", "caddy")
	stack := load(t, "prod", withPassword())
	service := stack.Service(stacks.Edge)
	port := peers.FreePort(t, "127.0.0.1")
	text := replaced(t, service.Files[0].Text(""),
		append(oldNew, ":8080 {", "http://127.0.0.1:"+port+" {")...)
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
		case "/echo", "/v1/echo":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		default:
			fmt.Fprintf(w, "for=%s proto=%s host=%s as=%s", r.Header.Get("X-Forwarded-For"),
				r.Header.Get("X-Forwarded-Proto"), r.Host, r.Header.Get("X-Forwarded-Host"))
		}
	}))
	defer app.Close()
	p, url := edge(t, port(t, app), "grace_period 2s", "grace_period 300ms")

	t.Run("passes requests on and hides the machinery", func(t *testing.T) {
		req := request(t, http.MethodGet, url+"/chat?x=1", nil)
		req.Header.Set("X-Forwarded-For", "6.6.6.6") // who asks does not say who asks
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("X-Forwarded-Host", "evil.example")
		req.Header.Set("Authorization", "Bearer hunter2")
		req.Header.Set("Cookie", "session=hunter2")
		resp, body := get(t, req)
		host := strings.TrimPrefix(url, "http://")
		if want := "for=127.0.0.1 proto=http host=" + host + " as=" + host; resp.StatusCode != http.StatusOK || body != want {
			t.Errorf("got %s %q, want %q", resp.Status, body, want)
		}

		for _, name := range []string{"Server", "Via"} {
			if v := resp.Header.Values(name); len(v) != 0 {
				t.Errorf("%s: %q", name, v)
			}
		}

		p.await("the line in the access log", func() bool {
			return strings.Contains(p.out.String(), `"uri":"/chat?x=1"`)
		})
		if strings.Contains(p.out.String(), "hunter2") {
			t.Error("the log shows credentials")
		}
	})

	t.Run("keeps the services' probes inside", func(t *testing.T) {
		for _, path := range []string{"/metrics", "/ready", "/healthz", "/debug/pprof/"} {
			if resp, body := get(t,
				request(t, http.MethodGet, url+path,
					nil)); resp.StatusCode != http.StatusNotFound ||
				strings.Contains(body, "for=") {
				t.Errorf("%s: %s %q", path, resp.Status, body)
			}
		}
	})

	t.Run("bounds the body", func(t *testing.T) {
		if _, body := get(t,
			request(t, http.MethodPost, url+"/echo",
				strings.NewReader(strings.Repeat("x", 200<<10)))); body != "204800 <nil>" {
			t.Errorf("200 KiB: %s", body)
		}

		req := request(t, http.MethodPost, url+"/echo", strings.NewReader(strings.Repeat("x", 2<<20)))
		req.Header.Set("Expect", "100-continue") // or the answer may be lost: nobody reads the body
		resp, body := get(t, req)
		if resp.StatusCode != http.StatusRequestEntityTooLarge ||
			resp.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(body, `"status":413`) {
			t.Errorf("2 MiB: %s %s %q", resp.Status, resp.Header.Get("Content-Type"), body)
		}
	})

	t.Run("bounds the body of the API", func(t *testing.T) {
		post := func(n int) (*http.Response, string) {
			req := request(t, http.MethodPost, url+"/v1/echo", strings.NewReader(strings.Repeat("x", n)))
			req.Header.Set("Expect", "100-continue")
			return get(t, req)
		}
		if _, body := post(7 << 20); body != "7340032 <nil>" {
			t.Errorf("7 MiB: %s", body)
		}

		resp, body := post(9 << 20)
		if resp.StatusCode != http.StatusRequestEntityTooLarge ||
			resp.Header.Get("Content-Type") != "application/json" ||
			!strings.Contains(body, `"code":"request_too_large"`) {
			t.Errorf("9 MiB: %s %s %q", resp.Status, resp.Header.Get("Content-Type"), body)
		}
	})

	t.Run("does not log a key in a URL", func(t *testing.T) {
		get(t, request(t, http.MethodGet, url+"/v1/cck_SECRET1/x?api_key=cck_SECRET2&y=z", nil))
		p.await("the line in the access log", func() bool {
			return strings.Contains(p.out.String(), `"uri":"/v1/cck_.../x?api_key=cck_...&y=z"`)
		})
		if strings.Contains(p.out.String(), "SECRET") {
			t.Error("the log shows a key")
		}
	})

	t.Run("does not log what a sign-in passes on", func(t *testing.T) {
		get(t, request(t, http.MethodGet,
			url+"/oidc/callback?code=SECRET1&state=SECRET2&session_state=SECRET3/x", nil))
		get(t, request(t, http.MethodGet, url+"/oidc/signed-out?ticket=SECRET4", nil))
		for _, want := range []string{`"uri":"/oidc/callback?..."`, `"uri":"/oidc/signed-out?..."`} {
			p.await("the line in the access log", func() bool {
				return strings.Contains(p.out.String(), want)
			})
		}
		if strings.Contains(p.out.String(), "SECRET") {
			t.Error("the log shows what a sign-in passes on")
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
			if line, err := lines.ReadString('\n'); err != nil ||
				line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("event %d: %q, %v", i, line, err)
			}

			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				release <- struct{}{}
			}
		}

		p.stop(time.Minute)
		if rest, err := io.ReadAll(lines); err == nil {
			t.Errorf("the cut stream looks complete: %q", rest)
		}
	})
}

// TestEdgeWaitsForTheApplication: between two containers a request is tried again; after that it
// is told why it failed.
func TestEdgeWaitsForTheApplication(t *testing.T) {
	upstream := peers.FreePort(t, "127.0.0.1")
	p, url := edge(t, upstream, "lb_try_duration 10s", "lb_try_duration 300ms")
	resp, body := get(t, request(t, http.MethodGet, url+"/", nil))
	if resp.StatusCode != http.StatusBadGateway ||
		resp.Header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(body, `"status":502`) || resp.Header.Get("Server") != "" {
		t.Errorf("without an application: %s %v %q", resp.Status, resp.Header, body)
	}

	p.stop(time.Minute)

	p, url = edge(t, upstream)
	answered := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/chat",
			strings.NewReader("hello"))
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

	app := &httptest.Server{
		Listener: l,
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		})},
	}

	app.Start()
	defer app.Close()
	if got := <-answered; got != "200 hello<nil>" {
		t.Errorf("got %q", got)
	}

	p.stop(time.Minute)
}

// tried is a request as the application got it.
type tried struct{ method, path, key, body string }

// TestEdgeResends: a request whose reply was lost is sent again where doing it twice is doing it
// once, and one that was refused because the container stops or starts in any case.
func TestEdgeResends(t *testing.T) {
	var mu sync.Mutex
	var got []tried
	fail := func(http.ResponseWriter) {}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}

		mu.Lock()
		got = append(got, tried{r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), string(b)})
		first, f := len(got) == 1, fail
		mu.Unlock()
		if first {
			f(w)
			return
		}

		fmt.Fprint(w, "done")
	}))
	defer app.Close()
	_, url := edge(t, port(t, app))
	lost := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	refused := func(reason string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if reason != "" {
				w.Header().Set("X-Codexcontinue-Refused", reason)
			}
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}

	const empty = "empty" // a header without a value
	for _, tt := range []struct {
		name, method, path, key string
		fail                    func(http.ResponseWriter)
		tries, status           int
	}{
		{"page", "GET", "/c/x", "", lost, 2, 200},
		{"deletion", "DELETE", "/api/conversations/x", "", lost, 2, 200},
		{"form without a key", "POST", "/chat", "", lost, 2, 200},
		{"message without a key", "POST", "/api/chat", "", lost, 2, 200},
		{"message with a key", "POST", "/api/chat", "mine", lost, 2, 200},
		{"message with an empty key", "POST", "/chat", empty, lost, 2, 200},
		{"new conversation with an empty key", "POST", "/api/conversations", empty, lost, 1, 502},
		{"question in other words without a key", "POST", "/c/x/replace", "", lost, 2, 200},
		{"question in other words with a key", "POST", "/c/x/replace", "mine", lost, 2, 200},
		{"rename", "POST", "/c/x/rename", "", lost, 2, 200},
		{"stop", "POST", "/generations/x/stop", "", lost, 2, 200},
		{"new conversation", "POST", "/api/conversations", "", lost, 1, 502},
		{"new conversation of a client with a key", "POST", "/api/conversations", "mine", lost, 2, 200},
		{"question of a program", "POST", "/v1/chat/completions", "", lost, 1, 502},
		{"question of a program with a key", "POST", "/v1/chat/completions", "mine", lost, 1, 502},
		{"question of a program that is refused", "POST", "/v1/completions", "", refused("draining"), 2, 200},
		{"refused by a draining container", "POST", "/api/conversations", "", refused("draining"), 2, 200},
		{"refused by a starting container", "POST", "/api/conversations", "", refused("starting"), 2, 200},
		{"an answer that says no", "POST", "/chat", "", refused(""), 1, 503},
		{"a page that says no", "GET", "/", "", refused(""), 1, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mu.Lock()
			got, fail = nil, tt.fail
			mu.Unlock()
			body := ""
			if tt.method == "POST" {
				body = strings.Repeat("text ", 20000)
			}

			req := request(t, tt.method, url+tt.path, strings.NewReader(body))
			switch tt.key {
			case "":
			case empty:
				req.Header.Set("Idempotency-Key", "")
				tt.key = ""
			default:
				req.Header.Set("Idempotency-Key", tt.key)
			}

			resp, _ := get(t, req)
			mu.Lock()
			got := slices.Clone(got)
			mu.Unlock()
			if resp.StatusCode != tt.status || len(got) != tt.tries {
				t.Fatalf("%s after %d tries, want %d after %d",
					resp.Status, len(got), tt.status, tt.tries)
			}

			for _, g := range got {
				if g.method != tt.method || g.path != tt.path || g.body != body ||
					g.key != got[0].key {
					t.Errorf("got %s %s with the key %q and %d bytes",
						g.method, g.path, g.key, len(g.body))
				}
			}

			message := slices.Contains([]string{"/chat", "/api/chat", "/c/x/replace"}, tt.path)
			if tt.key != "" && got[0].key != tt.key ||
				message != (got[0].key != "") && tt.key == "" {
				t.Errorf("the key is %q", got[0].key)
			}
		})
	}
}

// TestEdgeKilledContainer: one of two containers is killed and comes back, again and again, though
// the name resolves to both all the time. No page and no message fails, and each message is there.
func TestEdgeKilledContainer(t *testing.T) {
	stay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	_, upstream, err := net.SplitHostPort(stay.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	killed := net.JoinHostPort("127.0.0.2", upstream)
	if l, err := net.Listen("tcp", killed); err != nil {
		t.Skipf("this machine has one loopback address: %v", err)
	} else {
		l.Close()
	}

	var messages sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.Method == http.MethodPost {
			messages.Store(r.Header.Get("Idempotency-Key"), string(b))
		}

		select { // as long as a request of the application takes: some are in flight when it is killed
		case <-time.After(2 * time.Millisecond):
		case <-r.Context().Done():
		}

		fmt.Fprint(w, "ok")
	})

	app := &httptest.Server{Listener: stay, Config: &http.Server{Handler: handler}}
	app.Start()
	defer app.Close()
	run := func() *httptest.Server {
		var l net.Listener
		for begin := time.Now(); ; {
			if l, err = net.Listen("tcp", killed); err == nil {
				break
			}
			if time.Since(begin) > 20*time.Second {
				t.Fatal(err)
			}
		}

		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
		s.Start()
		return s
	}

	victim := run()
	source := func(host string) string {
		return "a " + host + " " + upstream + " {\n refresh 1s\n }\n"
	}
	_, url := edgeOf(t, "dynamic a gate 8003 {\n\t\t\t\trefresh 1s\n\t\t\t}\n",
		"dynamic multi {\n"+source("127.0.0.1")+source("127.0.0.2")+"}\n")
	const requests, kills = 1200, 4
	var sent atomic.Int64
	var wg sync.WaitGroup
	progress := make(chan struct{}, requests)
	for range 6 {
		wg.Go(func() {
			for n := sent.Add(1); n <= requests; n = sent.Add(1) {
				method, path, body := http.MethodGet, "/", ""
				if n%3 == 0 {
					method, path, body = http.MethodPost, "/chat", fmt.Sprint("message ", n)
				}

				req, err := http.NewRequestWithContext(t.Context(), method, url+path,
					strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}

				if resp, err := http.DefaultClient.Do(req); err != nil {
					t.Error(err)
				} else {
					if b, err := io.ReadAll(resp.Body); err != nil ||
						resp.StatusCode != http.StatusOK {
						t.Errorf("%s %s: %s %s %v", method, path, resp.Status, b, err)
					}
					resp.Body.Close()
				}

				progress <- struct{}{}
			}
		})
	}

	for range kills {
		for range requests / (2*kills + 1) {
			<-progress
		}

		victim.Listener.Close()
		victim.CloseClientConnections()
		for range requests / (2*kills + 1) {
			<-progress
		}

		victim = run()
	}

	wg.Wait()
	victim.Close()
	there := map[string]bool{}
	messages.Range(func(_, m any) bool { there[m.(string)] = true; return true })
	if len(there) != requests/3 {
		t.Errorf("%d of %d messages are there", len(there), requests/3)
	}
}
