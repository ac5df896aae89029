package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
)

// formerly has the visitor's browser known by a cookie at a gate without sign-in of the same stack,
// where it makes a key if there is one, and returns the person's id.
func (v *visitor) formerly(key bool) string {
	t := v.town.t
	t.Helper()
	base, stop, _ := start(t, v.town.redis.URL, v.town.frontend.URL)
	resp, err := v.client.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	resp, err = v.client.Get(base + "/account/usage")
	if err != nil {
		t.Fatal(err)
	}

	usage, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}

	if key {
		resp, err := v.client.PostForm(base+"/account/keys",
			form("name", "editor", "scope", "chat", "days", "9"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}

	if err := stop(); err != nil {
		t.Fatal(err)
	}

	id := v.town.person().ID
	if !strings.Contains(string(usage), "<code>browser:"+id+"</code>") {
		t.Errorf("the browser is not told that it is %s:\n%s", id, usage)
	}
	return id
}

// offer is what the page says of conversations from before.
const offer = "What this browser had before"

// TestFormerBrowser: who signs in where nobody did before is offered what the browser had, and gets
// it when they say so; nobody else is, nor at another name of the site.
func TestFormerBrowser(t *testing.T) {
	town := newTown(t, auditing)
	v, other := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	former := v.formerly(false)
	v.join("ada", town.code("invite ada"))
	other.join("bob", town.code("invite bob"))
	v.signedIn()
	me := town.person().ID

	if _, page := v.get("/account/data"); strings.Contains(page, offer) {
		t.Error("nothing is offered as something")
	}

	town.frontend.full.Store(true)
	if _, page := other.get("/account/data"); strings.Contains(page, offer) {
		t.Error("another browser is offered it")
	}

	if _, page := v.get("/account/data", "X-Forwarded-Host", "chat.example.com"); strings.Contains(
		page, offer) {
		t.Error("it is offered where no browser was known by its cookie alone")
	}

	if _, page := v.get("/account/data"); !strings.Contains(page, offer) {
		t.Fatalf("it is not offered on %s", page)
	}

	select {
	case <-town.frontend.consents:
		t.Fatal("it was taken unasked")
	default:
	}

	resp, body := v.post("/account/data/browser", "act", "take")
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Fatalf("%s %s", resp.Status, body)
	}

	from, ok := identity.Peek(identity.Authorization(<-town.frontend.consents))
	if to := town.person().ID; !ok || from.ID != former || to != me {
		t.Errorf("from %s to %s, want from %s to %s", from.ID, to, former, me)
	}

	if !v.signedIn() {
		t.Error("who took it is signed out")
	}
	if _, page := v.get("/account/data"); strings.Contains(page, offer) {
		t.Error("it is offered again")
	}

	text, acts := town.records()
	if !slices.Contains(acts, "move intent") || !slices.Contains(acts, "move done") ||
		!strings.Contains(text, former) {
		t.Errorf("recorded are %q", acts)
	}
}

