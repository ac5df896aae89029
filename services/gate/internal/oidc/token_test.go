package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/oidc"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
	"github.com/go-jose/go-jose/v4"
)

// TestTokens checks which ID tokens are taken: what a provider is made to say, or somebody between.
func TestTokens(t *testing.T) {
	s := newSite(t, nil)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	set := func(name string, value any) func(map[string]any) string {
		return func(claims map[string]any) string {
			claims[name] = value
			return s.Sign(claims)
		}
	}

	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, tt := range map[string]struct {
		alter func(claims map[string]any) string
		want  int
		log   string
	}{
		"as it is":        {s.Sign, 200, ""},
		"within the skew": {set("exp", in(-20*time.Second)), 200, ""},
		"expired":         {set("exp", in(-time.Minute)), 502, "has expired"},
		"of the future":   {set("iat", in(5*time.Minute)), 502, "set the clocks"},
		"a little early":  {set("iat", in(20*time.Second)), 200, ""},
		"foreign issuer":  {set("iss", "https://evil.example"), 502, "another issuer's"},
		"other client":    {set("aud", "other"), 502, "another client"},
		"other party":     {set("azp", "other"), 502, "another client's"},
		"its party":       {set("azp", oidctest.ClientID), 200, ""},
		"other nonce":     {set("nonce", "other"), 502, "another sign-in's"},
		"no nonce": {func(claims map[string]any) string {
			delete(claims, "nonce")
			return s.Sign(claims)
		}, 502, "another sign-in's"},
		"nobody":          {set("sub", ""), 502, "names nobody"},
		"too long a name": {set("sub", strings.Repeat("x", 256)), 502, "names nobody"},
		"a name's kind":   {set("name", 1), 502, "another kind"},
		"foreign key": {func(claims map[string]any) string {
			return oidctest.SignWith(jose.ES256, stranger, "unknown", claims)
		}, 502, "no valid signature"},
		// The public half of the key is known to everybody: as the secret of
		// an HMAC it must not do.
		"HMAC": {func(claims map[string]any) string {
			return oidctest.SignWith(jose.HS256, []byte(strings.Repeat("k", 64)), "k", claims)
		}, 502, "no valid signature"},
		"unsigned": {func(claims map[string]any) string {
			parts := strings.Split(s.Sign(claims), ".")
			return "eyJhbGciOiJub25lIn0." + parts[1] + "."
		}, 502, "no valid signature"},
		"changed": {func(claims map[string]any) string {
			parts := strings.Split(s.Sign(claims), ".")
			return parts[0] + "." + parts[1] + "x." + parts[2]
		}, 502, "no valid signature"},
		"absent": {func(map[string]any) string { return "" }, 502, "gave no ID token"},
		"a log-out": {func(map[string]any) string {
			return s.Sign(s.LogoutToken("ada", ""))
		}, 502, "another sign-in's"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Alter(tt.alter)
			defer s.Alter(nil)
			s.log.Reset()
			b := newBrowser(t)
			status, _, body := b.open(b.signIn(s, "/"))
			if status != tt.want || !strings.Contains(s.log.String(), tt.log) {
				t.Errorf("%d %s, want %d and %q\n%s", status, body, tt.want, tt.log, s.log)
			}

			if strings.Contains(s.log.String(), "Lovelace") ||
				strings.Contains(s.log.String(), "eyJ") {
				t.Errorf("the log tells of the token:\n%s", s.log)
			}
		})
	}
}

