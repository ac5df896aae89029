package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// manager returns a manager of a gate of its own at the Redis.
func manager(t *testing.T, url string, idle, life time.Duration) *session.Manager {
	t.Helper()
	st, err := store.New(redisclient.Address{URL: url})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(st.Close)

	names := &pseudonym.Names{}
	if err := names.Load(t.Context(), st.Claim); err != nil {
		t.Fatal(err)
	}

	return session.New(st, names, idle, life, slog.New(slog.DiscardHandler))
}

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

// request returns a request of a browser with the cookies, over TLS.
func request(path string, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-For", "192.0.2.7")
	r.Header.Set("User-Agent", firefox)
	for _, c := range cookies {
		r.AddCookie(c)
	}

	return r
}

// signIn returns the cookie of a new session.
func signIn(t *testing.T, m *session.Manager, r *http.Request, who session.Who) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if err := m.SignIn(w, r, who); err != nil {
		t.Fatal(err)
	}

	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}

	return cookies[0]
}

var ada = session.Who{
	Issuer: "accounts", Subject: "1", Name: "ada", Admin: true, Groups: []string{"math"}, SID: "s1",
}

func TestSession(t *testing.T) {
	r := redistest.Start(t)
	m := manager(t, r.URL, time.Hour, 24*time.Hour)
	if _, err := m.Find(request("/")); !errors.Is(err, session.ErrNone) {
		t.Errorf("without a cookie: %v", err)
	}

	c := signIn(t, m, request("/sign-in"), ada)
	if c.Name != "__Host-codexcontinue_session" || !c.Secure || !c.HttpOnly || c.Path != "/" ||
		c.SameSite != http.SameSiteLaxMode || c.Domain != "" || c.MaxAge != 0 ||
		len(c.Value) != 43 {
		t.Errorf("cookie %v", c)
	}

	s, err := m.Find(request("/", c))
	if err != nil {
		t.Fatal(err)
	}

	p := s.Person()
	if len(p.ID) != 26 || p.Name != "ada" || !p.Admin || p.Groups[0] != "math" ||
		s.Browser != "Firefox on Linux" || s.Address != "192.0.2.7" {
		t.Errorf("%+v", s)
	}

	// Over plain HTTP the cookie has another name, and that of TLS does not count.
	plain := request("/")
	plain.Header.Set("X-Forwarded-Proto", "http")
	if c := signIn(t, m, plain, ada); c.Name != "codexcontinue_session" || c.Secure {
		t.Errorf("over plain HTTP: %v", c)
	}

	plain.AddCookie(c)
	if _, err := m.Find(plain); !errors.Is(err, session.ErrNone) {
		t.Errorf("the cookie of TLS over plain HTTP: %v", err)
	}

	for what, value := range map[string]string{
		"forged": strings.Repeat("A", 43), "empty": "", "long": strings.Repeat("A", 5000), "Ref": s.Ref,
	} {
		bad := &http.Cookie{Name: c.Name, Value: value}
		if _, err := m.Find(request("/", bad)); !errors.Is(err, session.ErrNone) {
			t.Errorf("a %s cookie: %v", what, err)
		}
	}

	redis := r.Client(t)
	keys, err := redis.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}

	for _, key := range keys {
		if !strings.HasPrefix(key, "gate:") {
			t.Errorf("the key %s is not the gate's", key)
		}
	}

	if found := redistest.Find(t, redis, c.Value); len(found) > 0 {
		t.Errorf("%q have the token", found)
	}
}

// TestFixation checks that a session that an attacker has planted does not become the victim's, and
// that what a browser had before sign-in ends.
func TestFixation(t *testing.T) {
	m := manager(t, redistest.Start(t).URL, time.Hour, 24*time.Hour)
	mallory := ada
	mallory.Subject = "2"
	planted := signIn(t, m, request("/"), mallory)
	c := signIn(t, m, request("/", planted), ada)
	if c.Value == planted.Value {
		t.Error("the token stays at sign-in")
	}
	if _, err := m.Find(request("/", planted)); !errors.Is(err, session.ErrNone) {
		t.Errorf("the planted session: %v", err)
	}

	invented := &http.Cookie{Name: c.Name, Value: strings.Repeat("x", 43)}
	if c := signIn(t, m, request("/", invented), ada); c.Value == invented.Value {
		t.Error("a token that the browser made up is taken")
	}
}

