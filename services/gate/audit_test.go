package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/oidctest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func auditing(c *gateenv.Config) { c.Audit = true }

// audit runs `gate audit` with the words.
func (town *town) audit(words ...string) (string, error) {
	var out bytes.Buffer
	err := run(town.t.Context(), append([]string{"audit"}, words...), town.env, &out, io.Discard)
	return out.String(), err
}

// records returns what is recorded, each as its action and outcome.
func (town *town) records() (text string, acts []string) {
	town.t.Helper()
	days, err := town.audit("days")
	if err != nil {
		town.t.Fatal(err)
	}

	for _, day := range strings.Fields(days) {
		page, err := town.audit("page", day, "0")
		if err != nil {
			town.t.Fatal(err)
		}
		text += page
	}

	for line := range strings.Lines(text) {
		r, err := auditlog.Parse(line)
		if err != nil {
			town.t.Errorf("%s: %v", line, err)
		}
		acts = append(acts, fmt.Sprint(r.Action, " ", r.Outcome))
	}

	return text, acts
}

// TestAudit holds that it is recorded who comes in, who does not, and what is done to accounts.
func TestAudit(t *testing.T) {
	town := newTown(t, auditing)
	ada := town.visitor("192.0.2.7")
	ada.join("ada.king", town.code("invite ada.king --admin"))
	bob := town.visitor("192.0.2.8")
	bob.post("/invitation", "name", "ada.king", "code", "INVENTED", "password", password,
		"again", password)
	bob.signIn("ada.king", "not the password at all")
	bob.signIn("a password typed as a name", "x")
	ada.post("/account/users", "act", "invite", "name", "bob.hope")
	ada.post("/account/users", "act", "remove", "name", "ada.king") // she may not
	ada.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")
	ada.post("/sign-out")
	if err := town.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := town.audit("up", "carol", "abc123", "def456", "-", "done"); err != nil {
		t.Fatal(err)
	}

	text, acts := town.records()
	want := []string{
		"user-invited intent", "user-invited done", // by the command
		"password intent", "password done", "sign-in intent", "sign-in done",
		"sign-in refused", "sign-in refused",
		"user-invited intent", "user-invited done",
		"key-made intent", "key-made done",
		"sign-out intent", "sign-out done",
		"configuration done",
	}
	if !slices.Equal(acts, want) {
		t.Errorf("recorded are %q", acts)
	}

	for _, told := range []string{"192.0.2.7", "192.0.2.8", `"by":"carol"`, "abc123", "def456"} {
		if !strings.Contains(text, told) {
			t.Errorf("%s is not in the records", told)
		}
	}

	// Names with a dot are none that a hash has by chance.
	for _, secret := range []string{"ada.king", "bob.hope", "typed", "editor", "cck_"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the records", secret)
		}
	}

	names, err := town.audit("names")
	if err != nil || strings.Count(names, `"ada.king"`) != 2 || strings.Contains(names, "bob.hope") {
		t.Errorf("names %s, %v", names, err)
	}

	said, err := town.audit("verify")
	if err != nil || !strings.Contains(said, "15 records, 1 to 15") {
		t.Errorf("verify: %s, %v", said, err)
	}
}

// TestAuditConfiguration: an up has a record before it and one of the same id after it.
func TestAuditConfiguration(t *testing.T) {
	town := newTown(t, auditing)
	id, err := town.audit("up", "carol", "abc123", "def456")
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(id)
	if _, err := town.audit("up", "carol", "abc123", "def456", id, "failed"); err != nil {
		t.Fatal(err)
	}

	text, acts := town.records()
	if want := []string{"configuration intent", "configuration failed"}; !slices.Equal(acts, want) {
		t.Errorf("recorded are %q, want %q", acts, want)
	}
	if strings.Count(text, `"`+id+`"`) != 2 {
		t.Errorf("the records have not the id %s:\n%s", id, text)
	}

	for _, bad := range [][]string{{"carol", "a", "b", "x", "done"}, {"carol", "a", "b", id, "intent"},
		{"carol", "a", "b", id}, {"carol", "a"}} {
		if _, err := town.audit(append([]string{"up"}, bad...)...); err == nil {
			t.Errorf("%q was recorded", bad)
		}
	}
}

