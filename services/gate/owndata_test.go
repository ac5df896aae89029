package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// erased returns the ids of the people in whose names conversations were deleted.
func (town *town) erased() (ids []string) {
	town.t.Helper()
	town.frontend.mu.Lock()
	defer town.frontend.mu.Unlock()
	for _, r := range town.frontend.requests {
		p, ok := identity.Peek(r.Header.Get("Authorization"))
		if r.Method == http.MethodDelete && r.URL.Path == "/api/conversations" && ok {
			ids = append(ids, p.ID)
		}
	}

	return ids
}

// withdrew returns the people all of whose submissions were taken back.
func (town *town) withdrew() (people []identity.Person) {
	town.t.Helper()
	town.frontend.mu.Lock()
	defer town.frontend.mu.Unlock()
	for _, r := range town.frontend.requests {
		p, ok := identity.Peek(r.Header.Get("Authorization"))
		if r.Method == http.MethodDelete && r.URL.Path == "/api/submissions" && ok {
			people = append(people, p)
		}
	}

	return people
}

// TestRemoveWithdraws holds that what a person has handed over goes with the account, whoever
// removes it. While it cannot, the account is kept, closed, to be removed again.
func TestRemoveWithdraws(t *testing.T) {
	town := newTown(t)
	boss, ada, bob := town.visitor("192.0.2.1"), town.visitor("192.0.2.2"), town.visitor("192.0.2.3")
	boss.join("boss", town.code("invite boss --admin"))
	var want []identity.Person
	for name, v := range map[string]*visitor{"ada": ada, "bob": bob} {
		v.join(name, town.code("invite "+name))
		v.signedIn()
		by := identity.Gate
		if name == "bob" {
			by = commands
		}
		want = append(want, identity.Person{ID: town.person().ID, By: by})
	}

	town.frontend.refuses.Store(true)
	err := run(t.Context(), []string{"user", "remove", "bob"}, town.env, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "take back what was handed over") {
		t.Errorf("while the backend refuses: %v", err)
	}
	if bob.signedIn() {
		t.Error("bob is still signed in")
	}

	town.frontend.refuses.Store(false)
	before := len(town.withdrew())
	town.user("remove bob")
	boss.post("/account/users", "act", "remove", "name", "ada")
	got := town.withdrew()[before:]
	byID := cmpopts.SortSlices(func(a, b identity.Person) bool { return a.ID < b.ID })
	if diff := cmp.Diff(want, got, byID); diff != "" {
		t.Error(diff)
	}
	if out := town.user("list"); strings.Contains(out, "ada") || strings.Contains(out, "bob") {
		t.Errorf("an account is left: %s", out)
	}
}

// TestExportOwn downloads what the gate knows of a person, in both formats.
func TestExportOwn(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	v.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")
	v.signedIn()
	uses(t, town.redis, town.person().ID, 1, 2, 30, 40)

	resp, body := v.get("/account/data/export?format=json")
	var got struct {
		owndata.Summary
		Conversations []any `json:"conversations"`
	}

	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, body)
	}

	a := got.Account
	if a.Name != "ada" || a.Issuer != "accounts" || a.Subject == "" || a.Admin ||
		len(got.Sessions) != 1 || got.Sessions[0].Address != "192.0.2.1" || len(got.Keys) != 1 ||
		got.Keys[0].Name != "editor" || got.Conversations == nil {
		t.Errorf("%+v", got)
	}

	want := usage.Used{Questions: 2, PromptTokens: 30, Tokens: 40}
	if len(got.Usage) != 1 || got.Usage[0].Used != want {
		t.Errorf("used: %+v", got.Usage)
	}

	if resp.Header.Get("Content-Disposition") != `attachment; filename="codexcontinue.json"` ||
		resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", resp.Header)
	}

	if resp, _ := v.get("/account/data/export?format=markdown"); resp.StatusCode != http.StatusOK ||
		resp.Header.Get("Content-Type") != "application/zip" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}

	if id := town.person().ID; len(id) != 26 {
		t.Errorf("asked in the name of %q", id)
	}

	if resp, _ := v.get("/account/data/export?format=pdf"); resp.StatusCode != 400 {
		t.Errorf("another format: %s", resp.Status)
	}

	stranger := town.visitor("192.0.2.2")
	if resp, _ := stranger.get("/account/data/export?format=json"); resp.StatusCode != 303 {
		t.Errorf("a stranger: %s", resp.Status)
	}
}