// TestGroups checks who is let in, as what.
func TestGroups(t *testing.T) {
	everybody := func(c *oidc.Config) {
		c.AllowedGroups, c.AdminGroups, c.Everybody = nil, nil, true
	}
	overage := map[string]any{
		"_claim_names":   map[string]string{"groups": "src1"},
		"_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example"}},
	}

	for name, tt := range map[string]struct {
		change func(*oidc.Config)
		claims map[string]any
		want   int
		groups string
		admin  bool
	}{
		"member":      {nil, map[string]any{"groups": []string{"x", "team"}}, 200, "team", false},
		"admin alone": {nil, map[string]any{"groups": []string{"maintainers"}}, 200, "maintainers", true},
		"one name":    {nil, map[string]any{"groups": "team"}, 200, "team", false},
		"twice":       {nil, map[string]any{"groups": []string{"team", "team"}}, 200, "team", false},
		"wrong group": {nil, map[string]any{"groups": []string{"golf", "Team", "team "}}, 403, "", false},
		"no group":    {nil, map[string]any{"groups": []string{}}, 403, "", false},
		"null":        {nil, map[string]any{"groups": nil}, 403, "", false},
		"no claim":    {nil, nil, 403, "", false},
		"an object":   {nil, map[string]any{"groups": map[string]any{"team": 1}}, 502, "", false},
		"numbers":     {nil, map[string]any{"groups": []int{1}}, 502, "", false},
		"overage":     {nil, overage, 502, "", false},
		"other claim": {func(c *oidc.Config) { c.GroupsClaim = "hd" },
			map[string]any{"hd": "team", "groups": []string{"maintainers"}}, 200, "team", false},
		"everybody":             {everybody, nil, 200, "", false},
		"everybody, of overage": {everybody, overage, 200, "", false},
		"everybody, an admin": {func(c *oidc.Config) {
			everybody(c)
			c.AdminGroups = []string{"a"}
		},
			map[string]any{"groups": []string{"a", "b"}}, 200, "a", true},
		"everybody, a member": {func(c *oidc.Config) {
			everybody(c)
			c.AdminGroups = []string{"a"}
		},
			map[string]any{"groups": []string{"b"}}, 200, "", false},
		"everybody, of another group": {func(c *oidc.Config) {
			everybody(c)
			c.OtherGroups = []string{"research"}
		},
			map[string]any{"groups": []string{"research", "golf"}}, 200, "research", false},
		"team, of another group": {func(c *oidc.Config) { c.OtherGroups = []string{"research"} },
			map[string]any{"groups": []string{"research", "team"}}, 200, "research team", false},
		"another group alone": {func(c *oidc.Config) { c.OtherGroups = []string{"research"} },
			map[string]any{"groups": []string{"research"}}, 403, "", false},
		"nobody was named": {func(c *oidc.Config) { everybody(c); c.Everybody = false },
			map[string]any{"groups": []string{"team"}}, 403, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tt.change)
			s.SignIn(oidctest.Person{Subject: "eve", Name: "Eve", Claims: tt.claims})
			b := newBrowser(t)
			status, id, body := b.open(b.signIn(s, "/"))
			if status != tt.want || strings.Join(id.Groups, " ") != tt.groups ||
				id.Admin != tt.admin {
				t.Errorf("%d %s\n%s", status, body, s.log)
			}
		})
	}
}

// TestNames checks what people are called.
func TestNames(t *testing.T) {
	s := newSite(t, nil)
	for name, tt := range map[string]struct {
		name   string
		claims map[string]any
		want   string
	}{
		"name":      {"Ada", map[string]any{"preferred_username": "ada"}, "Ada"},
		"user name": {"", map[string]any{"preferred_username": "ada"}, "ada"},
		"none":      {"", nil, ""},
		"controls":  {" A\x1b[2Jda\n\u202e ", nil, "A[2Jda"},
		"long":      {strings.Repeat("é", 100), nil, strings.Repeat("é", 80)},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"groups": "team"}
			for k, v := range tt.claims {
				claims[k] = v
			}

			s.SignIn(oidctest.Person{Subject: "ada", Name: tt.name, Claims: claims})
			b := newBrowser(t)
			if _, id, body := b.open(b.signIn(s, "/")); id.Name != tt.want {
				t.Errorf("%q, want %q: %s", id.Name, tt.want, body)
			}
		})
	}
}

// TestRotation checks that a new key of the provider is taken at once, and the former one no more.
func TestRotation(t *testing.T) {
	s := newSite(t, nil)
	for range 3 {
		b := newBrowser(t)
		if status, _, body := b.open(b.signIn(s, "/")); status != http.StatusOK {
			t.Fatalf("%d %s\n%s", status, body, s.log)
		}
		s.Rotate(t)
	}

	old := s.Provider
	s.Alter(func(claims map[string]any) string {
		token := old.Sign(claims)
		old.Rotate(t)
		return token
	})

	b := newBrowser(t)
	if status, _, body := b.open(b.signIn(s, "/")); status != http.StatusBadGateway {
		t.Errorf("of a former key: %d %s", status, body)
	}
}