// TestIdle checks that what a person does keeps a session alive, and what a page
// does by itself does not.
func TestIdle(t *testing.T) {
	t.Parallel()
	const idle = 3 * time.Second // longer than a busy machine takes from one use to the next
	m := manager(t, redistest.Start(t).URL, idle, time.Hour)
	idling, used := signIn(t, m, request("/"), ada), signIn(t, m, request("/"), ada)
	begin, over := time.Now(), false
	for ; !over; time.Sleep(idle / 30) {
		if _, err := m.Find(request("/c/1", used)); err != nil {
			t.Fatalf("a session in use: %v", err)
		}

		for _, path := range []string{"/generations/1/events", "/fragments/sidebar", "/status",
			"/api/status", "/api/generations/1/events", "/c/1?x=y&reload="} {
			_, err := m.Find(request(path, idling))
			over = over || errors.Is(err, session.ErrNone)
		}

		if time.Since(begin) > idle+20*time.Second {
			t.Fatal("what a page does by itself keeps a session alive")
		}
	}

	if _, err := m.Find(request("/", idling)); !errors.Is(err, session.ErrNone) {
		t.Errorf("after the idle time: %v", err)
	}
	if _, err := m.Find(request("/", used)); err != nil {
		t.Errorf("a session in use: %v", err)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second // in which a busy machine comes to look at the session
	m := manager(t, redistest.Start(t).URL, time.Hour, life)
	c := signIn(t, m, request("/"), ada)
	s, err := m.Find(request("/", c))
	if err != nil {
		t.Fatal(err)
	}

	lasting, stop := m.Watch(t.Context(), s)
	defer stop()
	select {
	case <-lasting.Done():
	case <-time.After(life + 20*time.Second):
		t.Error("a stream outlives its session")
	}

	time.Sleep(20 * time.Millisecond) // Redis and the stream may tell its end apart
	if _, err := m.Find(request("/", c)); !errors.Is(err, session.ErrNone) {
		t.Errorf("after its life: %v", err)
	}
	if all, err := m.List(t.Context(), s.ID); err != nil || len(all) != 0 {
		t.Errorf("listed: %v, %v", all, err)
	}
}

// TestShorterLife ends a session that began when they had a longer life.
func TestShorterLife(t *testing.T) {
	url := redistest.Start(t).URL
	before := manager(t, url, 2*time.Hour, 24*time.Hour)
	c := signIn(t, before, request("/"), ada)
	time.Sleep(20 * time.Millisecond)

	m := manager(t, url, time.Hour, time.Hour)
	s, err := m.Find(request("/", c))
	if err != nil || !s.Deadline.Equal(s.Since.Add(time.Hour)) {
		t.Fatalf("%+v, %v", s, err)
	}
	all, err := m.List(t.Context(), s.ID)
	if err != nil || len(all) != 1 || all[0].Seen.After(time.Now()) {
		t.Errorf("%+v, %v", all, err)
	}

	m = manager(t, url, time.Millisecond, 10*time.Millisecond)
	if _, err := m.Find(request("/", c)); !errors.Is(err, session.ErrNone) {
		t.Errorf("after a life that is shorter now: %v", err)
	}
}

func TestEnd(t *testing.T) {
	m := manager(t, redistest.Start(t).URL, time.Hour, 24*time.Hour)
	begin := time.Now()
	eve := session.Who{Issuer: "accounts", Subject: "3", Name: "eve", SID: "s1"}
	find := func(c *http.Cookie) *session.Session {
		s, err := m.Find(request("/", c))
		if err != nil && !errors.Is(err, session.ErrNone) {
			t.Fatal(err)
		}
		return s
	}

	second := ada
	second.SID = "s2"
	cookies := []*http.Cookie{
		signIn(t, m, request("/"), ada), signIn(t, m, request("/"), ada),
		signIn(t, m, request("/"), second), signIn(t, m, request("/"), eve),
	}

	alive := func(want ...bool) {
		t.Helper()
		for i, c := range cookies {
			if s := find(c); (s != nil) != want[i] {
				t.Errorf("session %d: %v, want it alive: %t", i, s, want[i])
			}
		}
	}

	id, hers := find(cookies[0]).ID, find(cookies[3])
	all, err := m.List(t.Context(), id)
	if err != nil || len(all) != 3 {
		t.Fatalf("listed %v, %v", all, err)
	}
	if seen := all[0].Seen; seen.Before(begin.Add(-5*time.Second)) ||
		seen.After(time.Now().Add(time.Second)) {
		t.Errorf("seen at %s, begun at %s", seen, begin)
	}

	if err := m.End(t.Context(), id, hers.Ref); err != nil {
		t.Error(err)
	}

	alive(true, true, true, true) // it is somebody else's

	if err := m.End(t.Context(), id, find(cookies[1]).Ref); err != nil {
		t.Error(err)
	}

	alive(true, false, true, true)

	// An issuer ends its own session of one person, and not that of the same name of another.
	if n, err := m.EndBy(t.Context(), "accounts", "1", "s1"); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}

	alive(false, false, true, true)
	if n, err := m.EndBy(t.Context(), "another", "", "s2"); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := m.EndBy(t.Context(), "accounts", "", "s2"); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}

	alive(false, false, false, true)
	if n, err := m.EndBy(t.Context(), "accounts", "3", ""); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}

	alive(false, false, false, false)

	cookies = []*http.Cookie{
		signIn(t, m, request("/"), ada), signIn(t, m, request("/"), ada),
		signIn(t, m, request("/"), ada), signIn(t, m, request("/"), eve),
	}

	if err := m.EndAll(t.Context(), id, find(cookies[0]).Ref); err != nil {
		t.Error(err)
	}

	alive(true, false, false, true)
	w := httptest.NewRecorder()
	if err := m.SignOut(w, request("/", cookies[0])); err != nil {
		t.Error(err)
	}
	if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("the cookie after sign-out: %v", c)
	}

	alive(false, false, false, true)
}

