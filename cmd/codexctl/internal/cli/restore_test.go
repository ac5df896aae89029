package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/backups"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// restoring is a platform on which a backup is restored. It notes what is done, and fails at what
// begins with a word of fails, of which a comma ends each.
type restoring struct {
	platform
	holder running.Holder // who has the lock; the zero value is nobody
	free   bool           // whether the lock was given back

	done  *[]string
	read  map[string]string // what commands have read, by what is noted of them
	shown *notice           // what people read instead of the site
	fails string

	missing []string // the weights that are not there

	dir string // with the backup's files
	to  age.Recipient

	identity string // the file of its identity
}

// erase writes down that somebody was erased so long after the backup.
func (p *restoring) erase(t *testing.T, who string, after time.Duration) {
	t.Helper()
	at := begun.Add(after)
	f, err := os.Create(filepath.Join(p.dir, archive.ErasuresFile(at)))
	if err != nil {
		t.Fatal(err)
	}
	err = archive.SealJSON(f, []age.Recipient{p.to},
		[]auditlog.Record{{ID: who, Time: at, Action: auditlog.Erase, Object: who}})
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func (p *restoring) Replicas(_ context.Context, service string) ([]running.Replica, error) {
	return []running.Replica{{Name: service, Service: service, Healthy: true}}, nil
}

func (p *restoring) note(what string) error {
	*p.done = append(*p.done, what)
	for _, fails := range strings.Split(p.fails, ", ") {
		if fails != "" && strings.HasPrefix(what, fails) {
			return errors.New("it broke")
		}
	}
	return nil
}

func (p *restoring) Restart(
	_ context.Context, service string, _ time.Duration, _ func(string, time.Duration),
) error {
	return p.note("restart " + service)
}

func (p *restoring) Exec(
	_ context.Context, _ running.Replica, command []string,
) (int, string, error) {
	switch strings.Join(command[1:], " ") {
	case "maintenance":
		text, err := json.Marshal(p.shown)
		return 0, string(text), err
	case "maintenance on " + operator() + " " + restoreNotice:
		p.shown = &notice{Message: restoreNotice, By: operator(), Since: begun}
		return 0, "", p.note("close")
	case "maintenance off " + operator():
		p.shown = nil
		return 0, "", p.note("open")
	case "audit days":
		if p.fails == "audit days" {
			return 1, "it broke", nil
		}
		return 0, "2026-11-01\n2026-11-20\n2026-11-26\n2026-11-27", nil
	case "audit page 2026-11-20 0", "audit page 2026-11-26 0", "audit page 2026-11-27 0":
		return 0, "record of " + command[3], nil
	}
	return 1, fmt.Sprint("unexpected: ", command), nil
}

func (p *restoring) Stream(
	_ context.Context, in running.Replica, command []string, s running.Streams,
) (int, error) {
	what := in.Service + " " + strings.Join(command[1:], " ")
	switch {
	case command[0] == "sh" && command[2] == backups.Receive:
		what = "receive in " + command[4]
	case command[0] == "sh" && command[2] == backups.Finish:
		what = "finish in " + command[4]
	case command[0] == "sh" && command[2] == backups.Drop:
		what = strings.Join(append([]string{"drop in"}, command[4:]...), " ")
	case command[0] == "sh" && command[2] == backups.Loaded:
		what = "loaded in " + command[4]
	}
	if s.In != nil {
		b, err := io.ReadAll(s.In)
		if err != nil {
			return 0, err
		}
		p.read[what] = string(b)
	}
	if err := p.note(what); err != nil {
		_, _ = io.WriteString(s.Err, "{\"level\":\"INFO\"}\nbackup: "+err.Error()+"\n")
		return 1, nil
	}

	switch {
	case what == "backup files":
		_, _ = io.WriteString(s.Err, "{\"level\":\"INFO\"}\nbackup: some may be missing\n")
		_, err := io.WriteString(s.Out, "one\ntwo\n")
		return 0, err
	case strings.HasPrefix(what, "backup missing"):
		_, err := fmt.Fprintln(s.Out, strings.Join(p.missing, "\n"))
		return 0, err
	case strings.HasPrefix(what, "backup create"):
		return 0, json.NewEncoder(s.Out).Encode(listed{Name: "backup-of-before"})
	case strings.HasPrefix(what, "gate replay"):
		_, err := io.WriteString(s.Out, `{"done":{"erase":1},"left":["password of ada"],"failed":[]}`)
		return 0, err
	}
	return 0, nil
}

// begun is when the backup was begun.
var begun = time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)

