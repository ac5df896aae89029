package oidc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/oidc"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// ada is let in, as an admin.
var ada = oidctest.Person{Subject: "ada", Name: "Ada Lovelace", Claims: map[string]any{
	"groups": []string{"maintainers", "team", "golf"}, "sid": "session-1",
}}

// site is a gate with an OpenID provider and nothing behind it: who comes back is told who it is.
type site struct {
	*httptest.Server
	*oidctest.Provider
	client *oidc.Client
	redis  *redistest.Server
	log    *buffer

	// broken is what ends no session.
	broken error
}

// newSite starts a provider, and a gate whose settings change changes.
func newSite(t *testing.T, change func(*oidc.Config)) *site {
	t.Helper()
	s := &site{Provider: oidctest.Start(t), redis: redistest.StartAs(t, "gate"), log: &buffer{}}
	mux := http.NewServeMux()
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Server.Close)
	s.Register(s.URL)
	s.SignIn(ada)

	cfg := oidc.Config{
		Issuer:        s.Issuer,
		ClientID:      oidctest.ClientID,
		ClientSecret:  oidctest.Secret,
		PublicURL:     s.URL,
		GroupsClaim:   "groups",
		AllowedGroups: []string{"team"},
		AdminGroups:   []string{"maintainers"},
	}
	if change != nil {
		change(&cfg)
	}

	st, err := store.New(redisclient.Address(contract.Redis{URL: s.redis.URL}))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(st.Close)

	s.client = oidc.New(cfg, st, slog.New(slog.NewTextHandler(s.log, nil)))
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		if fault := s.client.Start(w, r); fault != nil {
			problem.Write(w, r, fault)
		}
	})

	mux.HandleFunc("GET "+oidc.CallbackPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(r *http.Request) (oidc.Identity, *problem.Problem) {
			id, _, fault := s.client.Callback(r)
			return id, fault
		})
	})
	mux.HandleFunc("POST "+oidc.BackChannelPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(r *http.Request) (ended oidc.Logout, fault *problem.Problem) {
			fault = s.client.BackChannel(r, func(_ context.Context, l oidc.Logout) error {
				ended = l
				return s.broken
			})
			return ended, fault
		})
	})

	return s
}

func answer[T any](
	w http.ResponseWriter, r *http.Request, ask func(*http.Request) (T, *problem.Problem),
) {
	v, fault := ask(r)
	if fault != nil {
		problem.Write(w, r, fault)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// browser is a person's: it keeps cookies, and follows redirects but those to CallbackPath.
type browser struct {
	*http.Client
	t *testing.T
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}

	return &browser{t: t, Client: &http.Client{Jar: jar,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == oidc.CallbackPath {
				return http.ErrUseLastResponse
			}
			return nil
		}}}
}

// signIn goes from the site to the provider, and returns where that sends the browser back to.
func (b *browser) signIn(s *site, back string) string {
	b.t.Helper()
	resp, err := b.Get(s.URL + "/start?back=" + url.QueryEscape(back))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()

	callback := resp.Header.Get("Location")
	if !strings.HasPrefix(callback, s.URL+oidc.CallbackPath+"?") {
		body, _ := io.ReadAll(resp.Body)
		b.t.Fatalf("%s %s sends to %q: %s", resp.Request.URL, resp.Status, callback, body)
	}

	return callback
}

// open returns the answer to a request, and who it says it is.
func (b *browser) open(address string) (int, oidc.Identity, string) {
	b.t.Helper()
	resp, err := b.Get(address)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}

	var id oidc.Identity
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &id); err != nil {
			b.t.Fatal(err)
		}
	}

	return resp.StatusCode, id, string(body)
}

func TestSignIn(t *testing.T) {
	s := newSite(t, nil)
	b := newBrowser(t)
	callback := b.signIn(s, "/c/1?x=y")
	u, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}

	state, code := u.Query().Get("state"), u.Query().Get("code")
	r := s.redis.Client(t)
	if keys := redistest.Find(t, r, state, code, oidctest.Secret); len(keys) > 0 {
		t.Errorf("before the browser is back, %q have what the sign-in is made of", keys)
	}

	status, id, body := b.open(callback)
	if status != http.StatusOK || id.Issuer != s.Issuer || id.Subject != "ada" ||
		id.Name != "Ada Lovelace" || !id.Admin || id.SID != "session-1" || id.Back != "/c/1?x=y" ||
		!slices.Equal(id.Groups, []string{"maintainers", "team"}) || id.Hint == "" {
		t.Errorf("%d %s", status, body)
	}

	// What the sign-in was made of is nowhere: not in Redis, not in the log.
	for _, secret := range []string{state, code, id.Hint, "Lovelace", oidctest.Secret} {
		if keys := redistest.Find(t, r, secret); len(keys) > 0 {
			t.Errorf("%q have %q", keys, secret)
		}
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, s.log)
		}
	}

	// Another person, in another browser, in two tabs.
	s.SignIn(oidctest.Person{Subject: "bob", Claims: map[string]any{"groups": "team"}})
	b = newBrowser(t)
	first, second := b.signIn(s, "/1"), b.signIn(s, "/2")
	for want, callback := range map[string]string{"/1": first, "/2": second} {
		status, id, body := b.open(callback)
		if status != http.StatusOK || id.Subject != "bob" || id.Admin || id.Back != want {
			t.Errorf("%s: %d %s", want, status, body)
		}
	}
}

