package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/google/go-cmp/cmp"
)

// calls returns the requests with the method to the frontend, each with the person's id.
func (town *town) calls(methods ...string) (list []string) {
	town.t.Helper()
	town.frontend.mu.Lock()
	defer town.frontend.mu.Unlock()
	for _, r := range town.frontend.requests {
		p, ok := identity.Peek(r.Header.Get("Authorization"))
		if ok && slices.Contains(methods, r.Method) {
			list = append(list, r.Method+" "+r.URL.Path+" "+p.ID)
		}
	}
	return list
}

// replayed has the list done again.
func (town *town) replayed(list []auditlog.Record) (got replayed) {
	town.t.Helper()
	in, err := json.Marshal(list)
	if err != nil {
		town.t.Fatal(err)
	}
	var out bytes.Buffer
	err = replay(town.t.Context(), []string{"--by=root", "backup-20261126T030000.000Z"}, town.env,
		bytes.NewReader(in), &out)
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &got)
	}
	if err != nil {
		town.t.Fatal(err)
	}
	return got
}

// TestReplay does again, in a stack whose backup was restored and which shows the page of
// maintenance, what was done since: it erases, removes and revokes, names what it cannot do, and
// records that it was done.
func TestReplay(t *testing.T) {
	town := newTown(t, func(c *gateenv.Config) { c.Audit = true })
	boss, ada, bob := town.visitor("192.0.2.1"), town.visitor("192.0.2.2"), town.visitor("192.0.2.3")
	ids := map[string]string{}
	for name, v := range map[string]*visitor{"boss": boss, "ada": ada, "bob": bob} {
		invite := "invite " + name
		if name == "boss" {
			invite += " --admin"
		}
		v.join(name, town.code(invite))
		if !v.signedIn() {
			t.Fatalf("%s is not signed in", name)
		}
		ids[name] = town.person().ID
	}
	for _, name := range []string{"first", "second"} {
		boss.post("/account/keys", "name", name, "scope", "chat", "days", "9")
	}
	keys := town.redis.Client(t).SMembers(t.Context(), "gate:keys:"+ids["boss"]).Val()
	if len(keys) != 2 {
		t.Fatalf("boss has the keys %q", keys)
	}

	if _, err := maintained(t, town.env, "on", "root"); err != nil {
		t.Fatal(err)
	}

	at := time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC)
	got := town.replayed([]auditlog.Record{
		{ID: "1", Time: at, Action: auditlog.Erase, Object: ids["ada"]},
		{ID: "1", Time: at, Action: auditlog.Erase, Object: ids["ada"]},
		{ID: "2", Time: at, Action: auditlog.UserRemoved, Object: ids["bob"]},
		{ID: "3", Time: at, Action: auditlog.UserRemoved, Object: "who is not there"},
		{ID: "4", Time: at, Action: auditlog.KeyRevoked, Actor: ids["boss"],
			Object: auditlog.Key{}.Name("key", keys[0])},
		{ID: "5", Time: at, Action: auditlog.Password, Actor: ids["boss"]},
		{ID: "6", Time: at, Action: auditlog.DocumentRemoved, Object: "document:x",
			Detail: map[string]string{"collection": "handbook"}},
		{ID: "7", Time: at, Action: auditlog.Erase, Object: ids["boss"]}, // the last admin
	})

	want := map[auditlog.Action]int{
		auditlog.Erase: 1, auditlog.UserRemoved: 2, auditlog.KeyRevoked: 1,
	}
	left := []string{"2026-11-26 04:00:00 password of boss",
		"2026-11-26 04:00:00 document-removed of document:x in handbook"}
	if d := cmp.Diff(want, got.Done); d != "" {
		t.Errorf("done (-want +got):\n%s", d)
	}
	if d := cmp.Diff(left, got.Left); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	if len(got.Failed) != 1 || !strings.HasPrefix(got.Failed[0], "2026-11-26 04:00:00 erase of boss: ") ||
		!strings.Contains(got.Failed[0], "the last admin's account") {
		t.Errorf("failed: %q", got.Failed)
	}

	if erased := town.erased(); !slices.Equal(erased, []string{ids["ada"], ids["boss"]}) {
		t.Errorf("erased are %q of %v", erased, ids)
	}
	if list := town.user("list"); strings.Contains(list, "ada") || strings.Contains(list, "bob") ||
		!strings.Contains(list, "boss") {
		t.Errorf("there are still\n%s", list)
	}

	if all := town.calls("DELETE"); !slices.Contains(all, "DELETE /api/submissions "+ids["bob"]) {
		t.Errorf("what bob has handed over is there: %q", all)
	}

	// What was removed and revoked is recorded again: a backup may have been made meanwhile.
	_, acts := town.records()
	for _, act := range []string{"restore intent", "restore failed", "erase done",
		"user-removed done", "key-revoked done"} {
		if !slices.Contains(acts, act) {
			t.Errorf("%q is not recorded: %q", act, acts)
		}
	}
}

