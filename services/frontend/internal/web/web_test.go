package web_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

func mustContain(t *testing.T, body string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(body, p) {
			t.Errorf("the page lacks %q:\n%s", p, body)
		}
	}
}

// TestChatWithoutJavaScript goes through a conversation as a browser without scripts does.
func TestChatWithoutJavaScript(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, func(m string, a *fakebackend.Answer) {
		a.Text("The **first")
		<-release
		a.Text("** word")
		a.Done()
	})

	v := s.visitor()
	mustContain(t, v.get("/").body,
		`<form id="composer" class="composer" method="post" action="/chat"`,
		"What are you working on?")
	r := v.do("POST", "/chat",
		url.Values{"message": {"Hello\r\nthere"}, "model": {"codexcontinue"}}.Encode())
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/c/c1#latest" {
		t.Fatalf("POST /chat: %s to %q", r.Status, r.Header.Get("Location"))
	}

	running := v.get("/c/c1").body
	mustContain(t, running,
		`<noscript><meta http-equiv="refresh" content="3; url=/c/c1?reload=#latest"></noscript>`,
		`data-generation="g1"`, "Hello<br>\nthere", `action="/generations/g1/stop"`)
	mustContain(t, v.get("/c/c1?reload=").body, `<meta http-equiv="refresh" content="3">`)
	close(release)
	var done string
	for range 200 {
		if done = v.get("/c/c1").body; !strings.Contains(done, "data-generation") {
			break
		}
	}

	mustContain(t, done, "The <strong>first</strong> word", `href="/c/c1"`, `data-state="complete"`)
	if strings.Contains(done, "http-equiv") {
		t.Error("a page that is complete refreshes itself")
	}

	mustContain(t, v.get("/c/c1/edit").body, `action="/c/c1/rename"`, `action="/c/c1/delete"`)
	if r := v.do("POST", "/c/c1/rename", "title=+New++name+"); r.StatusCode != http.StatusSeeOther ||
		r.Header.Get("Location") != "/c/c1" {
		t.Errorf("rename: %s to %q", r.Status, r.Header.Get("Location"))
	}

	mustContain(t, v.get("/c/c1").body, `<h1 id="heading">New name</h1>`)
	if r := v.do("POST", "/c/c1/delete", "x=1"); r.StatusCode != http.StatusSeeOther ||
		r.Header.Get("Location") != "/" {
		t.Errorf("delete: %s to %q", r.Status, r.Header.Get("Location"))
	}

	if r := v.get("/c/c1"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a deleted conversation answers %s", r.Status)
	}
}

// TestOwner checks that the backend gets the token that the gate made, and that nobody is served
// without one.
func TestOwner(t *testing.T) {
	s := newSite(t, echo)
	v, other := s.visitor(), s.visitor()
	v.do("POST", "/chat", "message=mine")
	mustContain(t, v.get("/").body, `href="/c/c1"`)
	if r := other.get("/c/c1"); r.StatusCode != http.StatusNotFound ||
		strings.Contains(r.body, "mine") {
		t.Errorf("another browser sees the conversation: %s", r.Status)
	}

	for _, h := range s.backend.Headers() {
		if got := h.Get("Authorization"); got != "Bearer "+v.jar.m[ownerCookie].Value &&
			got != "Bearer "+other.jar.m[ownerCookie].Value {
			t.Errorf("the backend got %q", got)
		}
		if h.Get("Cookie") != "" || h.Get(wire.OwnerHeader) != "" {
			t.Errorf("the backend got %v", h)
		}
	}
}

// wildcard matches the name of a part of a path in a pattern.
var wildcard = regexp.MustCompile(`\{\w+\}`)

// TestWithoutGate checks that nobody gets past the gate by any route: only files and probes are for
// everybody.
func TestWithoutGate(t *testing.T) {
	s := newSite(t, echo)
	srv := server.New("frontend", slog.New(slog.DiscardHandler), time.Second)
	s.app.Register(srv)
	targets := map[string]int{
		"GET /static/x/app.css": 200, "GET /healthz": 200, "GET /ready": 200, "GET /metrics": 200,
		"GET /nothing": 401, "DELETE /nothing": 401,
		"GET /api/conversations": 401, "DELETE /api/conversations/c1": 401,
	}
	for _, pattern := range s.app.Patterns() {
		if pattern == "GET /static/{hash}/{name}" {
			continue
		}
		method, path, ok := strings.Cut(wildcard.ReplaceAllString(pattern, "1"), " ")
		if !ok {
			method, path = http.MethodPost, pattern
		}
		targets[method+" "+strings.TrimSuffix(path, "{$}")] = 401
	}

	for target, want := range targets {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		srv.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}

	if got := s.backend.Headers(); len(got) > 0 {
		t.Errorf("the backend got %v", got)
	}
}