// TestAuditConfigurationOfNobody: a stack in which nobody signs in has no record, and no error.
func TestAuditConfigurationOfNobody(t *testing.T) {
	town := newTown(t)
	if id, err := town.audit("up", "carol", "abc123", "def456"); id != "" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
}

// TestAuditCommand: a program that an operator runs has a record before it begins and one after it
// has ended, of the same id, and none of what else was typed.
func TestAuditCommand(t *testing.T) {
	town := newTown(t, auditing)
	for name, code := range map[string]string{"redis-cli": "0", "/bin/sh -c 'echo hunter2'": "137"} {
		id, err := town.audit("command", "carol", "redis", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := town.audit("command", "carol", "redis", name, strings.TrimSpace(id),
			code); err != nil {
			t.Fatal(err)
		}
	}

	text, acts := town.records()
	for _, want := range []string{"command intent", "command done", "command failed"} {
		if !slices.Contains(acts, want) {
			t.Errorf("recorded are %q, without %s", acts, want)
		}
	}

	for _, told := range []string{`"program":"redis-cli"`, `"program":"other"`, `"code":"137"`} {
		if !strings.Contains(text, told) {
			t.Errorf("%s is not in the records", told)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("an argument is in the records")
	}

	for _, bad := range [][]string{{"carol", "redis", "sh", "x", "0"}, {"carol", "redis", "sh",
		"ABCDEFGHABCDEFGH", "zero"}, {"carol", "redis"}} {
		if _, err := town.audit(append([]string{"command"}, bad...)...); err == nil {
			t.Errorf("%q was recorded", bad)
		}
	}
}

// TestAuditTampered finds what somebody with all rights in Redis has done to the records.
func TestAuditTampered(t *testing.T) {
	town := newTown(t, auditing)
	for i := range 5 {
		if _, err := town.audit("up", "carol", fmt.Sprint(i), "x", "-", "done"); err != nil {
			t.Fatal(err)
		}
	}

	redis, ctx := town.redis.Client(t), t.Context()
	day := redis.LIndex(ctx, "{audit}:days", 0).Val()
	key := "{audit}:" + day
	lines := redis.LRange(ctx, key, 0, -1).Val()
	for name, tamper := range map[string]func() error{
		"record 3,": func() error {
			return redis.LSet(ctx, key, 2, strings.Replace(lines[2], `"2"`, `"9"`, 1)).Err()
		},
		"record 4: it is lost": func() error { return redis.LRem(ctx, key, 1, lines[3]).Err() },
		"record 2: it is lost": func() error {
			if err := redis.LSet(ctx, key, 1, lines[2]).Err(); err != nil {
				return err
			}
			return redis.LSet(ctx, key, 2, lines[1]).Err()
		},
		"after record 5": func() error { return redis.RPush(ctx, key, "x").Err() },
	} {
		if err := tamper(); err != nil {
			t.Fatal(err)
		}
		if said, err := town.audit("verify"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %s, %v", name, said, err)
		}

		redis.Del(ctx, key)
		for _, line := range lines {
			redis.RPush(ctx, key, line)
		}
	}

	if said, err := town.audit("verify"); err != nil {
		t.Errorf("as it was: %s, %v", said, err)
	}
}

// TestAuditCopy checks a copy of the records, after Redis has gone, and finds what was done to it and
// what a service can add by itself: a record without the key.
func TestAuditCopy(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "audit-key")
	if err := os.WriteFile(secret, []byte("of the stack"), 0o600); err != nil {
		t.Fatal(err)
	}

	town := newTown(t, auditing, func(c *gateenv.Config) { c.AuditKeyFile = secret })
	for i := range 4 {
		if _, err := town.audit("up", "carol", fmt.Sprint(i), "x", "-", "done"); err != nil {
			t.Fatal(err)
		}
	}

	text, _ := town.records()
	lines := slices.Collect(strings.Lines(text))
	last, err := auditlog.Parse(strings.TrimSpace(lines[3]))
	if err != nil {
		t.Fatal(err)
	}

	rogue := last
	rogue.Number, rogue.Prev = 5, auditlog.Hash(strings.TrimSpace(lines[3]))
	unsigned, foreign := auditlog.Key{}.Seal(rogue)+"\n", auditlog.NewKey("another").Seal(rogue)+"\n"
	redis := town.redis.Client(t)
	day := redis.LIndex(t.Context(), "{audit}:days", -1).Val()
	redis.RPush(t.Context(), "{audit}:"+day, strings.TrimSpace(unsigned))
	if said, err := town.audit("verify"); err == nil || !strings.Contains(err.Error(), "record 5,") {
		t.Errorf("a record that was pushed without the key: %s, %v", said, err)
	}

	if err := town.stop(); err != nil {
		t.Fatal(err)
	}
	town.redis.Kill(t)

	for _, tt := range []struct{ copied, want string }{
		{text, "4 records, 1 to 4, are as they were written"},
		{strings.Join(lines[1:], ""), "3 records, 2 to 4, are as they were written"},
		{lines[0] + lines[2], "record 2: it is lost"},
		{strings.Replace(text, "carol", "doris", 1), "record 1, "},
		{text + unsigned, "record 5, "},
		{text + foreign, "record 5, "},
		{text + "x\n", "after record 4: it is no record"},
	} {
		var out bytes.Buffer
		err := readAudit(t.Context(), []string{"copy"}, town.env, strings.NewReader(tt.copied), &out)
		good := strings.Contains(tt.want, "as they were")
		if (err == nil) != good || !strings.Contains(out.String()+fmt.Sprint(err), tt.want) {
			t.Errorf("want %q: %s, %v", tt.want, &out, err)
		}
	}
}

// TestAuditRetention checks a chain of which whole days are gone.
func TestAuditRetention(t *testing.T) {
	town := newTown(t, auditing)
	redis, ctx := town.redis.Client(t), t.Context()
	const key = "{audit}:days"
	days := []string{"2026-01-01", "2026-01-02", "2026-01-03"}
	for i, day := range days { // what is written today becomes that day's
		if _, err := town.audit("up", "carol", fmt.Sprint(i), "x", "-", "done"); err != nil {
			t.Fatal(err)
		}

		today := redis.LIndex(ctx, key, -1).Val()
		if err := redis.LSet(ctx, key, -1, day).Err(); err != nil {
			t.Fatal(err)
		}
		if err := redis.Rename(ctx, "{audit}:"+today, "{audit}:"+day).Err(); err != nil {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		kept []string
		want string
	}{
		{days, "3 records, 1 to 3"},
		{days[1:], "from record 2,"},
		{days[2:], "from record 3,"},
		{[]string{days[0], days[2]}, "record 2: it is lost"},
	} {
		redis.Del(ctx, key)
		for _, day := range tt.kept {
			redis.RPush(ctx, key, day)
		}

		said, err := town.audit("verify")
		lost := strings.Contains(tt.want, "lost")
		if (err != nil) != lost || !strings.Contains(said+fmt.Sprint(err), tt.want) {
			t.Errorf("of %q: %s, %v", tt.kept, said, err)
		}
	}
}

// TestAuditUnwritten holds that nobody comes in who cannot be recorded, and that people can leave.
func TestAuditUnwritten(t *testing.T) {
	town := newTown(t, auditing)
	ada := town.visitor("192.0.2.7")
	ada.join("ada", town.code("invite ada --admin"))
	admin := town.redis.Client(t)
	if err := admin.Do(t.Context(), "acl", "setuser", stacks.Gate, "clearselectors").Err(); err != nil {
		t.Fatal(err)
	}

	resp, body := ada.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "recorded") {
		t.Errorf("a key was made: %s\n%s", resp.Status, body)
	}

	if status := town.visitor("192.0.2.9").signIn("ada", password); status !=
		http.StatusServiceUnavailable {
		t.Errorf("somebody has signed in: %d", status)
	}

	if resp, _ := ada.post("/sign-out"); resp.StatusCode != http.StatusSeeOther || ada.signedIn() {
		t.Errorf("signing out: %s", resp.Status)
	}
}

// TestAuditOfPrograms holds that what a program asks by a key is recorded, with sizes and the
// model's digest and no word of it, and that nothing is asked that cannot be recorded.
func TestAuditOfPrograms(t *testing.T) {
	const phrase = "xyzzy-plugh"
	var asked atomic.Int32
	ml := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", mlapi.NDJSON)
		fmt.Fprintf(w, `{"text":%q}`+"\n"+`{"done":{"model":"m","digest":"sha256:tiny",`+
			`"reason":"stop","prompt_tokens":3,"tokens":5}}`+"\n", phrase)
	}))
	t.Cleanup(ml.Close)

	town := newTown(t, auditing, func(c *gateenv.Config) { c.MLServiceURL = ml.URL })
	ada := town.visitor("192.0.2.7")
	ada.join("ada", town.code("invite ada"))
	key := ada.key()
	if resp, body := town.ask(key); resp.StatusCode != http.StatusOK ||
		!strings.Contains(body, phrase) {
		t.Fatalf("%s: %s", resp.Status, body)
	}

	text, acts := town.records()
	if n := len(acts); n < 2 || acts[n-2] != "question intent" || acts[n-1] != "answer done" {
		t.Errorf("recorded: %q", acts)
	}
	for _, want := range []string{
		`"model":"m"`, `"digest":"sha256:tiny"`, `"prompt_tokens":3`, `"tokens":5`, `"bytes":11`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not recorded:\n%s", want, text)
		}
	}
	for _, secret := range []string{phrase, key} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the records:\n%s", secret, text)
		}
	}

	admin := town.redis.Client(t)
	if err := admin.Do(t.Context(), "acl", "setuser", stacks.Gate, "clearselectors").Err(); err != nil {
		t.Fatal(err)
	}
	if resp, body := town.ask(key); resp.StatusCode != http.StatusServiceUnavailable ||
		!strings.Contains(body, "recorded") || asked.Load() != 1 {
		t.Errorf("what cannot be recorded: %s: %s; ml was asked %d times",
			resp.Status, body, asked.Load())
	}
}