// TestEraseAccount erases a person with an account, for whom nothing is left.
func TestEraseAccount(t *testing.T) {
	town := newTown(t)
	r := town.redis.Client(t)
	before := r.DBSize(t.Context()).Val()
	boss, v := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	boss.join("boss", town.code("invite boss --admin"))
	with := redistest.Find(t, r, "")
	v.join("ada", town.code("invite ada"))
	other := town.visitor("192.0.2.3")
	other.signIn("ada", password)
	v.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")
	town.code("reset ada")
	v.signedIn()
	id := town.person().ID

	// A wrong password, a foreign site, and a backend that is away leave all as it is.
	for what, tt := range map[string]struct {
		refuses bool
		header  []string
		fields  []string
		status  int
	}{
		"no password":    {false, nil, []string{"current", ""}, 422},
		"wrong password": {false, nil, []string{"current", "wrong"}, 422},
		"another site": {
			false, []string{"Sec-Fetch-Site", "cross-site"}, []string{"current", password}, 403,
		},
		"no backend": {true, nil, []string{"current", password}, 503},
	} {
		town.frontend.refuses.Store(tt.refuses)
		if resp, body := v.do(http.MethodPost, "/account/data", form(tt.fields...),
			tt.header...); resp.StatusCode != tt.status {
			t.Errorf("%s: %s %s", what, resp.Status, body)
		}
	}

	town.frontend.refuses.Store(false)
	if !v.signedIn() || !other.signedIn() {
		t.Fatal("signed out, and nothing was erased")
	}
	if got := town.visitor("192.0.2.4").signIn("ada", password); got != 303 {
		t.Fatalf("the account is closed, and nothing was erased: %d", got)
	}

	resp, body := v.post("/account/data", "current", password)
	if resp.StatusCode != 200 || !strings.Contains(body, "Everything has been erased") ||
		cookie(v) != "" {
		t.Fatalf("%s %s", resp.Status, body)
	}

	if ids := town.erased(); !slices.Equal(ids[len(ids)-1:], []string{id}) {
		t.Errorf("conversations were deleted of %q", ids)
	}
	if v.signedIn() || other.signedIn() || v.signIn("ada", password) != 422 {
		t.Error("the account is still good")
	}

	// Only that something was erased is left, for a while. A random text may have the name in it, but
	// not as a JSON value or a field.
	mark := usage.Key(id)
	for _, key := range redistest.Find(t, r, id, `"ada"`, "ada:{") {
		if key != mark {
			t.Errorf("left: %s", key)
		}
	}
	if left := r.TTL(t.Context(), mark).Val(); left <= 0 || left > usage.ErasedMark {
		t.Errorf("the mark is left for %s", left)
	}

	// Attempts are counted for a while, without names; the wrong ones above are among them.
	after := slices.DeleteFunc(redistest.Find(t, r, ""), func(key string) bool {
		return key == mark || strings.HasPrefix(key, "gate:attempts:") ||
			strings.HasPrefix(key, "gate:pause:")
	})
	with = slices.DeleteFunc(with, func(key string) bool {
		return strings.HasPrefix(key, "gate:attempts:") || strings.HasPrefix(key, "gate:pause:")
	})
	if d := cmp.Diff(with, after); d != "" {
		t.Errorf("keys of %d at first (-before +after):\n%s", before, d)
	}
}

// TestEraseCommand erases people by the command, the last admin only after another one is there.
func TestEraseCommand(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada --admin"))
	refused := func(line, want string, env []string) {
		t.Helper()
		args := append([]string{"user"}, strings.Fields(line)...)
		err := run(t.Context(), args, env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %s: %v, want %q", line, err, want)
		}
	}

	refused("erase ada", "ada: nothing was erased: this is the last admin's account", town.env)
	refused("erase bob", "there is no account", town.env)
	refused("erase ada bob", "usage: gate user erase", town.env)
	refused("erase --yes", "usage: gate user erase", town.env)
	refused("erase", "usage: gate user erase", town.env)
	refused("erase ada", "nobody has an account",
		environ(t, ":1", town.redis.URL, town.frontend.URL))
	if !v.signedIn() {
		t.Error("a refused erasure signs out")
	}

	town.visitor("192.0.2.2").join("bob", town.code("invite bob --admin"))
	town.frontend.refuses.Store(true)
	refused("erase Ada", "Not now", town.env)
	town.frontend.refuses.Store(false)
	if out := town.user("erase account:Ada"); !strings.Contains(out, "Ada has been erased") {
		t.Error(out)
	}
	if v.signedIn() || strings.Contains(town.user("list"), "ada") {
		t.Error("ada is still there")
	}

	// An invitation is all that there is of some.
	town.code("invite eve")
	town.user("erase eve")
	if strings.Contains(town.user("list"), "eve") {
		t.Error("eve is still invited")
	}
}