// TestAttempts checks which answers of the provider are taken, and that each is taken once.
func TestAttempts(t *testing.T) {
	s := newSite(t, nil)
	for name, tt := range map[string]struct {
		change func(q url.Values)
		again  bool // the first answer is taken
		other  bool // by another browser
		want   int
	}{
		"as it is":      {want: 200},
		"replayed":      {again: true, want: 400},
		"other browser": {other: true, want: 400},
		"no state":      {change: func(q url.Values) { q.Del("state") }, want: 400},
		"made-up state": {change: func(q url.Values) {
			q.Set("state", strings.Repeat("A", 26))
		}, want: 400},
		"no code":      {change: func(q url.Values) { q.Del("code") }, want: 400},
		"made-up code": {change: func(q url.Values) { q.Set("code", "x") }, want: 400},
		"its issuer":   {change: func(q url.Values) { q.Set("iss", s.Issuer) }, want: 200},
		"mix-up": {change: func(q url.Values) {
			q.Set("iss", "https://evil.example")
		}, want: 400},
		"empty issuer": {change: func(q url.Values) { q.Set("iss", "") }, want: 400},
		"denied":       {change: func(q url.Values) { q.Set("error", "access_denied") }, want: 403},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			callback := b.signIn(s, "/")
			if tt.again {
				if status, _, body := b.open(callback); status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
			}

			if tt.other {
				b = newBrowser(t)
				b.signIn(s, "/") // it has a cookie of its own
			}

			u, err := url.Parse(callback)
			if err != nil {
				t.Fatal(err)
			}

			q := u.Query()
			if tt.change != nil {
				tt.change(q)
			}

			u.RawQuery = q.Encode()
			if status, _, body := b.open(u.String()); status != tt.want {
				t.Errorf("%d %s, want %d\n%s", status, body, tt.want, s.log)
			}
		})
	}
}

// TestReplayedCode puts a code that has been redeemed into another sign-in of the same browser.
func TestReplayedCode(t *testing.T) {
	s := newSite(t, nil)
	b := newBrowser(t)
	first, second := b.signIn(s, "/"), b.signIn(s, "/")
	if status, _, body := b.open(first); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}

	one, _ := url.Parse(first)
	two, _ := url.Parse(second)
	q := two.Query()
	q.Set("code", one.Query().Get("code"))
	two.RawQuery = q.Encode()
	if status, _, body := b.open(two.String()); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}

	// A code of another sign-in that nobody has redeemed has another verifier.
	third, fourth := b.signIn(s, "/"), b.signIn(s, "/")
	three, _ := url.Parse(third)
	four, _ := url.Parse(fourth)
	q = four.Query()
	q.Set("code", three.Query().Get("code"))
	four.RawQuery = q.Encode()
	if status, _, body := b.open(four.String()); status != http.StatusBadRequest {
		t.Errorf("without its verifier: %d %s", status, body)
	}
}

// TestNamesItself checks that a provider that says with each answer who it is has to do so.
func TestNamesItself(t *testing.T) {
	s := newSite(t, nil)
	s.Say(map[string]any{"authorization_response_iss_parameter_supported": true})
	b := newBrowser(t)
	if status, _, body := b.open(b.signIn(s, "/")); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}

	callback := b.signIn(s, "/") + "&iss=" + url.QueryEscape(s.Issuer)
	if status, _, body := b.open(callback); status != http.StatusOK {
		t.Errorf("with iss: %d %s", status, body)
	}
}

// TestBack checks that nobody is led to another site.
func TestBack(t *testing.T) {
	s := newSite(t, nil)
	for _, back := range []string{"", "c/1", "//evil.example", `/\evil.example`, "/\t/evil.example",
		"https://evil.example/", "javascript:alert(1)", "/%zz", "/" + strings.Repeat("x", 3000)} {
		b := newBrowser(t)
		if _, id, body := b.open(b.signIn(s, back)); id.Back != "/" {
			t.Errorf("%q: %s", back, body)
		}
	}
}

func TestCookie(t *testing.T) {
	for public, want := range map[string]struct {
		name   string
		secure bool
	}{
		"https://chat.example.com": {"__Host-codexcontinue_oidc", true},
		"http://127.0.0.1:8080":    {"codexcontinue_oidc", false},
	} {
		s := newSite(t, func(c *oidc.Config) { c.PublicURL = public })
		b := newBrowser(t)
		b.CheckRedirect = func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}
		resp, err := b.Get(s.URL + "/start")
		if err != nil {
			t.Fatal(err)
		}

		resp.Body.Close()

		c := resp.Cookies()[0]
		if c.Name != want.name || c.Secure != want.secure || !c.HttpOnly || c.Path != "/" ||
			c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 600 {
			t.Errorf("%s: %v", public, c)
		}

		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}

		q := to.Query()
		if q.Get("redirect_uri") != public+"/oidc/callback" || q.Get("nonce") == "" ||
			q.Get("code_challenge_method") != "S256" || q.Get("scope") != "openid profile" ||
			q.Get("response_type") != "code" {
			t.Errorf("%s: sent to %s", public, to)
		}
	}
}
