package web_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/web"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// site is the web UI in front of a fake backend.
type site struct {
	t       *testing.T
	url     string
	backend *fakebackend.Backend
	app     *web.App

	// ungated is the site as the gate reaches it.
	ungated http.Handler

	// kill stops the site and cuts its connections.
	kill func()
}

func newSite(
	t *testing.T, play func(string, *fakebackend.Answer), change ...func(*domain.Texts),
) *site {
	t.Helper()
	return newSiteFrom(t, time.Now(), play, change...)
}

// newSiteFrom is newSite whose backend's clock starts at now.
func newSiteFrom(
	t *testing.T, now time.Time, play func(string, *fakebackend.Answer),
	change ...func(*domain.Texts),
) *site {
	t.Helper()
	b := fakebackend.New(now, play)
	bs := httptest.NewServer(b)
	t.Cleanup(func() { bs.CloseClientConnections(); bs.Close() })
	return newSiteAt(t, b, bs.URL, change...)
}

func newSiteAt(
	t *testing.T, b *fakebackend.Backend, backendURL string, change ...func(*domain.Texts),
) *site {
	t.Helper()
	cfg := frontendenv.Config{
		Common: contract.Common{
			Environment:  "dev",
			LogLevel:     "error",
			ListenAddr:   ":0",
			DrainTimeout: time.Second,
		},
		BackendURL:      backendURL,
		ConversationTTL: 30 * 24 * time.Hour,
		Ratings:         true,
	}

	texts := domain.Texts{
		Title:    "CodexContinue",
		Greeting: "What are you working on?",
		Prompts: []string{
			"Explain what this error means and how to fix it: ",
			"Write a Go function that retries with exponential backoff.",
			"Review this SQL query for mistakes and slow parts: ",
			"Compare a mutex and a channel for guarding a map in Go.",
		},
		Notice: "Answers can be wrong. Check what matters.",
	}
	for _, f := range change {
		f(&texts)
	}

	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	srv := server.New("frontend", log, time.Second)
	app, err := web.New(cfg, texts, log)
	if err != nil {
		t.Fatal(err)
	}

	app.Register(srv)
	s := httptest.NewServer(gate(srv.Handler()))
	t.Cleanup(func() { _ = app.Drain(t.Context()); s.CloseClientConnections(); s.Close() })
	kill := func() {
		s.Listener.Close()
		s.CloseClientConnections()
	}
	return &site{t: t, url: s.URL, backend: b, app: app, ungated: srv.Handler(), kill: kill}
}

// ownerCookie is the cookie by which the tests' gate knows a browser.
const ownerCookie = "codexcontinue_owner"

// gate stands before the site and says who a request is from, as the stack's own does.
func gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie(ownerCookie)
		if err != nil {
			c = &http.Cookie{Name: ownerCookie, Value: rand.Text(), Path: "/"}
			if r.URL.Path != "/theme" && !strings.HasPrefix(r.URL.Path, "/static/") {
				http.SetCookie(w, c)
			}
		}

		r.Header.Set("Authorization", "Bearer "+c.Value)
		next.ServeHTTP(w, r)
	})
}

// visitor returns a client that keeps its cookies and follows no redirects.
func (s *site) visitor() *visitor {
	jar := &cookies{m: map[string]*http.Cookie{}}
	return &visitor{
		s:   s,
		jar: jar,
		c: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
}

type visitor struct {
	s   *site
	jar *cookies
	c   *http.Client
}

type cookies struct{ m map[string]*http.Cookie }

type answer struct {
	*http.Response
	body string
}

func (v *visitor) do(method, path, form string, header ...string) answer {
	v.s.t.Helper()
	resp := v.open(method, path, form, header...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.s.t.Fatalf("%s %s: %v", method, path, err)
	}

	return answer{resp, string(b)}
}

func (v *visitor) open(method, path, form string, header ...string) *http.Response {
	v.s.t.Helper()
	req, err := http.NewRequestWithContext(v.s.t.Context(), method, v.s.url+path,
		strings.NewReader(form))
	if err != nil {
		v.s.t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}

	for _, c := range v.jar.m {
		req.AddCookie(c)
	}

	resp, err := v.c.Do(req)
	if err != nil {
		v.s.t.Fatalf("%s %s: %v", method, path, err)
	}

	for _, c := range resp.Cookies() {
		v.jar.m[c.Name] = c
	}

	return resp
}

func (v *visitor) get(path string, header ...string) answer {
	v.s.t.Helper()
	return v.do(http.MethodGet, path, "", header...)
}

// echo answers with the message.
func echo(message string, a *fakebackend.Answer) {
	a.Text("You said: ")
	a.Text(message)
	a.Done()
}

// listenAt listens at the address as soon as it is free.
func listenAt(t *testing.T, addr string) net.Listener {
	t.Helper()
	for begin := time.Now(); ; {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		if time.Since(begin) > patience {
			t.Fatal(err)
		}
	}
}
