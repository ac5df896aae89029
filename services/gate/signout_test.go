package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
)

// refusedKey reports whether a key does not count.
func (town *town) refusedKey(key string) bool {
	town.t.Helper()
	resp, body := town.ask(key)
	return resp.StatusCode == http.StatusUnauthorized && strings.Contains(body, "invalid_api_key")
}

// TestSignOutCommand ends the sessions and keys of somebody with an account, who can sign in again.
func TestSignOutCommand(t *testing.T) {
	url, _ := refusingML(t)
	town := newTown(t, auditing, func(c *gateenv.Config) { c.MLServiceURL = url })
	laptop, phone := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	laptop.join("ada", town.code("invite ada"))
	phone.signIn("ada", password)
	other := town.visitor("192.0.2.3")
	other.join("bob", town.code("invite bob"))
	key, bobs := laptop.key(), other.key()
	if town.refusedKey(key) {
		t.Fatal("the key does not count")
	}

	for line, want := range map[string]string{
		"sign-out":         "usage: gate user erase",
		"sign-out ada bob": "usage: gate user erase",
		"sign-out --yes":   "usage: gate user erase",
		"sign-out eve":     "eve: there is no account",
	} {
		args := append([]string{"user"}, strings.Fields(line)...)
		err := run(t.Context(), args, town.env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %s: %v, want %q", line, err, want)
		}
	}

	// The backend is not asked, which may be down.
	town.frontend.mu.Lock()
	asked := len(town.frontend.requests)
	town.frontend.mu.Unlock()
	if out := town.user("--by=carol sign-out Ada"); !strings.Contains(out, "ended: 2.") ||
		!strings.Contains(out, "revoked: 1.") {
		t.Error(out)
	}
	town.frontend.mu.Lock()
	if n := len(town.frontend.requests) - asked; n != 0 {
		t.Errorf("the frontend was asked %d times", n)
	}
	town.frontend.mu.Unlock()

	if laptop.signedIn() || phone.signedIn() || !town.refusedKey(key) {
		t.Error("a session or the key goes on")
	}
	if !other.signedIn() || town.refusedKey(bobs) {
		t.Error("somebody else is signed out")
	}

	// Again there is nothing to end, nor to record.
	town.user("--by=carol sign-out ada")
	text, acts := town.records()
	i := max(0, slices.Index(acts, "sign-out intent"))
	if want := []string{
		"sign-out intent", "sign-out done", "key-revoked intent", "key-revoked done",
	}; !slices.Equal(acts[i:min(i+4, len(acts))], want) ||
		strings.Count(text, `"by":"carol"`) != 4 {
		t.Errorf("recorded are %q", acts)
	}

	if laptop.signIn("ada", password); !laptop.signedIn() || !town.refusedKey(key) {
		t.Error("after signing in again")
	}
}

// commandOf makes the town's command line that of the gate of the provider's.
func (town *town) commandOf(p *oidctest.Provider) {
	town.env = environ(town.t, ":1", town.redis.URL, town.frontend.URL, auditing,
		func(c *gateenv.Config) {
			c.SignIn, c.PublicURL = gateenv.OIDC, town.base
			c.Provider = gateenv.Provider{
				Issuer: p.Issuer, ClientID: "c", GroupsClaim: "groups", Everybody: true,
			}
		})
}

// TestSignOutProvided ends the sessions and keys of somebody of a provider that tells nobody who has
// left.
func TestSignOutProvided(t *testing.T) {
	url, _ := refusingML(t)
	town, p := newProvided(t, false, auditing, func(c *gateenv.Config) { c.MLServiceURL = url })
	town.commandOf(p)
	p.SignIn(ada)
	v := town.visitor("192.0.2.1")
	v.through("/")
	key := v.key()

	err := run(t.Context(), []string{"user", "sign-out", "Ada"}, town.env, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "in the claim sub") || !v.signedIn() {
		t.Errorf("nobody: %v", err)
	}

	if out := town.user("--by=carol sign-out ada"); !strings.Contains(out, "ended: 1.") ||
		!strings.Contains(out, "revoked: 1.") {
		t.Error(out)
	}
	if v.signedIn() || !town.refusedKey(key) {
		t.Error("the session or the key goes on")
	}
}