// TestBusy checks that a provider that is busy is told from one that refuses this site.
func TestBusy(t *testing.T) {
	s := newSite(t, nil)
	for answer, want := range map[int]int{
		http.StatusRequestTimeout:      http.StatusServiceUnavailable,
		http.StatusTooManyRequests:     http.StatusServiceUnavailable,
		http.StatusInternalServerError: http.StatusServiceUnavailable,
		http.StatusUnauthorized:        http.StatusBadGateway,
	} {
		b := newBrowser(t)
		callback := b.signIn(s, "/")
		s.Busy(answer)
		if status, _, body := b.open(callback); status != want {
			t.Errorf("the provider answers %d: %d %s, want %d", answer, status, body, want)
		}
		s.Busy(0)
	}
}

// TestDown checks that a provider that is away stops nobody for longer than it is away.
func TestDown(t *testing.T) {
	s := newSite(t, nil)
	s.Down(true)
	b := newBrowser(t)
	begin := time.Now()
	for range 3 {
		status, _, body := b.open(s.URL + "/start")
		var p struct {
			RetryAfter int `json:"retry_after"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.RetryAfter == 0 ||
			status != http.StatusServiceUnavailable ||
			!strings.Contains(body, "cannot be reached") {
			t.Errorf("%d %s %v", status, body, err)
		}
	}

	// A request may ask for it a second after the last one that did.
	if n, most := len(s.Visits()), 1+int(time.Since(begin)/time.Second); n < 1 || n > most {
		t.Errorf("a provider that is away was asked %d times for three requests, not %d", n, most)
	}

	s.Down(false)
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := b.Get(s.URL + "/start")
		if err != nil {
			t.Fatal(err)
		}

		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never up again")
		}

		time.Sleep(50 * time.Millisecond)
	}

	// It goes away between the beginning and the end.
	callback := b.signIn(s, "/")
	s.Down(true)
	if status, _, body := b.open(callback); status != http.StatusServiceUnavailable {
		t.Errorf("away in the middle: %d %s", status, body)
	}

	s.Down(false)
	if status, _, body := b.open(b.signIn(s, "/")); status != http.StatusOK {
		t.Errorf("up again: %d %s", status, body)
	}
}

// TestSettings checks what a provider does not take.
func TestSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*oidc.Config)
		want   int
	}{
		"secret by form": {nil, 200},
		"wrong secret":   {func(c *oidc.Config) { c.ClientSecret = "other" }, 502},
		"no secret":      {func(c *oidc.Config) { c.ClientSecret = "" }, 502},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tt.change)
			if tt.change == nil {
				s.Say(map[string]any{
					"token_endpoint_auth_methods_supported": []string{"client_secret_post"},
				})
			}

			b := newBrowser(t)
			if status, _, body := b.open(b.signIn(s, "/")); status != tt.want {
				t.Errorf("%d %s\n%s", status, body, s.log)
			}
			if strings.Contains(s.log.String(), oidctest.Secret) {
				t.Errorf("the log has the secret:\n%s", s.log)
			}
		})
	}

	// A provider that calls itself otherwise than the settings do is another.
	s := newSite(t, nil)
	s.Say(map[string]any{"issuer": "https://other.example"})
	if status, _, body := newBrowser(t).open(s.URL + "/start"); status != 503 ||
		!strings.Contains(s.log.String(), "did not match the issuer") {
		t.Errorf("%d %s\n%s", status, body, s.log)
	}
}

// TestAuthority checks that a provider's certificate has to be of the authorities that are given.
func TestAuthority(t *testing.T) {
	var server *httptest.Server
	server = httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{
				"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize",
			})
		}))

	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for want, authorities := range map[int]*x509.CertPool{
		http.StatusServiceUnavailable: x509.NewCertPool(),
		http.StatusSeeOther:           pool,
	} {
		s := newSite(t, func(c *oidc.Config) {
			c.Issuer, c.Authorities = server.URL, authorities
		})
		b := newBrowser(t)
		b.CheckRedirect = func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}
		resp, err := b.Get(s.URL + "/start")
		if err != nil {
			t.Fatal(err)
		}

		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s, want %d\n%s", resp.Status, want, s.log)
		}
	}
}
