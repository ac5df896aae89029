package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// ofGroups has a model for the people of one group alone.
func ofGroups(c *gateenv.Config) { c.Models = contract.Models{"m": {"research"}} }

// refusingML starts an ml that refuses everything, and returns its URL and the value of the last
// header Authorization.
func refusingML(t *testing.T) (url string, authorization *atomic.Value) {
	t.Helper()
	authorization = &atomic.Value{}
	ml := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization.Store(r.Header.Get("Authorization"))
		problem.Write(w, r,
			problem.Typed(mlapi.TypeModelRefused, http.StatusForbidden, "Not yours."))
	}))

	t.Cleanup(ml.Close)

	return ml.URL, authorization
}

// key makes a key on the page, and returns its secret.
func (v *visitor) key() string {
	v.town.t.Helper()
	_, page := v.post("/account/keys", "name", "editor", "scope", "chat", "days",
		"9")
	secret := regexp.MustCompile(`cck_\w+`).FindString(page)
	if secret == "" {
		v.town.t.Fatalf("no key on %s", page)
	}

	return secret
}

// ask asks a model by a key.
func (town *town) ask(key string) (*http.Response, string) {
	town.t.Helper()
	req, err := http.NewRequestWithContext(town.t.Context(), http.MethodPost,
		town.base+"/v1/chat/completions",
		strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		town.t.Fatal(err)
	}

	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		town.t.Fatal(err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		town.t.Fatal(err)
	}

	return resp, string(body)
}

// TestGroupsOfKeys: ml learns of which groups the owner of a key is now. A key that was made before
// follows a change, and nothing is left of the groups of somebody who is gone.
func TestGroupsOfKeys(t *testing.T) {
	url, authorization := refusingML(t)
	town := newTown(t, auditing, ofGroups, func(c *gateenv.Config) { c.MLServiceURL = url })
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	key := v.key()
	for _, groups := range []string{"", "research golf", "golf", ""} {
		if groups != "" {
			town.user("groups ada " + groups)
		} else {
			town.user("groups ada")
		}

		resp, body := town.ask(key)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "model_not_found") ||
			!strings.Contains(body, "Not yours.") {
			t.Fatalf("%s %s", resp.Status, body)
		}

		p, ok := identity.Peek(authorization.Load().(string))
		if !ok || !slices.Equal(p.Groups, strings.Fields(groups)) {
			t.Errorf("of %q: ml is told %q", groups, p.Groups)
		}
	}

	if _, acts := town.records(); !slices.Contains(acts, "answer refused") {
		t.Errorf("recorded are %q", acts)
	}

	town.user("groups ada research")
	town.user("remove ada")
	if left := town.redis.Client(t).Keys(t.Context(), "gate:groups:*").Val(); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

// TestGroupsTakenMeanwhile: groups that are taken from somebody who signs in at that moment do not
// come back for the keys.
func TestGroupsTakenMeanwhile(t *testing.T) {
	url, authorization := refusingML(t)
	changes := []func(*gateenv.Config){auditing, ofGroups, func(c *gateenv.Config) {
		c.MLServiceURL, c.SignIn = url, gateenv.Accounts
	}}
	town := newTown(t, changes...)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	key := v.key()
	town.user("groups ada research")

	for line, want := range map[string][]string{"groups ada golf": {"golf"}, "groups ada": nil} {
		town.user("groups ada research")
		late := *town
		late.base, _, _ = start(t, redistest.Before(t, town.redis, "gate:groups:", func() {
			town.user(line)
		}), town.frontend.URL, changes...)
		if status := late.visitor("192.0.2.2").signIn("ada", password); status != 503 {
			t.Errorf("%s: the sign-in is answered with %d", line, status)
		}

		town.ask(key)
		p, _ := identity.Peek(authorization.Load().(string))
		if !slices.Equal(p.Groups, want) {
			t.Errorf("%s: the key has %q", line, p.Groups)
		}
	}
}

// TestProvidedGroups: a group that lets nobody in counts for the page and for keys, as it
// was at the last sign-in.
func TestProvidedGroups(t *testing.T) {
	url, authorization := refusingML(t)
	town, p := newProvided(t, false, func(c *gateenv.Config) { c.MLServiceURL = url }, ofGroups)
	var key string
	for _, groups := range [][]string{
		{"maintainers", "research", "team"}, {"maintainers", "team"},
	} {
		person := ada
		person.Claims = map[string]any{"groups": append([]string{"golf"}, groups...)}
		p.SignIn(person)
		v := town.visitor("192.0.2.1")
		v.through("/")
		if key == "" {
			key = v.key()
		}

		onPage, _ := identity.Peek(town.frontend.last(t).Header.Get("Authorization"))
		town.ask(key)
		byKey, _ := identity.Peek(authorization.Load().(string))
		if !slices.Equal(onPage.Groups, groups) || !slices.Equal(byKey.Groups, groups) {
			t.Errorf("of %q: the page has %q, the key %q", groups, onPage.Groups, byKey.Groups)
		}
	}
}