// TestFormerKeys: a take-over that failed after the conversations is repeated for the keys.
func TestFormerKeys(t *testing.T) {
	town := newTown(t, auditing)
	v := town.visitor("192.0.2.1")
	v.formerly(true)
	v.join("ada", town.code("invite ada"))
	if _, page := v.get("/account/data"); !strings.Contains(page, offer) {
		t.Fatalf("it is not offered on %s", page)
	}

	for _, act := range []string{"", "forget"} {
		resp, _ := v.post("/account/data/browser", "act", act)
		if resp.StatusCode != http.StatusUnprocessableEntity || len(town.frontend.consents) > 0 {
			t.Errorf("%q is consent: %s", act, resp.Status)
		}
	}

	if resp, body := v.post("/account/data/browser", "act", "take"); resp.StatusCode != 303 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	if left := town.redis.Client(t).Keys(t.Context(), "gate:key*").Val(); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

// TestFormerBrowserLeft: what a browser had can be left, for good, and is not offered where
// people share browsers.
func TestFormerBrowserLeft(t *testing.T) {
	for name, shared := range map[string]bool{"left": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			town := newTown(t, auditing, func(c *gateenv.Config) { c.SharedBrowsers = shared })
			v := town.visitor("192.0.2.1")
			former := v.formerly(true)
			v.join("ada", town.code("invite ada"))
			town.frontend.full.Store(true)
			act := "leave"
			if shared {
				act = "take"
			}

			if _, page := v.get("/account/data"); strings.Contains(page, offer) == shared {
				t.Errorf("the page is %s", page)
			}

			resp, _ := v.post("/account/data/browser", "act", act)
			if shared != (resp.StatusCode == http.StatusNotFound) {
				t.Error(resp.Status)
			}

			if _, page := v.get("/account/data"); strings.Contains(page, offer) {
				t.Errorf("the page is %s", page)
			}
			if len(town.frontend.consents) > 0 {
				t.Error("it was taken")
			}

			// Another stack at another port of the host knows the browser by the same cookie.
			for _, c := range resp.Cookies() {
				t.Errorf("the cookie %s is set anew", c)
			}

			keys := town.redis.Client(t).Exists(t.Context(), "gate:keys:"+former).Val()
			if _, acts := town.records(); shared != (keys == 1) ||
				shared == slices.Contains(acts, "key-revoked done") {
				t.Errorf("%d keys are left, recorded are %q", keys, acts)
			}
		})
	}
}

// TestMoveBrowser: an operator gives somebody what a browser had before people signed in, and cannot
// take by that what somebody has who signs in.
func TestMoveBrowser(t *testing.T) {
	town := newTown(t, auditing)
	v := town.visitor("192.0.2.1")
	former := v.formerly(true)
	v.join("ada", town.code("invite ada"))
	v.signedIn()
	me := town.person().ID
	town.visitor("192.0.2.2").join("bob", town.code("invite bob"))
	for line, want := range map[string]string{
		"move browser:" + me + " ada":                      "are the same person",
		"move browser:" + me + " bob":                      "is no browser, but somebody who signs in",
		"move browser:" + former + " eve":                  "eve: there is no account",
		"move browser:x ada":                               "browser:x: there is no account",
		"move ada browser:" + former:                       "there is no account",
		"move browser:" + strings.Repeat("A", 26) + " ada": "nothing is stored of browser:",
	} {
		town.frontend.full.Store(strings.Contains(line, me))
		err := run(t.Context(), append([]string{"user"}, strings.Fields(line)...), town.env, io.Discard,
			io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}

	town.frontend.full.Store(true)
	said := town.user("--by=carol move browser:" + former + " ada")
	if !strings.Contains(said, "ada has the conversations of browser:"+former) {
		t.Error(said)
	}

	from, ok := identity.Peek(identity.Authorization(<-town.frontend.consents))
	if !ok || from.ID != former {
		t.Errorf("from %s, want from %s", from.ID, former)
	}
	if !v.signedIn() {
		t.Error("who got it is signed out")
	}

	text, acts := town.records()
	if !slices.Contains(acts, "move done") || !strings.Contains(text, `"by":"carol"`) ||
		!strings.Contains(text, former) {
		t.Errorf("recorded are %q:\n%s", acts, text)
	}
}

// TestMoveProvided: a provider's person does not pass for a browser, signed in or out.
func TestMoveProvided(t *testing.T) {
	town, p, v, former := newProvidedAda(t)
	p.SignIn(oidctest.Person{Subject: "bob", Claims: map[string]any{"groups": "team"}})
	town.visitor("192.0.2.2").through("/")
	town.frontend.full.Store(true)

	move := func(to, want string) {
		t.Helper()
		args := []string{"user", "move", "browser:" + former, to}
		err := run(t.Context(), args, town.env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: got %v, want %s", to, err, want)
		}
	}

	const refusal = "is no browser, but somebody who signs in"
	move("bob", refusal)
	v.post("/sign-out")
	if v.signedIn() {
		t.Fatal("not signed out")
	}
	move("bob", refusal)
	move("ada", "are the same person")
	if len(town.frontend.consents) > 0 {
		t.Error("something was given")
	}
}