// TestWatch checks that streams end within five seconds of their session, wherever and however it
// ends. The time is that of a clock which stands still while Redis is asked: how busy the machine is
// does not count.
func TestWatch(t *testing.T) {
	t.Parallel()
	const bound = 5 * time.Second
	r := redistest.Start(t)
	m, other := manager(t, r.URL, time.Hour, time.Hour), manager(t, r.URL, time.Hour, time.Hour)
	find := func(m *session.Manager, who session.Who) *session.Session {
		s, err := m.Find(request("/generations/1/events", signIn(t, m, request("/"), who)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	eve := session.Who{Issuer: "accounts", Subject: "3"}
	client := r.Client(t)
	for name, end := range map[string]func(s *session.Session) error{
		"signed out at another gate": func(s *session.Session) error {
			return other.EndAll(t.Context(), s.ID, "")
		},
		"idle": func(s *session.Session) error { // as Redis sees it
			key := "gate:session:" + s.Ref
			if err := client.PExpire(t.Context(), key, 100*time.Millisecond).Err(); err != nil {
				return err
			}
			for {
				if n, err := client.Exists(t.Context(), key).Result(); n == 0 || err != nil {
					return err
				}
			}
		},
	} {
		mine, hers := find(m, ada), find(m, eve)
		// It begins anywhere between two looks.
		for _, after := range []time.Duration{0, time.Second, 1999 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go m.Run(ctx)
				here, done := m.Watch(ctx, mine)
				defer done()
				there, done := m.Watch(ctx, hers)
				defer done()

				time.Sleep(after)
				if err := end(mine); err != nil {
					t.Fatal(err)
				}

				begin := time.Now()
				select {
				case <-here.Done():
				case <-time.After(bound):
				}
				if took := time.Since(begin); took >= bound {
					t.Errorf("%s: the stream goes on after %s", name, took)
				}
				if there.Err() != nil {
					t.Errorf("%s: another person's stream has ended", name)
				}
			})
			mine = find(m, ada)
		}
	}
}

// TestWatchMany measures what a thousand open streams of as many people cost.
func TestWatchMany(t *testing.T) {
	r := redistest.Start(t)
	m := manager(t, r.URL, time.Hour, time.Hour)
	for i := range 1000 {
		who := session.Who{Issuer: "accounts", Subject: fmt.Sprint(i)}
		s, err := m.Find(request("/generations/1/events", signIn(t, m, request("/"), who)))
		if err != nil {
			t.Fatal(err)
		}

		_, stop := m.Watch(t.Context(), s)
		defer stop()
	}

	took := time.Hour // at best: a busy machine may hold one up
	for range 10 {
		begin := time.Now()
		if err := session.Look(m, t.Context(), false); err != nil {
			t.Fatal(err)
		}
		took = min(took, time.Since(begin))
	}

	if took > time.Second {
		t.Errorf("a look at 1,000 sessions took %s", took)
	} else {
		t.Logf("a look at 1,000 sessions took %s", took)
	}
}

// TestRedisAway checks that a short absence of Redis is borne, and that a longer one is told from a
// session that has ended.
func TestRedisAway(t *testing.T) {
	r := redistest.StartOn(t, t.TempDir())
	if err := r.Client(t).ConfigSet(t.Context(), "appendfsync", "always").Err(); err != nil {
		t.Fatal(err)
	}

	m := manager(t, r.URL, time.Hour, 24*time.Hour)
	c := signIn(t, m, request("/"), ada) // which is on disk now
	r.Kill(t)
	back := make(chan struct{})
	go func() {
		defer close(back)
		time.Sleep(2 * time.Second)
		r.Restart(t)
	}()

	if _, err := m.Find(request("/", c)); err != nil {
		t.Errorf("while Redis restarts: %v", err)
	}

	<-back
	r.Kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := m.Find(request("/", c).WithContext(ctx))
	if err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("without Redis: %v", err)
	}
}

