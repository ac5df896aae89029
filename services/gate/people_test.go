package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// town is a gate whose people have accounts, and a frontend.
type town struct {
	t        *testing.T
	redis    *redistest.Server
	base     string
	frontend *frontend
	stop     func() error
	log      *bytes.Buffer
	env      []string
}

func newTown(t *testing.T, changes ...func(*gateenv.Config)) *town {
	t.Helper()
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	changes = slices.Insert(changes, 0, func(c *gateenv.Config) { c.SignIn = gateenv.Accounts })
	base, stop, log := start(t, r.URL, f.URL, changes...)
	return &town{t, r, base, f, stop, log, environ(t, ":1", r.URL, f.URL, changes...)}
}

// user runs `gate user` with the words, and returns what it says.
func (town *town) user(line string) string {
	town.t.Helper()
	var out bytes.Buffer
	args := append([]string{"user", "--at=http://localhost:8080"}, strings.Fields(line)...)
	if err := run(town.t.Context(), args, town.env, &out, io.Discard); err != nil {
		town.t.Fatalf("gate user %s: %v", line, err)
	}
	return out.String()
}

var codePattern = regexp.MustCompile(`[A-Z2-7]{26}`)

// code returns the code that the command makes.
func (town *town) code(line string) string {
	town.t.Helper()
	code := codePattern.FindString(town.user(line))
	if code == "" {
		town.t.Fatalf("gate user %s gives no code", line)
	}
	return code
}

// visitor is a browser at an address.
type visitor struct {
	town    *town
	client  *http.Client
	address string
}

func (town *town) visitor(address string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		town.t.Fatal(err)
	}

	return &visitor{town, &http.Client{
		Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}, address}
}

// do sends a request of the browser. Pairs of further headers may follow.
func (v *visitor) do(
	method, path string, form url.Values, header ...string,
) (resp *http.Response, body string) {
	v.town.t.Helper()
	req, err := http.NewRequestWithContext(v.town.t.Context(), method, v.town.base+path,
		strings.NewReader(form.Encode()))
	if err != nil {
		v.town.t.Fatal(err)
	}

	req.Header.Set("Accept", "text/html,*/*")
	req.Header.Set("X-Forwarded-For", v.address)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}

	resp, err = v.client.Do(req)
	if err != nil {
		v.town.t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.town.t.Fatal(err)
	}

	return resp, string(b)
}

func (v *visitor) get(path string, header ...string) (resp *http.Response, body string) {
	v.town.t.Helper()
	return v.do(http.MethodGet, path, nil, header...)
}

// post sends a form: pairs of a field's name and its value.
func (v *visitor) post(path string, fields ...string) (resp *http.Response, body string) {
	v.town.t.Helper()
	return v.do(http.MethodPost, path, form(fields...))
}

func form(fields ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		f.Set(fields[i], fields[i+1])
	}
	return f
}

const password = "a horse of another colour"

// join takes an invitation.
func (v *visitor) join(name, code string) {
	v.town.t.Helper()
	resp, body := v.post("/invitation", "name", name, "code", code, "password", password,
		"again", password)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		v.town.t.Fatalf("invitation: %s %s", resp.Status, body)
	}
}

// signIn signs in and returns the status.
func (v *visitor) signIn(name, password string) int {
	v.town.t.Helper()
	resp, _ := v.post("/sign-in", "name", name, "password", password)
	return resp.StatusCode
}

// signedIn reports whether the browser gets to the frontend.
func (v *visitor) signedIn() bool {
	v.town.t.Helper()
	resp, body := v.get("/")
	return resp.StatusCode == http.StatusOK && body == "the page"
}

// person returns the person for whom the last request came to the frontend.
func (town *town) person() identity.Person {
	town.t.Helper()
	p, ok := identity.Peek(town.frontend.last(town.t).Header.Get("Authorization"))
	if !ok {
		town.t.Fatal("no token")
	}
	return p
}

