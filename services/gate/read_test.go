package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// read runs `gate user read`, for who is called by.
func (town *town) read(by, person, reason string) (string, error) {
	var out bytes.Buffer
	in, err := json.Marshal([]string{person, reason})
	if err != nil {
		return "", err
	}

	args, err := readWords([]string{"user", "--at=", "--by=" + by, "read", "-"},
		bytes.NewReader(in))
	if err != nil {
		return "", err
	}

	err = run(town.t.Context(), args, town.env, &out, io.Discard)
	return out.String(), err
}

// asked returns for whom exports were asked for, in the order in which that was.
func (town *town) asked() (people []identity.Person) {
	town.frontend.mu.Lock()
	defer town.frontend.mu.Unlock()
	for _, r := range town.frontend.requests {
		if r.URL.Path == "/api/conversations/export" {
			p, _ := identity.Peek(r.Header.Get("Authorization"))
			people = append(people, p)
		}
	}

	return people
}

// TestRead reads what is stored of somebody. It is recorded who does so and why, before and after
// it, and the person is told on the page and in their own export.
func TestRead(t *testing.T) {
	const reason = "-- case 4711: <b>asked by the board</b>"
	town := newTown(t, auditing)
	v := town.visitor("192.0.2.1")
	v.join("ada", town.code("invite ada"))
	v.signedIn()
	id := town.person().ID
	if _, body := v.get("/account/data"); strings.Contains(body, "Read by who runs this site") {
		t.Errorf("somebody read it already: %s", body)
	}

	out, err := town.read("carol", "Ada", reason)
	var got owndata.Summary
	if bad := json.Unmarshal([]byte(out), &got); err != nil || bad != nil ||
		got.Account.Name != "ada" || len(got.Sessions) != 1 ||
		!strings.HasSuffix(out, "\"conversations\":[]}\n") {
		t.Fatalf("%v, %v: %s", err, bad, out)
	}

	if p := town.asked(); len(p) != 1 || p[0].ID != id || p[0].By != "carol" {
		t.Errorf("the backend was asked for %+v", p)
	}

	text, acts := town.records()
	if want := []string{"read intent", "read done"}; !slices.Equal(acts[len(acts)-2:], want) {
		t.Errorf("recorded are %q", acts)
	}

	var intent, done auditlog.Record
	lines := slices.Collect(strings.Lines(text))
	for i, r := range []*auditlog.Record{&intent, &done} {
		if err := json.Unmarshal([]byte(lines[len(lines)-2+i]), r); err != nil {
			t.Fatal(err)
		}
	}
	if intent.By != "carol" || intent.Actor != "" || intent.Object != id ||
		intent.Detail["reason"] != reason || done.ID != intent.ID || done.Bytes != len(out) {
		t.Errorf("recorded are %+v and %+v", intent, done)
	}

	if _, body := v.get("/account/data"); !strings.Contains(body, "Read by who runs this site") ||
		!strings.Contains(body, "case 4711: &lt;b&gt;asked") || strings.Contains(body, "carol") {
		t.Errorf("the person is not told: %s", body)
	}

	_, body := v.get("/account/data/export?format=json")
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Readings) != 1 ||
		got.Readings[0].Reason != reason || time.Since(got.Readings[0].Time) > time.Minute {
		t.Errorf("%v, exported are %+v", err, got.Readings)
	}

	if p := town.asked(); p[1].By != "" {
		t.Errorf("an export of one's own is by %q", p[1].By)
	}

	town.user("erase ada")
	if left := redistest.Find(t, town.redis.Client(t), "case 4711", "gate:readings"); slices.
		ContainsFunc(left, func(key string) bool { return !strings.HasPrefix(key, "{audit}") }) {
		t.Errorf("left: %q", left)
	}
}

// TestReadRefused holds that nothing is read, nor the backend asked, without a reason, without a
// record or of nobody.
func TestReadRefused(t *testing.T) {
	town := newTown(t, auditing)
	town.visitor("192.0.2.1").join("ada", town.code("invite ada"))
	for what, tt := range map[string]struct{ by, person, reason, want string }{
		"no reason":    {"carol", "ada", " ", "a reason is one line"},
		"long reason":  {"carol", "ada", strings.Repeat("ä", 201), "a reason is one line"},
		"two lines":    {"carol", "ada", "case\n4711", "a reason is one line"},
		"nobody":       {"carol", "eve", "case 4711", "eve: there is no account"},
		"by nobody":    {"", "ada", "case 4711", "where it is not recorded who reads it"},
		"another line": {"carol", "--all", "case 4711", "usage: gate user"},
	} {
		out, err := town.read(tt.by, tt.person, tt.reason)
		if err == nil || !strings.Contains(err.Error(), tt.want) || out != "" {
			t.Errorf("%s: %q, %v, want %q", what, out, err, tt.want)
		}
	}

	if _, acts := town.records(); slices.Contains(acts, "read intent") {
		t.Errorf("recorded are %q", acts)
	}

	// A Redis that has no room for the record: what is there can be read, but is not.
	r := town.redis.Client(t)
	if err := r.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := town.read("carol", "ada", "case 4711"); err == nil || out != "" {
		t.Errorf("without room for a record: %q, %v", out, err)
	}
	if err := r.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}

	town.env = slices.DeleteFunc(town.env, func(v string) bool {
		return strings.HasPrefix(v, "AUDIT=")
	})
	if out, err := town.read("carol", "ada", "case 4711"); err == nil || out != "" {
		t.Errorf("without an audit: %q, %v", out, err)
	}

	if p := town.asked(); len(p) != 0 {
		t.Errorf("the backend was asked for %+v", p)
	}
}

// TestReadProvided reads what is stored of somebody whom a provider signs in.
func TestReadProvided(t *testing.T) {
	town, p := newProvided(t, false)
	p.SignIn(ada)
	v := town.visitor("192.0.2.1")
	v.through("/")
	town.env = environ(t, ":1", town.redis.URL, town.frontend.URL, auditing,
		func(c *gateenv.Config) {
			c.SignIn, c.PublicURL = gateenv.OIDC, town.base
			c.Provider = gateenv.Provider{
				Issuer: p.Issuer, ClientID: "c", GroupsClaim: "groups", Everybody: true,
			}
		})

	if _, err := town.read("carol", "bob", "case 4711"); err == nil ||
		!strings.Contains(err.Error(), "bob: nothing is stored") {
		t.Errorf("of nobody: %v", err)
	}
	if _, acts := town.records(); !slices.Contains(acts, "read intent") ||
		!slices.Contains(acts, "read refused") {
		t.Errorf("recorded are %q", acts)
	}
	if _, err := town.read("", "bob", "case 4711"); err == nil ||
		!strings.Contains(err.Error(), "where it is not recorded who reads it") {
		t.Errorf("by nobody: %v", err)
	}

	out, err := town.read("carol", "ada", "case 4711")
	if err != nil || !strings.Contains(out, `"name": "Ada Lovelace"`) ||
		!strings.Contains(out, `"subject": "ada"`) {
		t.Errorf("%v: %s", err, out)
	}
}