// TestEraseProvided erases people whom a provider signs in: by the page, where they type their
// name, and by the command, which takes the subject.
func TestEraseProvided(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	v := town.visitor("192.0.2.1")
	v.through("/")
	id := town.person().ID
	for _, name := range []string{"", "ada", "Ada"} {
		if resp, _ := v.post("/account/data", "name", name); resp.StatusCode != 422 {
			t.Errorf("%q: %s", name, resp.Status)
		}
	}

	if resp, body := v.post("/account/data", "name", " Ada Lovelace "); resp.StatusCode != 200 {
		t.Fatalf("%s %s", resp.Status, body)
	}

	r := town.redis.Client(t)
	if left := redistest.Find(t, r, id, "Lovelace", "session-1", "gate:sids"); v.signedIn() ||
		len(left) != 1 || left[0] != usage.Key(id) {
		t.Errorf("left: %q", left)
	}

	v.through("/")
	if !v.signedIn() || town.person().ID != id {
		t.Fatal("does not sign in again")
	}

	env := environ(t, ":1", town.redis.URL, town.frontend.URL, func(c *gateenv.Config) {
		c.SignIn, c.PublicURL = gateenv.OIDC, town.base
		c.Provider = gateenv.Provider{Issuer: p.Issuer, ClientID: "c", GroupsClaim: "groups",
			Everybody: true}
	})

	const former = "https://former.example.com#ada"
	var out bytes.Buffer
	for _, tt := range []struct {
		line string
		full bool
		want string
	}{
		{"erase " + former, false, "nothing is stored of " + former},
		{"move " + former + " ada", false, "nothing is stored of " + former},
		{"move ada " + former, false, former + ": let them sign in first"},
		{"erase " + former, true, ""},
		{"erase ada", false, ""},
		{"erase ada", false, "nothing is stored of ada"},
	} {
		if tt.line == "erase ada" && tt.want == "" && !v.signedIn() {
			t.Error("somebody else's erasure signs out")
		}

		town.frontend.full.Store(tt.full)
		args := append([]string{"user"}, strings.Fields(tt.line)...)
		err := run(t.Context(), args, env, &out, io.Discard)
		if tt.want == "" && err != nil ||
			tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("user %s: %v, want %q", tt.line, err, tt.want)
		}
	}

	ids := town.erased()
	if v.signedIn() || len(ids) != 3 || ids[0] != id || ids[1] == id || ids[2] != id {
		t.Errorf("%q were erased: %s", ids, &out)
	}
}