func TestProxy(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	me := v.jar.m[ownerCookie].Value
	r := v.do("POST", "/api/chat", `{"message":"hi"}`, "Content-Type", "application/json",
		wire.OwnerHeader, "victim", "X-Request-Id", "trace-1", "Connection", "X-Hop", "X-Hop",
		"1")
	if r.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	if got := r.Header.Values("X-Request-Id"); len(got) != 1 || got[0] != "trace-1" {
		t.Errorf("request id %q", got)
	}

	h := s.backend.Headers()
	last := h[len(h)-1]
	if got := last.Values("Authorization"); len(got) != 1 || got[0] != "Bearer "+me {
		t.Errorf("the backend got %q, want the token of %q", got, me)
	}

	if last.Get("Cookie") != "" || last.Get("X-Hop") != "" ||
		last.Get("X-Request-Id") != "trace-1" {
		t.Errorf("the backend got %v", last)
	}

	stream := v.open("GET", "/api/generations/g1/events", "", "Accept", "text/event-stream")
	defer stream.Body.Close()
	events := sse.NewReader(stream.Body)
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("no end: %v", err)
		}
		if e.Name == backendapi.EventDone {
			break
		}
	}

	if r := v.get("/api/status"); r.StatusCode != 200 || !strings.Contains(r.body, `"services"`) {
		t.Errorf("/api/status: %s %s", r.Status, r.body)
	}

	down := newSiteAt(t, nil, "http://127.0.0.1:1").visitor()
	if r := down.get("/api/status"); r.StatusCode != http.StatusBadGateway ||
		r.Header.Get("Content-Type") != problem.ContentType {
		t.Errorf("without a backend: %s %s", r.Status, r.body)
	}
}

func TestCrossSiteWritesAreRefused(t *testing.T) {
	s := newSite(t, echo)
	for _, path := range []string{
		"/chat", "/c/c1/delete", "/c/c1/rename", "/c/c1/replace", "/generations/g1/stop", "/theme",
		"/api/chat",
	} {
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
			if r := s.visitor().do("POST", path, "message=x", h...); r.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s with %v: %s", path, h, r.Status)
			}
		}
	}

	if n := len(s.backend.Headers()); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestSecurityHeaders(t *testing.T) {
	s := newSite(t, echo)
	for _, path := range []string{
		"/", "/status", "/nowhere", "/c/none", "/fragments/model", "/api/status",
		"/generations/none/events",
	} {
		h := s.visitor().get(path).Header
		want := map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src " +
				"'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri " +
				"'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":     "nosniff",
			"Referrer-Policy":            "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin",
		}

		for k, v := range want {
			if got := h.Values(k); len(got) != 1 || got[0] != v {
				t.Errorf("%s: %s is %q", path, k, got)
			}
		}

		if h.Get("Permissions-Policy") == "" {
			t.Errorf("%s: no Permissions-Policy", path)
		}
	}
}

// TestNoInlineCode checks that no template or script has what the content security policy forbids.
func TestNoInlineCode(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)\son[a-z]+\s*=\s*["'{]|\sstyle\s*=|<style|` +
		`<script(?:\s[^>]*)?>[^<\s]|javascript:|https?://[a-z]`)
	n := 0
	for _, dir := range []string{"templates", "static"} {
		err := fs.WalkDir(os.DirFS("."), dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}

			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}

			n++
			text := strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", "")
			if m := forbidden.FindString(text); m != "" {
				t.Errorf("%s holds %q", path, m)
			}

			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	if n < 10 {
		t.Errorf("only %d files were looked at", n)
	}

	s := newSite(t, echo)
	if m := forbidden.FindString(s.visitor().get("/").body); m != "" {
		t.Errorf("the page holds %q", m)
	}
}

func TestAssets(t *testing.T) {
	v := newSite(t, echo).visitor()
	page := v.get("/").body
	refs := regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(refs) < 9 {
		t.Fatalf("only %d assets: %v", len(refs), refs)
	}

	for _, m := range refs {
		r := v.get(m[1], "Accept-Encoding", "gzip")
		if r.StatusCode != 200 || r.Header.Get("Cache-Control") != "public, max-age=31536000, "+
			"immutable" || r.Header.Get("Content-Type") == "" {
			t.Errorf("%s: %s %v", m[1], r.Status, r.Header)
		}

		old := regexp.MustCompile(`/static/[0-9a-f]+/`).ReplaceAllString(m[1],
			"/static/0123456789abcdef/")
		if r := v.get(old); r.StatusCode != 200 || r.Header.Get("Cache-Control") != "no-cache" ||
			r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %s %v", old, r.Status, r.Header)
		}
	}

	if r := v.get("/static/x/none.js"); r.StatusCode != 404 {
		t.Errorf("a missing asset: %s", r.Status)
	}
}