// restored is a stack into which a backup is restored.
func restored(t *testing.T) (*App, *restoring, *strings.Builder, target, stacks.Stack, *backups.Backup) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := archive.Name(begun)
	f, err := os.Create(filepath.Join(dir, archive.File(name)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := archive.NewWriter(f, []age.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ name, content string }{
		{archive.Redis, "REDIS"}, {archive.Documents, "documents"},
		{archive.Models, `{"models":[{"name":"codexcontinue","digest":"0123456789abcdef"}]}`},
	} {
		err := w.Part(part.name, func(to io.Writer) error {
			_, err := io.WriteString(to, part.content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	summary, err := w.Close(archive.Manifest{Stack: "prod", Begun: begun, Ended: begun})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(summary)
	if err := errors.Join(err, f.Close(),
		os.WriteFile(filepath.Join(dir, archive.SummaryFile(name)), text, 0o600)); err != nil {
		t.Fatal(err)
	}

	p := &restoring{done: new([]string), read: map[string]string{}, dir: dir, to: id.Recipient()}
	p.identity = filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(p.identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.erase(t, "ada", time.Minute)
	b, err := backups.Open(t.Context(), backups.Folder(dir), "", t.TempDir(), []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}

	var said strings.Builder
	getenv := func(string) string { return "" }
	a := &App{in: strings.NewReader(""), now: time.Now, out: console.New(&said, getenv),
		err: console.New(&said, getenv)}
	health := func(name string) stacks.Health { return stacks.Health{Command: []string{"/" + name}} }
	stack := stacks.Stack{Name: "prod", Services: []stacks.Service{
		{Name: stacks.Redis, Mounts: []stacks.Mount{{Source: stacks.RedisData, Target: "/data"}}},
		{Name: stacks.Knowledge}, {Name: stacks.Backup, Health: health(stacks.Backup)},
		{Name: stacks.Gate, Health: health(stacks.Gate),
			Contract: &gateenv.Config{SignIn: gateenv.Accounts}},
	}}
	return a, p, &said, target{name: "prod", file: project.StackFile{Name: "prod"}}, stack, b
}

// TestRestore does all of it in its order.
func TestRestore(t *testing.T) {
	a, p, said, on, stack, b := restored(t)
	p.erase(t, "eve", time.Hour) // after it was opened
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
	if err != nil {
		t.Fatal(err)
	}

	replay := "gate replay --by=" + operator() + " " + b.Name
	part, _ := b.Manifest.Part(archive.Documents)
	documents := "backup documents " + part.SHA256
	want := []string{"close", "backup create " + b.Name, "receive in /data", "finish in /data",
		"restart redis", "loaded in /data", documents, "restart knowledge", "restart gate", replay,
		"backup release " + b.Name, "open"}
	if !slices.Equal(*p.done, want) {
		t.Errorf("done is %q, want %q", *p.done, want)
	}
	if p.read["receive in /data"] != "REDIS" || p.read[documents] != "documents" ||
		!strings.Contains(p.read[replay], `"object":"ada"`) ||
		!strings.Contains(p.read[replay], `"object":"eve"`) {
		t.Errorf("read are %q", p.read)
	}
	tail := p.read["finish in /data"]
	if !strings.Contains(tail, "gate:maintenance") || !strings.Contains(tail, restoreNotice) {
		t.Errorf("Redis begins without the page of maintenance: %q", tail)
	}
	for day, there := range map[string]bool{
		"2026-11-01": false, "2026-11-20": true, "2026-11-26": true, "2026-11-27": true,
	} {
		if strings.Contains(tail, "record of "+day) != there {
			t.Errorf("the audit goes on with %s: %t", day, !there)
		}
	}
	for _, line := range []string{"backup-of-before", "done again since the backup: 1 erase",
		"  password of ada", "codexcontinue (0123456789ab)"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("it does not say %q:\n%s", line, said.String())
		}
	}
	if !p.free {
		t.Error("the lock of the stack is left")
	}
}

// TestRestoreFails ends where something fails, with what it was, and goes no further.
func TestRestoreFails(t *testing.T) {
	for fails, want := range map[string]struct {
		says   string
		last   string
		closed bool // whether people still see the page
	}{
		"close":               {says: "put up the page of maintenance: it broke", last: "close"},
		"backup create":       {says: "so nothing was replaced", last: "open"},
		"receive":             {says: "of Redis: it broke; nothing was replaced", last: "open"},
		"audit days":          {says: "read the audit", last: "open"},
		"finish":              {says: "of Redis: it broke; nothing was replaced", last: "open"},
		"restart redis":       {says: "of Redis: it broke; nothing was replaced", last: "open"},
		"loaded":              {says: "of Redis: it broke; nothing was replaced", last: "open"},
		"finish, drop":        {begins, "drop in /data", true},
		"restart redis, drop": {begins, "drop in /data restarted", true},
		"loaded, drop":        {begins, "drop in /data restarted", true},
		"backup documents":    {"already: " + goesOn, "backup documents", true},
		"restart gate":        {"what was erased since the backup is there again", "restart gate", true},
		"gate replay":         {"what was erased since the backup is there again", "gate replay", true},
		"restart redis, open": {"nothing was replaced\nthe page of maintenance stays", "open", true},
	} {
		a, p, _, on, stack, b := restored(t)
		p.fails = fails
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
		err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
		last := (*p.done)[len(*p.done)-1]
		if err == nil || !strings.Contains(err.Error(), want.says) || !strings.HasPrefix(last, want.last) {
			t.Errorf("%s: %v after %q", fails, err, last)
		}
		if want.closed != strings.HasSuffix(err.Error(), "until `codexctl maintenance off prod`") {
			t.Errorf("%s: %v", fails, err)
		}
		// What Redis may begin with later is dropped before people come in.
		armed := slices.Contains(*p.done, "finish in /data")
		dropped := slices.IndexFunc(*p.done, func(what string) bool {
			return strings.HasPrefix(what, "drop in /data")
		})
		if open := slices.Index(*p.done, "open"); armed && open >= 0 && (dropped < 0 || dropped > open) {
			t.Errorf("%s: done is %q", fails, *p.done)
		}
	}
}

const (
	begins = "Redis has begun with the backup, or does when it starts within an hour: " + goesOn
	goesOn = "run it again, with the name backup-20261126"
)

// TestRestoreRefresh: where it cannot be read what was erased meanwhile, it is said how to go on.
func TestRestoreRefresh(t *testing.T) {
	a, p, _, on, stack, b := restored(t)
	late := filepath.Join(p.dir, archive.ErasuresFile(begun.Add(time.Hour)))
	if err := os.WriteFile(late, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
	if err == nil || !strings.Contains(err.Error(), "is there again") ||
		!strings.Contains(err.Error(), "run it again, with the name "+b.Name) {
		t.Errorf("got %v", err)
	}
}

// TestRestoreNotice leaves up the notice that an operator had put up, and takes down that of a
// restore that has failed, unless this one fails as well.
func TestRestoreNotice(t *testing.T) {
	for _, tt := range []struct{ message, fails, last string }{
		{"New disks.", "", "backup release"},
		{"New disks.", "finish", "drop"},
		{restoreNotice, "", "open"},
		{restoreNotice, "finish", "drop"},
	} {
		a, p, _, on, stack, b := restored(t)
		p.fails, p.shown = tt.fails, &notice{Message: tt.message}
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
		err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
		last := (*p.done)[len(*p.done)-1]
		if (err == nil) != (tt.fails == "") || !strings.HasPrefix(last, tt.last) ||
			!strings.Contains(p.read["finish in /data"], tt.message) ||
			slices.Contains(*p.done, "close") {
			t.Errorf("%+v: %v, %q", tt, err, *p.done)
		}
	}
}

// TestSources: a copy of the backups does not know what was erased since it was made.
func TestSources(t *testing.T) {
	k := keeper{program: "/backup"}
	if from, also := backupSources(k, ""); from == nil || len(also) > 0 {
		t.Errorf("%v, %v", from, also)
	}
	if from, also := backupSources(k, "copy"); from != backups.Folder("copy") || len(also) != 1 {
		t.Errorf("%v, %v", from, also)
	}
}

func (p *restoring) Lock(_ context.Context, h running.Holder) (running.Holder, error) {
	if p.holder != (running.Holder{}) {
		return p.holder, nil
	}
	return h, nil
}

func (p *restoring) Unlock(context.Context, running.Holder) error {
	p.free = true
	return nil
}

// TestRestoreLocked waits for who changes the stack: what is restored would meet other containers.
func TestRestoreLocked(t *testing.T) {
	a, p, _, on, stack, b := restored(t)
	p.holder = running.Holder{ID: "x", User: "ada", Host: "elsewhere", PID: 1,
		Command: "codexctl rollback prod"}
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
	if err == nil || !strings.HasPrefix(err.Error(), "lock: `codexctl rollback prod` of ada") ||
		len(*p.done) > 0 || p.free {
		t.Errorf("got %v after %q", err, *p.done)
	}
}

// TestRestoreRefused: what cannot be restored there, and what nobody agreed to, does nothing.
func TestRestoreRefused(t *testing.T) {
	for want, change := range map[string]func(*stacks.Stack, *restoreOptions){
		"there is no terminal to ask on: add --yes": func(_ *stacks.Stack, o *restoreOptions) {
			o.yes = false
		},
		"has documents, and stack prod takes none": func(s *stacks.Stack, _ *restoreOptions) {
			s.Services = slices.Delete(s.Services, 1, 2)
		},
		"take 5B of memory, and Redis of stack prod has 4": func(s *stacks.Stack, _ *restoreOptions) {
			s.Service(stacks.Redis).Resources.Memory = 4
		},
		"has no Redis of its own": func(s *stacks.Stack, _ *restoreOptions) {
			s.Services = slices.Delete(s.Services, 0, 1)
		},
	} {
		a, p, _, on, stack, b := restored(t)
		o := restoreOptions{yes: true}
		change(&stack, &o)
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
		err := a.restoreBackup(t.Context(), on, stack, k, b, o)
		if err == nil || !strings.Contains(err.Error(), want) || len(*p.done) > 0 {
			t.Errorf("want %q, got %v after %q", want, err, *p.done)
		}
	}
}

// TestRestoreUnrecorded says what comes back where nobody signs in, before anything is done.
func TestRestoreUnrecorded(t *testing.T) {
	const warning = "what they deleted since the backup comes back"
	for how, want := range map[string]bool{gateenv.Accounts: false, gateenv.None: true} {
		a, p, said, on, stack, b := restored(t)
		stack.Service(stacks.Gate).Contract = &gateenv.Config{SignIn: how}
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
		err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{})
		if err == nil || len(*p.done) > 0 || strings.Contains(said.String(), warning) != want {
			t.Errorf("sign-in %s: %v after %q, said %s", how, err, *p.done, said)
		}
	}
}

// TestFiles lists the files, and says what the service says of them.
func TestFiles(t *testing.T) {
	a, p, said, _, _, _ := restored(t)
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	files, err := k.Files(t.Context())
	if err != nil || !slices.Equal(files, []string{"one", "two"}) ||
		said.String() != "some may be missing\n" {
		t.Errorf("%q, %v, said %q", files, err, said.String())
	}
}