// TestEraseUnasked checks that an erasure goes on when the browser has gone.
func TestEraseUnasked(t *testing.T) {
	town := newTown(t)
	town.visitor("192.0.2.1").join("boss", town.code("invite boss --admin"))
	v := town.visitor("192.0.2.2")
	v.join("ada", town.code("invite ada"))
	town.frontend.refuses.Store(true) // the gate asks again
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, town.base+"/account/data",
		strings.NewReader(form("current", password).Encode()))
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	town.frontend.mu.Lock() // the frontend answers nothing before the browser has gone
	before := town.frontend.asked.Load()
	go func() { // the browser goes when the erasure has begun
		for ctx.Err() == nil && town.frontend.asked.Load() == before {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	resp, err := v.client.Do(req)
	town.frontend.refuses.Store(false)
	town.frontend.mu.Unlock()
	if err == nil {
		resp.Body.Close()
		t.Fatal("it is done before the browser has gone")
	}

	for deadline := time.Now().Add(20 * time.Second); strings.Contains(town.user("list"), "ada"); {
		if time.Now().After(deadline) {
			t.Fatal("the erasure does not go on")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestHandedOverIsStored holds that somebody of a provider of whom nothing is left but what they
// handed over, which is kept for longer than conversations, can be read, moved and erased.
func TestHandedOverIsStored(t *testing.T) {
	town, p := newProvided(t, false, auditing)
	p.SignIn(ada)
	town.visitor("192.0.2.1").through("/")
	town.env = environ(t, ":1", town.redis.URL, town.frontend.URL, auditing,
		func(c *gateenv.Config) {
			c.SignIn, c.PublicURL = gateenv.OIDC, town.base
			c.Provider = gateenv.Provider{Issuer: p.Issuer, ClientID: "c", GroupsClaim: "groups",
				Everybody: true}
		})
	erase := []string{"user", "erase", "gone"}
	err := run(t.Context(), erase, town.env, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "nothing is stored of gone") {
		t.Errorf("of nobody: %v", err)
	}

	town.frontend.handed.Store(true)
	if out, err := town.read("carol", "gone", "case 4711"); err != nil ||
		!strings.Contains(out, `"subject": "gone"`) {
		t.Errorf("read: %v %s", err, out)
	}
	for _, line := range []string{"move gone " + ada.Subject, "erase gone"} {
		town.user(line)
	}
}

// TestMoveCommand gives one person's conversations to another one, with a token of each, signs both
// out, and revokes the keys of the first one.
func TestMoveCommand(t *testing.T) {
	town := newTown(t)
	v, other := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	v.join("ada", town.code("invite ada"))
	v.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")
	v.signedIn()
	id := town.person().ID
	other.join("bob", town.code("invite bob"))
	other.signedIn()
	to := town.person().ID

	for line, want := range map[string]string{
		"move ada":              "usage: gate user erase",
		"move ada bob eve":      "usage: gate user erase",
		"move ada eve":          "eve: there is no account",
		"move ada account:Ada":  "are the same person",
		"move ada --yes":        "usage: gate user erase",
		"move eve https://x#me": "eve: there is no account",
	} {
		args := append([]string{"user"}, strings.Fields(line)...)
		err := run(t.Context(), args, town.env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %s: %v, want %q", line, err, want)
		}
	}

	if !v.signedIn() || !other.signedIn() {
		t.Fatal("a refused move signs out")
	}

	if out := town.user("move ada bob"); !strings.Contains(out, "the keys of ada are revoked") {
		t.Error(out)
	}

	// The frontend is asked in the name of who gets them.
	if r := town.frontend.last(t); r.URL.Path != "/api/conversations/take" ||
		town.person().ID != to {
		t.Errorf("%s in the name of %s", r.URL.Path, town.person().ID)
	}

	if v.signedIn() || other.signedIn() {
		t.Error("somebody is still signed in")
	}

	r := town.redis.Client(t)
	if left := redistest.Find(t, r, "editor", "gate:keys:"+id); len(left) > 0 {
		t.Errorf("the keys are left: %q", left)
	}

	err := run(t.Context(), []string{"user", "move", "ada", "bob"}, town.env, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "nothing is stored of ada") {
		t.Errorf("with nothing to move: %v", err)
	}

	// Both can sign in again, and nothing is lost by a second time.
	town.frontend.full.Store(true)
	town.user("move ada bob")
	if v.signIn("ada", password) != 303 || other.signIn("bob", password) != 303 {
		t.Error("somebody cannot sign in")
	}
}

// TestEraseByPageOnly holds that a browser cannot delete or take all conversations without the page
// that asks for the password.
func TestEraseByPageOnly(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	v.signedIn()
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{http.MethodDelete, "/api/conversations", 403},
		{http.MethodDelete, "/api/%63onversations?x=y", 403},
		{http.MethodPost, "/api/conversations/take", 403},
		{http.MethodDelete, "/api/submissions", 403},
		{http.MethodDelete, "/api/submissions/1", 200},
		{http.MethodPost, "/api/conversations", 200},
		{http.MethodGet, "/api/conversations", 200},
		{http.MethodDelete, "/api/conversations/1", 200},
	} {
		resp, body := v.do(tt.method, tt.path, nil, "Accept", "application/json")
		last := town.frontend.last(t)
		passed := last.Method == tt.method && last.URL.EscapedPath() == tt.path
		if resp.StatusCode != tt.status || passed != (tt.status == 200) ||
			!passed && !strings.Contains(body, "/account/data") {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, resp.Status, body)
		}
	}

	stranger := town.visitor("192.0.2.2")
	if resp, _ := stranger.do(http.MethodDelete, "/api/conversations", nil); resp.StatusCode != 401 {
		t.Errorf("a stranger: %s", resp.Status)
	}
}