// TestRefusals checks that every refusal of a message is explained and loses no text,
// with and without scripts.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		fail          *problem.Problem
		status        int
		words         string
	}{
		{"empty", "  \n", nil, 422, "Write a message first."},
		{"too long", strings.Repeat("x", backendapi.MaxMessage+1), nil, 422, "too long"},
		{"busy conversation", "hi there", problem.New(409, "running"), 409, "still being answered"},
		{"queue full", "hi there",
			&problem.Problem{Title: "Queue full", Status: 429, QueuePosition: 9}, 429,
			"8 before you"},
		{"model not ready", "hi there", problem.New(503, "The model is being pulled."), 503,
			"The model is being pulled."},
		{"conversation gone", "hi there", problem.New(404, "gone"), 404, "no longer exists"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, echo)
			s.backend.Fail("POST /api/chat", tt.fail)
			form := url.Values{"message": {tt.message}}.Encode()
			r := s.visitor().do("POST", "/chat", form)
			if r.StatusCode != tt.status {
				t.Errorf("page: %s", r.Status)
			}

			mustContain(t, r.body, tt.words, `role="alert"`)
			if tt.fail != nil {
				mustContain(t, r.body, ">hi there</textarea>")
			}

			r = s.visitor().do("POST", "/chat", form, "Accept", "application/json")
			var e struct{ Error, RequestID string }
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.StatusCode != tt.status ||
				!strings.Contains(e.Error, tt.words) {
				t.Errorf("script: %s %s %v", r.Status, r.body, err)
			}
		})
	}

	s := newSite(t, echo)
	if r := s.visitor().do("POST", "/chat", "message="+strings.Repeat("x", 300<<10)); r.StatusCode != 413 {
		t.Errorf("a huge body: %s", r.Status)
	}
	if r := s.visitor().do("POST", "/c/c1/rename", "title=+"); r.StatusCode != 422 {
		t.Errorf("an empty title: %s", r.Status)
	}
}

func TestBackendDown(t *testing.T) {
	s := newSiteAt(t, nil, "http://127.0.0.1:1", func(d *domain.Texts) {
		d.Title, d.Notice = "Care", "Not a medical device. Check every answer."
	})
	v := s.visitor()
	r := v.get("/")
	if r.StatusCode != 200 {
		t.Errorf("the page: %s", r.Status)
	}

	mustContain(t, r.body, "The chat service cannot be reached", "data-degraded",
		"Not a medical device", `data-usable="false"`, `<title>Care</title>`)
	mustContain(t, v.get("/status").body, "The chat service cannot be reached.",
		"Not known", "Web page")
	if r := v.get("/healthz"); r.StatusCode != 200 {
		t.Errorf("/healthz: %s", r.Status)
	}
	if r := v.get("/ready"); r.StatusCode != 200 {
		t.Errorf("/ready: %s %s", r.Status, r.body)
	}
}

func TestErrorPages(t *testing.T) {
	v := newSite(t, echo).visitor()
	r := v.get("/nowhere", "X-Request-Id", "req-42")
	if r.StatusCode != 404 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%s %s", r.Status, r.Header.Get("Content-Type"))
	}

	mustContain(t, r.body, "There is nothing here", "req-42")
	if r := v.get("/metrics"); r.StatusCode != 200 ||
		!strings.Contains(r.body, "http_requests_total") {
		t.Errorf("/metrics: %s", r.Status)
	}
}

func TestModelState(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	mustContain(t, v.get("/fragments/model").body, `data-usable="true"`,
		`<option value="codexcontinue" selected>`)
	s.backend.Build(mlapi.Build{
		Name:      "codexcontinue",
		State:     mlapi.BuildPulling,
		Completed: 1e9,
		Total:     4e9,
	})

	mustContain(t, v.get("/fragments/model").body, `data-usable="false"`, `data-poll="2000"`,
		"25 %", "1.0 GB of 4.0 GB", `value="1000000000"`)
	s.backend.Build(mlapi.Build{Name: "codexcontinue", State: mlapi.BuildTesting},
		mlapi.ModelInfo{Name: "llama3"})
	mustContain(t, v.get("/fragments/model").body, `data-usable="true"`,
		"Other models can be used meanwhile")
	s.backend.Build(mlapi.Build{
		Name:  "codexcontinue",
		State: mlapi.BuildFailed,
		Error: "There is no model nosuch: check FROM.",
	})

	mustContain(t, v.get("/fragments/model").body, "could not be built",
		"There is no model nosuch", `data-usable="false"`)
	mustContain(t, v.get("/status").body, "There is no model nosuch")
}