// TestAuditErase holds that an erasure leaves a record of itself, with the pseudonym alone.
func TestAuditErase(t *testing.T) {
	town := newTown(t, auditing)
	for _, name := range []string{"ada.king", "bob.hope"} {
		town.visitor("192.0.2.7").join(name, town.code("invite "+name+" --admin"))
	}

	town.user("--by=carol move ada.king bob.hope")
	town.user("--by=carol erase bob.hope")
	text, acts := town.records()
	for _, want := range []string{"move intent", "move done", "erase intent", "erase done"} {
		if !slices.Contains(acts, want) {
			t.Errorf("%s is not among %q", want, acts)
		}
	}

	if n := strings.Count(text, `"by":"carol"`); n != 4 {
		t.Errorf("%d records say who asked:\n%s", n, text)
	}
	for _, name := range []string{"ada.king", "bob.hope"} {
		if strings.Contains(text, name) {
			t.Errorf("%s is in the records:\n%s", name, text)
		}
	}
}

// TestAuditAccess holds that it is recorded what somebody who is known is refused, once however
// often it is tried, and nothing of who is not known.
func TestAuditAccess(t *testing.T) {
	town := newTown(t, auditing)
	bob := town.visitor("192.0.2.8")
	bob.join("bob.hope", town.code("invite bob.hope"))
	key := bob.key() // for chat
	bob.signedIn()
	id := town.person().ID
	for range 3 {
		for _, path := range []string{"/account/users", "/account/users?x=ada.king"} {
			if resp, _ := bob.get(path); resp.StatusCode != http.StatusForbidden {
				t.Errorf("a member: %s", resp.Status)
			}
		}
		resp, _ := bob.post("/account/users", "act", "invite", "name", "ada.king")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("a member who invites: %s", resp.Status)
		}
		if resp, _ := get(t, town.base+"/v1/models", "Authorization", "Bearer "+key,
			"X-Forwarded-For", "192.0.2.9"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("without the scope: %s", resp.Status)
		}
	}

	r := town.redis.Client(t)
	name := r.Keys(t.Context(), "gate:key:*").Val()[0]
	past := regexp.MustCompile(`"expires":"\d+`).ReplaceAllString(
		r.Get(t.Context(), name).Val(), `"expires":"2001`)
	r.Set(t.Context(), name, past, 0)
	for _, secret := range []string{key, key, key[:len(key)-1] + "!", ""} {
		if resp, _ := get(t, town.base+"/v1/models", "Authorization",
			"Bearer "+secret); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("expired, or nobody's: %s", resp.Status)
		}
	}
	town.visitor("192.0.2.7").get("/account/users")
	if err := town.stop(); err != nil {
		t.Fatal(err)
	}

	text, acts := town.records()
	var got []string
	for line := range strings.Lines(text) {
		a, err := auditlog.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if a.Action != auditlog.Access {
			continue
		}

		if a.Outcome != auditlog.Refused || a.Actor != id || a.Address == "" {
			t.Errorf("recorded is %s", line)
		}
		key := a.Object == auditlog.Key{}.Name("key", strings.TrimPrefix(name, "gate:key:"))
		got = append(got, fmt.Sprint(a.Detail["route"], ", ", a.Detail["why"], ", ", key))
	}
	want := []string{
		"GET /account/users, not an admin, false",
		"POST /account/users, not an admin, false",
		"GET /v1/models, no scope models, true",
		"GET /v1/models, expired, true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded are %q of %q", got, acts)
	}
	if strings.Contains(text, "ada.king") || strings.Contains(text, key) {
		t.Error("what was asked for is in the records")
	}
}

