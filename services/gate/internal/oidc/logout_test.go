package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/oidc"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/go-jose/go-jose/v4"
)

// TestLeave signs out at the provider, which sends the browser back.
func TestLeave(t *testing.T) {
	s := newSite(t, nil)
	leave := func(hint string) (path, to string) {
		path = s.client.Leave(t.Context(), hint)
		return path, s.client.LogoutURL(httptest.NewRequest(http.MethodGet, path, nil))
	}

	if path, to := leave("token"); path != oidc.SignInPath || to != "" {
		t.Errorf("before discovery: %s, %s", path, to)
	}

	b := newBrowser(t)
	_, id, _ := b.open(b.signIn(s, "/"))
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, hint := range []string{id.Hint, ""} {
		path, to := leave(hint)
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}

		if u.Query().Get("id_token_hint") != hint ||
			u.Query().Get("client_id") != oidctest.ClientID ||
			strings.Contains(path, "eyJ") {
			t.Errorf("%s leads to %s", path, to)
		}

		resp, err := b.Get(to)
		if err != nil {
			t.Fatal(err)
		}

		resp.Body.Close()
		if to := resp.Header.Get("Location"); to != s.URL+oidc.SignInPath {
			t.Errorf("%s sends to %q", resp.Status, to)
		}

		// A ticket is good once.
		again := s.client.LogoutURL(httptest.NewRequest(http.MethodGet, path, nil))
		if strings.Contains(again, "id_token_hint") {
			t.Errorf("%s leads to %s again", path, again)
		}
	}

	// A token that is too long for an address is no hint.
	s.SignIn(oidctest.Person{Subject: "ada", Claims: map[string]any{"groups": "team",
		"more": strings.Repeat("x", 4000)}})
	b = newBrowser(t)
	if status, id, body := b.open(b.signIn(s, "/")); status != http.StatusOK || id.Hint != "" {
		t.Errorf("with a long token: %d %s", status, body)
	}

	// Google has no such place.
	s = newSite(t, nil)
	s.Say(map[string]any{"end_session_endpoint": nil})
	newBrowser(t).signIn(s, "/")
	if path, to := leave("token"); path != oidc.SignInPath || to != "" {
		t.Errorf("without a place to sign out: %s, %s", path, to)
	}
}