// TestReplayMoved: what somebody was given before who had it was erased is theirs again first, and
// is not erased where it cannot be given. What a restore has moved is not moved once more.
func TestReplayMoved(t *testing.T) {
	town := newTown(t, func(c *gateenv.Config) { c.Audit = true })
	at := time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC)
	ids := []string{rand.Text(), rand.Text()}
	list := []auditlog.Record{
		{ID: "3", Time: at.Add(2 * time.Second), Action: auditlog.Move, Object: ids[1],
			Detail: map[string]string{"to": ids[0], restoredDetail: "backup-20261126T020000.000Z"}},
		{ID: "2", Time: at.Add(time.Second), Action: auditlog.Erase, Object: ids[0]},
		{ID: "1", Time: at, Action: auditlog.Move, Object: ids[0],
			Detail: map[string]string{"to": ids[1]}},
	}
	got := town.replayed(list)
	if len(got.Failed) > 0 || got.Done[auditlog.Move] != 1 || got.Done[auditlog.Erase] != 1 ||
		len(got.Left) != 1 || !strings.Contains(got.Left[0], "move of "+ids[1]+" to "+ids[0]) {
		t.Errorf("got %+v", got)
	}
	want := []string{"POST /api/conversations/take " + ids[1], "DELETE /api/conversations " + ids[0]}
	if all := town.calls("POST", "DELETE"); !slices.Equal(all, want) {
		t.Errorf("asked for %q, want %q", all, want)
	}
	select {
	case token := <-town.frontend.consents:
		if p, _ := identity.Peek("Bearer " + token); p.ID != ids[0] {
			t.Errorf("conversations of %q were given", p.ID)
		}
	default:
		t.Error("no conversations were given")
	}
	if text, _ := town.records(); !strings.Contains(text,
		`"detail":{"restored":"backup-20261126T030000.000Z","to":"`+ids[1]+`"}`) {
		t.Errorf("recorded is %s", text)
	}

	town.frontend.keeps.Store(true)
	before := len(town.calls("DELETE"))
	list = append(list[1:],
		auditlog.Record{ID: "4", Time: at.Add(time.Minute), Action: auditlog.UserRemoved, Object: ids[0]},
		auditlog.Record{ID: "5", Time: at.Add(time.Minute), Action: auditlog.Withdrawal, Actor: ids[0]})
	if got := town.replayed(list); len(got.Failed) != 4 || len(town.calls("DELETE")) != before ||
		!strings.HasSuffix(got.Failed[3], "would be erased with it") {
		t.Errorf("got %+v, asked for %q", got, town.calls("DELETE")[before:])
	}
}

// TestReplayWithdrawn takes back one thing of several that were handed over.
func TestReplayWithdrawn(t *testing.T) {
	town := newTown(t, func(c *gateenv.Config) { c.Audit = true })
	town.frontend.handed.Store(true)
	ada := rand.Text()
	record := auditlog.Record{ID: "1", Action: auditlog.Withdrawal, Actor: ada}
	for object, want := range map[string]string{
		auditlog.Key{}.Name("answer", "handed-over"): "DELETE /api/submissions/handed-over " + ada,
		auditlog.Key{}.Name("answer", "another"):     "",
		"":                                           "DELETE /api/submissions " + ada,
	} {
		before := len(town.calls("DELETE"))
		record.Object = object
		got := town.replayed([]auditlog.Record{record})
		if all := town.calls("DELETE")[before:]; strings.Join(all, ",") != want ||
			got.Done[auditlog.Withdrawal] != 1 {
			t.Errorf("%s: %+v, asked for %q, want %q", object, got, all, want)
		}
	}
}

// TestReplayRefused: a command line and a list that are none, and a stack without records.
func TestReplayRefused(t *testing.T) {
	town := newTown(t, func(c *gateenv.Config) { c.Audit = true })
	none := environ(t, ":1", town.redis.URL, town.frontend.URL)
	for _, tt := range []struct {
		args []string
		in   string
		env  []string
		want string
	}{
		{nil, "[]", town.env, "usage: gate replay"},
		{[]string{"a", "b"}, "[]", town.env, "usage: gate replay"},
		{[]string{"a"}, "{}", town.env, "the list of records"},
		{[]string{"a"}, "", town.env, "the list of records"},
		{[]string{"a"}, "[]", none, "nothing is recorded"},
	} {
		err := replay(t.Context(), tt.args, tt.env, strings.NewReader(tt.in), &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.args, err, tt.want)
		}
	}
}