func TestBack(t *testing.T) {
	for back, want := range map[string]string{
		"":                              "/",
		"/c/1?x=y#z":                    "/c/1?x=y#z",
		"https://evil.example/":         "/",
		"//evil.example":                "/",
		`/\evil.example`:                "/",
		`\\evil.example`:                "/",
		"/%2f/evil.example":             "/",
		"/\tevil":                       "/",
		"/\n/evil.example":              "/",
		"javascript:alert(1)":           "/",
		"evil":                          "/",
		"http:/evil":                    "/",
		"/" + strings.Repeat("a", 3000): "/",
	} {
		r := httptest.NewRequest(http.MethodGet, "/sign-in", nil)
		r.Form = map[string][]string{"back": {back}}
		if got := session.Back(r); got != want {
			t.Errorf("%q: %q, want %q", back, got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for forwarded, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "6.6.6.6, 192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1",
		"": "192.0.2.99", "<script>": "192.0.2.99",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "192.0.2.99:1234"
		r.Header.Set("X-Forwarded-For", forwarded)
		if got := session.Address(r); got != want {
			t.Errorf("%q: %q, want %q", forwarded, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for agent, want := range map[string]string{
		firefox: "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) " +
			"Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 " +
			"(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"curl/8.0": "curl", "<b>": "An unknown browser",
	} {
		if got := session.Describe(agent); got != want {
			t.Errorf("%q: %q, want %q", agent, got, want)
		}
	}
}