// TestPeople goes the way of the first admin, who invites another person.
func TestPeople(t *testing.T) {
	town := newTown(t)
	first := town.visitor("192.0.2.1")
	resp, _ := first.get("/c/1?x=y")
	if l := resp.Header.Get("Location"); resp.StatusCode != 303 ||
		l != "/sign-in?back=%2Fc%2F1%3Fx%3Dy" {
		t.Errorf("a page without sign-in: %s to %s", resp.Status, l)
	}

	if resp, body := first.get("/invitation"); resp.StatusCode != 200 ||
		!strings.Contains(body, `name="code"`) {
		t.Errorf("the page of an invitation: %s %s", resp.Status, body)
	}

	if resp, body := first.get("/static/gate/app.css"); resp.StatusCode != 200 ||
		body != "the page" ||
		town.person().ID != "" {
		t.Errorf("the stylesheet: %s %s", resp.Status, body)
	}

	first.join("ada", strings.ToLower(town.code("invite ada --admin")))
	if !first.signedIn() {
		t.Fatal("not signed in after the invitation")
	}

	ada := town.person()
	if ada.Name != "ada" || !ada.Admin || len(ada.ID) != 26 {
		t.Errorf("%+v", ada)
	}

	// An admin invites on the page.
	_, body := first.post("/account/users", "act", "invite", "name", "Bob")
	code := codePattern.FindString(body)
	second := town.visitor("192.0.2.2")
	second.join("bob", code)
	if !second.signedIn() || town.person().ID == ada.ID || town.person().Admin {
		t.Errorf("%+v", town.person())
	}
	if _, body := first.get("/account/users"); strings.Contains(body, code) {
		t.Error("the code is shown again")
	}

	// Groups come with the next sign-in, as all rights do.
	town.user("groups bob math")
	if second.signedIn() {
		t.Error("the session goes on with other rights")
	}

	if second.signIn("bob", password); !second.signedIn() ||
		!slices.Equal(town.person().Groups, []string{"math"}) {
		t.Errorf("%+v", town.person())
	}

	first.post("/account/users", "act", "admin", "name", "bob")
	if second.signIn("bob", password); !second.signedIn() || !town.person().Admin {
		t.Errorf("%+v", town.person())
	}

	// A new password ends all other sessions and changes the token of this one.
	third := town.visitor("192.0.2.3")
	third.signIn("bob", password)
	before := cookie(second)
	const other = "another password, longer"
	for _, fields := range [][]string{
		{"current", "wrong", "password", other, "again", other},
		{"current", password, "password", other, "again", "different"},
		{"current", password, "password", "short", "again", "short"},
	} {
		if resp, _ := second.post("/account/password", fields...); resp.StatusCode != 422 {
			t.Errorf("%q: %s", fields, resp.Status)
		}
	}

	resp, body = second.post("/account/password", "current", password, "password", other,
		"again", other)
	if resp.StatusCode != 200 || !strings.Contains(body, "has been changed") {
		t.Fatalf("%s %s", resp.Status, body)
	}
	if !second.signedIn() || third.signedIn() || cookie(second) == before {
		t.Error("sessions after a new password")
	}
	if got := third.signIn("bob", password); got != 422 {
		t.Errorf("the old password: %d", got)
	}

	// A reset keeps the person.
	second.signedIn()
	bob := town.person().ID
	third.join("bob", town.code("reset bob"))
	if second.signedIn() || !third.signedIn() || town.person().ID != bob {
		t.Error("after a reset")
	}

	// Whoever has the name of somebody who is gone is somebody else.
	first.post("/account/users", "act", "remove", "name", "bob")
	if third.signedIn() || third.signIn("bob", password) != 422 {
		t.Error("a removed account is still good")
	}

	third.join("bob", town.code("invite bob"))
	if !third.signedIn() || town.person().ID == bob {
		t.Error("a new person has the former one's conversations")
	}
	if out := town.user("list"); !strings.Contains(out, "ada") || !strings.Contains(out, "admin") {
		t.Errorf("list: %s", out)
	}

	_ = town.stop()
	for _, secret := range []string{password, other, code, before} {
		if strings.Contains(town.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// cookie returns the token of the visitor's session.
func cookie(v *visitor) string {
	u, _ := url.Parse(v.town.base)
	for _, c := range v.client.Jar.Cookies(u) {
		if c.Name == "codexcontinue_session" {
			return c.Value
		}
	}
	return ""
}

// TestSignOut checks sign-out here, of one other browser, and everywhere.
func TestSignOut(t *testing.T) {
	town := newTown(t)
	here := town.visitor("192.0.2.1")
	here.join("ada", town.code("invite ada"))
	var others []*visitor
	for i := range 3 {
		v := town.visitor(fmt.Sprintf("192.0.2.%d", 10+i))
		v.signIn("ada", password)
		others = append(others, v)
	}

	_, body := here.get("/account/sessions")
	refs := regexp.MustCompile(`value="([\w-]{43})"`).FindAllStringSubmatch(body, -1)
	if len(refs) != 4 || strings.Contains(body, cookie(here)) {
		t.Fatalf("the page with the sessions: %s", body)
	}

	for _, address := range []string{"192.0.2.1", "192.0.2.10", "192.0.2.12"} {
		if !strings.Contains(body, address) {
			t.Errorf("no session from %s", address)
		}
	}

	// The one that is seen last comes first.
	if resp, _ := others[0].post("/sign-out"); resp.Header.Get("Location") != "/sign-in" {
		t.Errorf("sign out: %s", resp.Status)
	}
	if others[0].signedIn() || !others[1].signedIn() {
		t.Error("after a sign-out")
	}

	token := cookie(others[1])
	if resp, _ := here.post("/account/sessions", "end", refs[1][1]); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}

	stream, err := here.client.Do(streamRequest(t, here))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()

	here.post("/account/sessions", "end", "everywhere")
	for _, v := range append(others, here) {
		if v.signedIn() {
			t.Errorf("%s is signed in after sign-out everywhere", v.address)
		}
	}

	if resp, _ := town.visitor("192.0.2.9").get("/", "Accept", "application/json", "Cookie",
		"codexcontinue_session="+token); resp.StatusCode != 401 {
		t.Errorf("a token from before: %s", resp.Status)
	}

	begin := time.Now()
	if rest, err := io.ReadAll(stream.Body); err != nil ||
		!strings.HasSuffix(string(rest), "\n\n") {
		t.Errorf("the stream: %q, %v", rest, err)
	}

	if took := time.Since(begin); took > streamEnds {
		t.Errorf("the stream ended %s after the session", took)
	}
}

func streamRequest(t *testing.T, v *visitor) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		v.town.base+"/generations/1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// streamEnds bounds the time from a session's end to that of its streams, on a busy machine. That
// they end within five seconds TestWatch of package session holds, by a clock of its own.
const streamEnds = 20 * time.Second

// TestIdleStream checks that a stream keeps no session alive, and ends with it.
func TestIdleStream(t *testing.T) {
	const idle = 5 * time.Second // longer than a busy machine takes from a sign-in to a stream
	town := newTown(t, func(c *gateenv.Config) { c.SessionIdle = idle })
	v := town.visitor("192.0.2.1")
	code := town.code("invite ada")
	begin := time.Now()
	v.join("ada", code)
	stream, err := v.client.Do(streamRequest(t, v))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()

	if _, err := io.ReadAll(stream.Body); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < idle-100*time.Millisecond || took > idle+streamEnds {
		t.Errorf("the stream ended %s after the sign-in began", took)
	}

	resp, body := v.get("/generations/1/events", "Accept", "text/event-stream")
	var p problem.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 401 ||
		p.Type != problem.TypeSignIn {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// TestAttacks goes through what people try who should not come in, or not so far.
func TestAttacks(t *testing.T) {
	town := newTown(t)
	admin, member := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	used := town.code("invite ada --admin")
	admin.join("ada", used)
	member.join("bob", town.code("invite bob"))
	member.signedIn()
	bob := town.person()
	stranger := func() *visitor { return town.visitor("198.51.100.1") }
	replaced := town.code("invite carol")
	fresh := town.code("invite carol")
	join := func(name, code, password string) *http.Response {
		resp, _ := stranger().post("/invitation", "name", name, "code", code, "password", password,
			"again", password)
		return resp
	}

	for name, tt := range map[string]struct {
		attack func() *http.Response
		want   int
	}{
		"a question of nobody": {func() *http.Response {
			resp, _ := stranger().post("/chat", "message", "hello")
			return resp
		}, 401},
		"a part of a page of nobody": {func() *http.Response {
			resp, _ := stranger().get("/fragments/sidebar", "Accept", "text/html")
			return resp
		}, 401},
		"a script's request of nobody": {func() *http.Response {
			resp, _ := stranger().get("/c/1", "Sec-Fetch-Dest", "empty")
			return resp
		}, 401},
		"a foreign owner's header of nobody": {func() *http.Response {
			resp, _ := stranger().get("/api/conversations", "Accept", "application/json",
				"X-Codexcontinue-Owner", bob.ID, "Authorization", "Bearer x")
			return resp
		}, 401},
		"a forged cookie": {func() *http.Response {
			resp, _ := stranger().get("/api/conversations", "Accept", "application/json",
				"Cookie", "codexcontinue_session="+strings.Repeat("A", 43))
			return resp
		}, 401},
		"the cookie of TLS over plain HTTP": {func() *http.Response {
			resp, _ := stranger().get("/api/conversations", "Accept", "application/json",
				"Cookie", "__Host-codexcontinue_session="+cookie(member))
			return resp
		}, 401},
		"a form of another site": {func() *http.Response {
			resp, _ := member.do(http.MethodPost, "/sign-out", form(),
				"Origin", "https://evil.example")
			return resp
		}, 403},
		"a form of another site, which says so": {func() *http.Response {
			resp, _ := member.do(http.MethodPost, "/chat", form(), "Sec-Fetch-Site", "cross-site")
			return resp
		}, 403},
		"a sign-in by another site": {func() *http.Response {
			resp, _ := stranger().do(http.MethodPost, "/sign-in",
				form("name", "ada", "password", password), "Sec-Fetch-Site", "same-site")
			return resp
		}, 403},
		"what a browser had, of nobody": {func() *http.Response {
			resp, _ := stranger().post("/account/data/browser", "act", "take")
			return resp
		}, 401},
		"what a browser had, by another site": {func() *http.Response {
			resp, _ := member.do(http.MethodPost, "/account/data/browser", form("act", "take"),
				"Origin", "https://evil.example")
			return resp
		}, 403},
		"what a browser had, with an invented cookie": {func() *http.Response {
			resp, _ := member.do(http.MethodPost, "/account/data/browser", form("act", "take"),
				"Cookie", "codexcontinue_browser="+strings.Repeat("A", 26))
			return resp
		}, 404},
		"a member at the admins' page": {func() *http.Response {
			resp, _ := member.get("/account/users")
			return resp
		}, 403},
		"a member who makes an admin": {func() *http.Response {
			resp, _ := member.post("/account/users", "act", "admin", "name", "bob")
			return resp
		}, 403},
		"an admin who leaves none": {func() *http.Response {
			resp, _ := admin.post("/account/users", "act", "member", "name", "ada")
			return resp
		}, 422},
		"an invitation used twice": {func() *http.Response {
			return join("ada", used, password)
		}, 422},
		"an invitation that another one replaced": {func() *http.Response {
			return join("carol", replaced, password)
		}, 422},
		"an invitation of another person": {func() *http.Response {
			return join("dave", fresh, password)
		}, 422},
		"no password": {func() *http.Response { return join("carol", fresh, "") }, 422},
		"a short password": {func() *http.Response {
			return join("carol", fresh, "elevenchars")
		}, 422},
		"a long password": {func() *http.Response {
			return join("carol", fresh, strings.Repeat("a", 129))
		}, 422},
		"a common password": {func() *http.Response {
			return join("carol", fresh, "Password 123456")
		}, 422},
		"a large form": {func() *http.Response {
			resp, _ := stranger().post("/sign-in", "name", strings.Repeat("a", 20000))
			return resp
		}, 413},
		"a large form of sessions": {func() *http.Response {
			resp, _ := member.post("/account/sessions", "x", strings.Repeat("a", 20000),
				"end", "other")
			return resp
		}, 413},
		"sessions that a link ends": {func() *http.Response {
			resp, _ := member.do(http.MethodPost, "/account/sessions?end=everywhere", form())
			return resp
		}, 400},
		"a form that is none": {func() *http.Response {
			resp, _ := stranger().do(http.MethodPost, "/sign-in?x=%zz", form("name", "a"))
			return resp
		}, 400},
		"sign-out by a link": {func() *http.Response {
			resp, _ := member.get("/sign-out")
			return resp
		}, 200}, // it is the frontend's to answer
	} {
		if resp := tt.attack(); resp.StatusCode != tt.want || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s, cookie %q, want %d", name, resp.Status,
				resp.Header.Get("Set-Cookie"), tt.want)
		}
	}

	if !admin.signedIn() || !member.signedIn() || town.person().Admin {
		t.Error("an attack has changed something")
	}

	// The person is that of the session, whatever the request says.
	member.get("/c/1", "X-Codexcontinue-Owner", "OTHER", "Authorization", "Bearer OTHER")
	if got := town.frontend.last(t); town.person().ID != bob.ID ||
		got.Header.Get("X-Codexcontinue-Owner") != "" || got.Header.Get("Cookie") != "" {
		t.Errorf("headers %v", got.Header)
	}

	for _, back := range []string{"https://evil.example", "//evil.example", `/\evil.example`} {
		v := stranger()
		resp, _ := v.post("/sign-in", "name", "bob", "password", password, "back", back)
		if l := resp.Header.Get("Location"); l != "/" {
			t.Errorf("back to %s: %s to %q", back, resp.Status, l)
		}

		if resp, body := stranger().get("/sign-in?back=" + url.QueryEscape(back)); strings.Contains(
			body, "evil") {
			t.Errorf("the form has %s: %s", back, resp.Status)
		}
	}

	// A session that an attacker planted is not the victim's.
	planted, victim := cookie(member), stranger()
	u, _ := url.Parse(town.base)
	victim.client.Jar.SetCookies(u, []*http.Cookie{{Name: "codexcontinue_session", Value: planted}})
	victim.signIn("ada", password)
	if cookie(victim) == planted || member.signedIn() {
		t.Error("the planted session goes on")
	}
}

// TestExpiredInvitation checks that an invitation is not good for ever.
func TestExpiredInvitation(t *testing.T) {
	town := newTown(t)
	code := town.code("invite ada")
	redis := town.redis.Client(t)
	value, err := redis.HGet(t.Context(), "gate:invitations", "ada").Result()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(value, code) {
		t.Error("the code is in Redis")
	}

	past := regexp.MustCompile(`"Expires":"\d+`).ReplaceAllString(value, `"Expires":"2001`)
	redis.HSet(t.Context(), "gate:invitations", "ada", past)
	resp, _ := town.visitor("192.0.2.1").post("/invitation", "name", "ada", "code", code,
		"password", password, "again", password)
	if resp.StatusCode != 422 {
		t.Errorf("an invitation that is too old: %s", resp.Status)
	}
	if out := town.user("list"); strings.Contains(out, "ada") {
		t.Errorf("it is listed: %s", out)
	}
}

// TestGuessing checks that somebody who guesses is slowed down, and nobody else is.
func TestGuessing(t *testing.T) {
	town := newTown(t)
	known := town.visitor("192.0.2.1")
	known.join("ada", town.code("invite ada"))
	known.post("/sign-out")

	// A thousand sign-ins from one address, twenty at once.
	var refused, guessed, other atomic.Int64
	var guessers sync.WaitGroup
	begin := time.Now()
	for range 20 {
		guessers.Go(func() {
			v := town.visitor("198.51.100.1")
			for i := range 50 {
				switch v.signIn("ada", fmt.Sprintf("wrong password %d", i)) {
				case 429:
					refused.Add(1)
				case 422:
					guessed.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}

	guessers.Wait()
	t.Logf("1,000 in %s: %d refused, %d guessed", time.Since(begin), refused.Load(), guessed.Load())
	if most := max(10, 5+turns(time.Since(begin))); guessed.Load() > most || other.Load() > 0 {
		t.Errorf("%d guesses, not %d, %d other answers", guessed.Load(), most, other.Load())
	}

	// The pause that holds lasts, so that it does not end at this moment.
	redis := town.redis.Client(t)
	for lasts, deadline := false, time.Now().Add(time.Minute); !lasts; {
		if time.Now().After(deadline) {
			t.Fatal("no pause holds")
		}
		for _, key := range redis.Keys(t.Context(), "gate:pause:pair:*").Val() {
			lasts = lasts || redis.Expire(t.Context(), key, time.Minute).Val()
		}
		if !lasts {
			town.visitor("198.51.100.1").signIn("ada", "wrong")
		}
	}

	resp, body := town.visitor("198.51.100.1").post("/sign-in", "name", "ada", "password", password)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(body, "too many attempts") {
		t.Errorf("the right password there: %s", resp.Status)
	}

	if got := town.visitor("203.0.113.1").signIn("ada", password); got != 303 {
		t.Errorf("from another address: %d", got)
	}

	// Somebody who has many addresses has one attempt from each, and then waits for a turn.
	for _, round := range []struct{ least, most int64 }{{120, 120}, {0, 5}} {
		guessed.Store(0)
		for i := range 120 {
			if town.visitor(fmt.Sprintf("203.0.113.%d", i)).signIn("ada", "wrong") == 422 {
				guessed.Add(1)
			}
		}

		if n := guessed.Load(); n < round.least || n > round.most {
			t.Errorf("120 addresses guessed %d times, not %d to %d", n, round.least, round.most)
		}
	}

	// That locks out neither a new device, nor the browser that the account knows, even at the
	// address of a guesser.
	if got := town.visitor("203.0.113.200").signIn("ada", password); got != 303 {
		t.Errorf("on a new device: %d", got)
	}

	known.address = "198.51.100.1"
	if got := known.signIn("ada", password); got != 303 {
		t.Errorf("in a browser that the account knows: %d", got)
	}

	// Nor does that browser guess for ever.
	guessed.Store(0)
	begin = time.Now()
	for range 20 {
		if known.signIn("ada", "wrong") == 422 {
			guessed.Add(1)
		}
	}

	if n, most := guessed.Load(), max(12, 10+turns(time.Since(begin))); n > most {
		t.Errorf("the known browser guessed %d times, not %d", n, most)
	}
}

// turns returns how many attempts can be made in the time after those that are free: one at once,
// and the others after pauses of 2, 4, 8 s and so on.
func turns(in time.Duration) int64 { return int64(math.Log2(in.Seconds() + 2)) }

// TestTiming checks that the answer for a name without an account takes as long, and says the same.
func TestTiming(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	took := map[string][]time.Duration{}
	bodies := map[string]string{}
	for i := range 9 {
		for _, name := range []string{"ada", "eve"} {
			v := town.visitor(fmt.Sprintf("203.0.113.%d", i))
			begin := time.Now()
			resp, body := v.post("/sign-in", "name", name, "password", "wrong")
			took[name] = append(took[name], time.Since(begin))
			bodies[name] = resp.Status + strings.ReplaceAll(body, name, "NAME")
		}
	}

	// A busy machine makes some of them late: the fastest is what each takes.
	fastest := func(name string) float64 { return slices.Min(took[name]).Seconds() }

	// Without the hash of nobody's password the ratio would be far above 10.
	if ratio := fastest("ada") / fastest("eve"); ratio < 0.25 || ratio > 4 {
		t.Errorf("%.1f ms with an account, %.1f without", fastest("ada")*1e3, fastest("eve")*1e3)
	}
	if bodies["ada"] != bodies["eve"] {
		t.Errorf("with an account:\n%s\nwithout:\n%s", bodies["ada"], bodies["eve"])
	}
}

// TestPublicStatus checks that anybody can see whether the stack is up, and nothing more.
func TestPublicStatus(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	resp, body := v.get("/api/status", "Accept", "application/json")
	if resp.StatusCode != 200 || !strings.Contains(body, `"status":"ready"`) ||
		!strings.Contains(body, `"redis"`) || strings.Contains(body, "10.0.0.7") {
		t.Errorf("%s %s", resp.Status, body)
	}

	if town.person().ID != "" {
		t.Errorf("asked for in the name of %+v", town.person())
	}

	v.join("ada", town.code("invite ada"))
	if _, body := v.get("/api/status"); !strings.Contains(body, "10.0.0.7") {
		t.Errorf("signed in: %s", body)
	}
}

// TestRedisAway checks what people see while Redis is away for longer.
func TestRedisAway(t *testing.T) {
	town := newTown(t)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	town.redis.Kill(t)
	resp, body := v.get("/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(body, "Try again in a few seconds") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestUserCommand(t *testing.T) {
	town := newTown(t)
	if out := town.user("list"); !strings.Contains(out, "Invite an admin") {
		t.Errorf("nobody: %s", out)
	}

	if out := town.user("invite Ada@Example.org --admin"); !strings.Contains(out,
		"http://localhost:8080/invitation") || !strings.Contains(out, "ada@example.org") {
		t.Errorf("invite: %s", out)
	}

	if out := town.user("list"); !strings.Contains(out, "invited until") {
		t.Errorf("list: %s", out)
	}
	if out := town.user("remove ada@example.org"); !strings.Contains(out, "removed") {
		t.Errorf("remove: %s", out)
	}

	none := environ(t, ":1", town.redis.URL, town.frontend.URL)
	for _, tt := range []struct {
		env  []string
		line string
		want string
	}{
		{none, "list", "nobody has an account in this stack"},
		{nil, "list", "SIGN_IN"},
		{town.env, "", "usage: gate user"},
		{town.env, "invite", "usage: gate user"},
		{town.env, "invite --admin", "usage: gate user"},
		{town.env, "nonsense ada", "usage: gate user"},
		{town.env, "remove ada bob", "usage: gate user"},
		{town.env, "invite <b>", "a name has"},
		{town.env, "remove ada", "there is no account"},
		{town.env, "reset ada", "there is no account"},
		{town.env, "admin ada", "there is no account"},
		{town.env, "groups ada A!", "a name has"},
	} {
		args := append([]string{"user"}, strings.Fields(tt.line)...)
		err := run(t.Context(), args, tt.env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("user %s: %v, want %q", tt.line, err, tt.want)
		}
	}
}