// TestLetInNoMore holds that a sign-in that is refused for its groups ends what the person has from
// before: sessions at once, keys for as long as it is so. Nobody else's.
func TestLetInNoMore(t *testing.T) {
	url, _ := refusingML(t)
	town, p := newProvided(t, false, auditing, func(c *gateenv.Config) { c.MLServiceURL = url })
	bob := oidctest.Person{Subject: "bob", Claims: map[string]any{"groups": "team"}}
	p.SignIn(bob)
	other := town.visitor("192.0.2.2")
	other.through("/")
	bobs := other.key()

	p.SignIn(ada)
	laptop := town.visitor("192.0.2.1")
	laptop.through("/")
	key := laptop.key()
	if town.refusedKey(key) || town.refusedKey(bobs) {
		t.Fatal("a key does not count")
	}

	out := ada
	out.Claims = map[string]any{"groups": []string{"golf"}}
	p.SignIn(out)
	phone := town.visitor("192.0.2.3")
	for range 2 {
		if resp, _ := phone.through("/"); resp.StatusCode != http.StatusForbidden {
			t.Fatalf("out of the groups: %s", resp.Status)
		}
	}

	if laptop.signedIn() || !town.refusedKey(key) {
		t.Error("the other session or the key goes on")
	}
	if !other.signedIn() || town.refusedKey(bobs) {
		t.Error("somebody else is signed out")
	}

	p.SignIn(ada)
	if phone.through("/"); !phone.signedIn() || town.refusedKey(key) {
		t.Error("let in again, the key does not count")
	}

	if err := town.stop(); err != nil {
		t.Fatal(err)
	}
	town.commandOf(p)
	text, acts := town.records()
	i := max(0, slices.Index(acts, "sign-in refused"))
	if want := []string{
		"sign-in refused", "sign-out intent", "sign-out done", "sign-in refused",
	}; !slices.Equal(acts[i:min(i+4, len(acts))], want) ||
		strings.Count(text, `"by":"the OpenID provider"`) != 2 {
		t.Errorf("recorded are %q", acts)
	}
}

// TestGroupsNotLetIn holds that keys follow the settings: one of a group that is let in no more does
// not count.
func TestGroupsNotLetIn(t *testing.T) {
	url, _ := refusingML(t)
	town, p := newProvided(t, false, func(c *gateenv.Config) { c.MLServiceURL = url })
	p.SignIn(oidctest.Person{Subject: "bob", Claims: map[string]any{"groups": "team"}})
	v := town.visitor("192.0.2.1")
	v.through("/")
	key := v.key()
	for want, change := range map[bool]func(*gateenv.Provider){
		true:  func(c *gateenv.Provider) { c.AllowedGroups = gateenv.Names{"staff"} },
		false: func(c *gateenv.Provider) { c.Everybody, c.AllowedGroups = true, nil },
	} {
		changed := *town
		changed.base, _, _ = start(t, town.redis.URL, town.frontend.URL, func(c *gateenv.Config) {
			c.SignIn, c.PublicURL, c.MLServiceURL = gateenv.OIDC, "http://"+c.ListenAddr, url
			c.Provider = gateenv.Provider{
				Issuer: p.Issuer, ClientID: oidctest.ClientID, GroupsClaim: "groups",
				AllowedGroups: gateenv.Names{"team"}, AdminGroups: gateenv.Names{"maintainers"},
			}
			change(&c.Provider)
		})
		if got := changed.refusedKey(key); got != want {
			t.Errorf("refused is %t, want %t", got, want)
		}
	}
}