// TestAuditStranger holds that whoever has begun no sign-in at the provider adds no record.
func TestAuditStranger(t *testing.T) {
	town, p := newProvided(t, false, auditing)
	p.SignIn(oidctest.Person{Subject: "eve"}) // she is in no group
	v := town.visitor("192.0.2.7")
	for range 3 {
		v.get("/oidc/callback?code=x&state=" + rand.Text())
	}
	if resp, _ := v.through("/"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("eve: %s", resp.Status)
	}

	if err := town.stop(); err != nil {
		t.Fatal(err)
	}

	r := town.redis.Client(t)
	var lines []string
	for _, day := range r.LRange(t.Context(), "{audit}:days", 0, -1).Val() {
		lines = append(lines, r.LRange(t.Context(), "{audit}:"+day, 0, -1).Val()...)
	}
	if len(lines) != 1 || !strings.Contains(lines[0], `"refused"`) {
		t.Errorf("recorded are %q", lines)
	}
}

// TestAuditPerson: what records call a person is found by how the person is named, also that of
// before there was an account.
func TestAuditPerson(t *testing.T) {
	town := newTown(t, auditing)
	v := town.visitor("192.0.2.7")
	v.join("ada.king", town.code("invite ada.king"))
	v.signedIn()
	id := town.person().ID
	for _, who := range []string{"ada.king", "account:Ada.King"} {
		out, err := town.audit("person", who)
		called := strings.Fields(out)
		if err != nil || len(called) != 2 || called[0] != id {
			t.Fatalf("%s: %q, %v; want %s and a name", who, out, err, id)
		}

		text, _ := town.records()
		for _, name := range called {
			if !strings.Contains(text, `"`+name+`"`) {
				t.Errorf("%s of %s is in no record:\n%s", name, who, text)
			}
		}
	}

	if out, err := town.audit("person", "browser:"+id); err != nil || !strings.HasPrefix(out, id) {
		t.Errorf("a browser: %q, %v", out, err)
	}
	if out, err := town.audit("person", "eve"); err == nil || !strings.Contains(err.Error(),
		"eve: there is no account") {
		t.Errorf("nobody: %q, %v", out, err)
	}
}

// TestAuditNamesProvided: people of a provider who are signed in have their names, and the others
// can be found.
func TestAuditNamesProvided(t *testing.T) {
	town, p, v, id := newProvidedAda(t)

	want := fmt.Sprintf("{%q:%q}\n", id, ada.Name)
	if names, err := town.audit("names"); err != nil || names != want {
		t.Errorf("names are %s, %v; want %s", names, err, want)
	}
	if names, err := town.audit("names", "2999-01-01"); err != nil || names != "{}\n" {
		t.Errorf("names of no records are %s, %v", names, err)
	}

	v.post("/sign-out")
	if names, err := town.audit("names"); err != nil || names != "{}\n" {
		t.Errorf("names of who is signed out are %s, %v", names, err)
	}
	for _, who := range []string{"ada", p.Issuer + "#ada"} {
		if out, err := town.audit("person", who); err != nil || out != id+"\n" {
			t.Errorf("%s: %q, %v; want %s", who, out, err, id)
		}
	}
}