func TestTheme(t *testing.T) {
	v := newSite(t, echo).visitor()
	mustContain(t, v.get("/").body, `data-theme="auto"`)
	r := v.do("POST", "/theme", "theme=dark&back=/status")
	if r.StatusCode != 303 || r.Header.Get("Location") != "/status" {
		t.Errorf("%s to %q", r.Status, r.Header.Get("Location"))
	}

	mustContain(t, v.get("/status").body, `data-theme="dark"`)
	for _, back := range []string{"//evil.example", "https://evil.example", "/\\evil.example", ""} {
		if r := v.do("POST", "/theme",
			url.Values{"theme": {"x"}, "back": {back}}.Encode()); r.Header.Get("Location") != "/" {
			t.Errorf("back to %q: %q", back, r.Header.Get("Location"))
		}
	}
}

func TestListIsGroupedByDayInTheBrowsersZone(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	me := v.jar.m[ownerCookie].Value
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}

	v.jar.m["tz"] = &http.Cookie{Name: "tz", Value: "Asia/Tokyo"}
	now := time.Now().In(tokyo)
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, tokyo)
	for title, at := range map[string]time.Time{
		"just-today":     midnight,
		"just-yesterday": midnight.Add(-time.Second),
		"old":            midnight.AddDate(-2, 0, 0),
	} {
		s.backend.Add(me,
			backendapi.ConversationDetail{Conversation: backendapi.Conversation{
				ID:        title,
				Title:     title,
				UpdatedAt: at,
			}})
	}

	body := v.get("/fragments/sidebar").body
	order := []string{
		"Today", "just-today", "Yesterday", "just-yesterday",
		midnight.AddDate(-2, 0, 0).Format("January 2006"), "/c/old",
	}

	at := 0
	for _, want := range order {
		i := strings.Index(body[at:], want)
		if i < 0 {
			t.Fatalf("%q is not after what should be before it:\n%s", want, body)
		}
		at += i
	}
}

func TestListPages(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	me := v.jar.m[ownerCookie].Value
	for i := range 60 {
		id := "x" + string(rune('A'+i/26)) + string(rune('a'+i%26))
		s.backend.Add(me,
			backendapi.ConversationDetail{Conversation: backendapi.Conversation{
				ID:        id,
				Title:     id,
				UpdatedAt: time.Now().Add(-time.Duration(i) * time.Minute),
			}})
	}

	first := v.get("/").body
	mustContain(t, first, `href="/?cursor=50"`)
	second := v.get("/?cursor=50").body
	mustContain(t, second, "Back to the newest")
	if n := strings.Count(second, `class="item"`); n != 10 {
		t.Errorf("%d conversations on the second page", n)
	}
}

func TestTitlesAreEscaped(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.do("POST", "/chat", url.Values{"message": {`"><script>alert(1)</script>`}}.Encode())
	for _, path := range []string{
		"/", "/c/c1", "/c/c1/edit", "/c/c1/edit/g1", "/fragments/sidebar?current=c1",
		"/search?q=script", "/search?q=%3Cscript%3Ealert",
	} {
		if r := v.get(path); r.StatusCode != 200 || strings.Contains(r.body, "<script>alert") {
			t.Errorf("%s: %s, holds the script", path, r.Status)
		}
	}
}

// TestBodyIsBounded checks the bound of a request's body, also through the proxy.
func TestBodyIsBounded(t *testing.T) {
	got := make(chan int64, 1)
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
	}))
	defer b.Close()
	s := newSiteAt(t, nil, b.URL)
	r := s.visitor().do("POST",
		"/api/chat", strings.Repeat("x", 1<<20), "Content-Type", "application/json")
	if r.StatusCode != http.StatusRequestEntityTooLarge ||
		r.Header.Get("Content-Type") != problem.ContentType {
		t.Errorf("%s %s", r.Status, r.body)
	}

	select {
	case n := <-got: // a message that is cut must not arrive
		t.Errorf("the backend got %d bytes", n)
	default:
	}
}