func TestBackChannel(t *testing.T) {
	s := newSite(t, nil)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	edited := func(change func(map[string]any)) string {
		claims := s.LogoutToken("ada", "session-1")
		change(claims)
		return s.Sign(claims)
	}

	set := func(name string, value any) string {
		return edited(func(claims map[string]any) { claims[name] = value })
	}
	without := func(name string) string {
		return edited(func(claims map[string]any) { delete(claims, name) })
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	used := s.Sign(s.LogoutToken("ada", ""))
	post(t, s, used)
	for name, tt := range map[string]struct {
		token string
		want  oidc.Logout // none: refused
	}{
		"both": {s.Sign(s.LogoutToken("ada", "session-1")),
			oidc.Logout{s.Issuer, "ada", "session-1"}},
		"subject":     {s.Sign(s.LogoutToken("ada", "")), oidc.Logout{s.Issuer, "ada", ""}},
		"session":     {s.Sign(s.LogoutToken("", "session-1")), oidc.Logout{s.Issuer, "", "session-1"}},
		"neither":     {s.Sign(s.LogoutToken("", "")), oidc.Logout{}},
		"used":        {used, oidc.Logout{}},
		"nonce":       {set("nonce", "x"), oidc.Logout{}},
		"empty nonce": {set("nonce", ""), oidc.Logout{}},
		"no event":    {without("events"), oidc.Logout{}},
		"other event": {set("events", map[string]any{"other": map[string]any{}}), oidc.Logout{}},
		"no id":       {without("jti"), oidc.Logout{}},
		"no time":     {without("iat"), oidc.Logout{}},
		"no end":      {without("exp"), oidc.Logout{}},
		"expired":     {set("exp", in(-time.Minute)), oidc.Logout{}},
		"old": {edited(func(claims map[string]any) {
			claims["iat"], claims["exp"] = in(-time.Hour), in(time.Hour)
		}), oidc.Logout{}},
		"of the future": {set("iat", in(5*time.Minute)), oidc.Logout{}},
		"other issuer":  {set("iss", "https://evil.example"), oidc.Logout{}},
		"other client":  {set("aud", "other"), oidc.Logout{}},
		"foreign key": {oidctest.SignWith(jose.ES256, stranger, "x", s.LogoutToken("ada", "")),
			oidc.Logout{}},
		"an HMAC": {oidctest.SignWith(jose.HS256, []byte(strings.Repeat("k", 64)), "x",
			s.LogoutToken("ada", "")), oidc.Logout{}},
		"an ID token": {s.Sign(map[string]any{"iss": s.Issuer, "aud": oidctest.ClientID,
			"sub": "ada", "iat": in(0), "exp": in(time.Minute), "nonce": "n"}), oidc.Logout{}},
		"nothing": {"", oidc.Logout{}},
		"rubbish": {"a.b.c", oidc.Logout{}},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := post(t, s, tt.token)
			want := http.StatusOK
			if tt.want == (oidc.Logout{}) {
				want = http.StatusBadRequest
			}
			if status != want || got != tt.want {
				t.Errorf("%d %+v, want %d %+v\n%s", status, got, want, tt.want, s.log)
			}
		})
	}

	if strings.Contains(s.log.String(), "session-1") || strings.Contains(s.log.String(), "eyJ") {
		t.Errorf("the log tells of the token:\n%s", s.log)
	}

	// What could not be done may come again.
	token := s.Sign(s.LogoutToken("ada", ""))
	s.broken = errors.New("Redis is away")
	if status, _ := post(t, s, token); status != http.StatusServiceUnavailable {
		t.Errorf("not done: %d", status)
	}

	s.broken = nil
	if status, _ := post(t, s, token); status != http.StatusOK {
		t.Errorf("sent again: %d", status)
	}

	// Once the provider has signed with a new key, the former one counts no more. The verifier
	// answers a moment before it forgets, so each try has a token of its own.
	former := make([]string, 100)
	for i := range former {
		former[i] = s.Sign(s.LogoutToken("ada", ""))
	}

	s.Rotate(t)
	if status, _ := post(t, s, s.Sign(s.LogoutToken("ada", ""))); status != http.StatusOK {
		t.Errorf("of a new key: %d", status)
	}
	if !slices.ContainsFunc(former, func(token string) bool {
		status, _ := post(t, s, token)
		return status == http.StatusBadRequest
	}) {
		t.Errorf("%d tokens of a former key count", len(former))
	}
}

// TestBackChannelGone checks that sessions end whether or not the provider waits for it.
func TestBackChannelGone(t *testing.T) {
	s := newSite(t, nil)
	token := s.Sign(s.LogoutToken("ada", ""))
	send := func(end func(ctx context.Context, gone context.CancelFunc) error) *problem.Problem {
		ctx, gone := context.WithCancel(t.Context())
		defer gone()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, oidc.BackChannelPath,
			strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return s.client.BackChannel(r, func(ctx context.Context, _ oidc.Logout) error {
			return end(ctx, gone)
		})
	}

	// One that fails while the provider goes may come again.
	fault := send(func(_ context.Context, gone context.CancelFunc) error {
		gone()
		return errors.New("Redis is away")
	})
	if fault == nil || fault.Status != http.StatusServiceUnavailable {
		t.Errorf("not done: %v", fault)
	}

	fault = send(func(ctx context.Context, gone context.CancelFunc) error {
		gone()
		return ctx.Err()
	})
	if fault != nil {
		t.Errorf("the provider has gone: %v", fault)
	}

	fault = send(func(context.Context, context.CancelFunc) error { return nil })
	if fault == nil || fault.Status != http.StatusBadRequest {
		t.Errorf("used: %v", fault)
	}
}

// post sends a logout token, and returns what has ended.
func post(t *testing.T, s *site, token string) (int, oidc.Logout) {
	t.Helper()
	resp, err := http.PostForm(s.URL+oidc.BackChannelPath, url.Values{"logout_token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var ended oidc.Logout
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&ended); err != nil {
			t.Fatal(err)
		}
	}

	return resp.StatusCode, ended
}
