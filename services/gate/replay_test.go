package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/google/go-cmp/cmp"
)

// TestReplay does again, in a stack whose backup was restored, what was done since: it erases,
// removes and revokes, counts what it cannot do, and records that it was done.
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

	at := time.Now()
	list := []auditlog.Record{
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
	}
	in, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	err = replay(t.Context(), []string{"--by=root", "backup-20261126T030000.000Z"}, town.env,
		bytes.NewReader(in), &out)
	if err != nil {
		t.Fatal(err)
	}
	var got replayed
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}

	want := map[auditlog.Action]int{
		auditlog.Erase: 1, auditlog.UserRemoved: 2, auditlog.KeyRevoked: 1,
	}
	left := map[auditlog.Action]int{auditlog.Password: 1, auditlog.DocumentRemoved: 1}
	if d := cmp.Diff(want, got.Done); d != "" {
		t.Errorf("done (-want +got):\n%s", d)
	}
	if d := cmp.Diff(left, got.Left); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	if len(got.Failed) != 1 || !strings.Contains(got.Failed[0], "the last admin's account") {
		t.Errorf("failed: %q", got.Failed)
	}

	if erased := town.erased(); !slices.Equal(erased, []string{ids["ada"], ids["boss"]}) {
		t.Errorf("erased are %q of %v", erased, ids)
	}
	if list := town.user("list"); strings.Contains(list, "ada") || strings.Contains(list, "bob") ||
		!strings.Contains(list, "boss") {
		t.Errorf("there are still\n%s", list)
	}

	_, acts := town.records()
	for _, act := range []string{"restore intent", "restore failed", "erase done"} {
		if !slices.Contains(acts, act) {
			t.Errorf("%q is not recorded: %q", act, acts)
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
