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
// begins with fails.
type restoring struct {
	platform
	holder running.Holder // who has the lock; the zero value is nobody
	free   bool           // whether the lock was given back

	done  *[]string
	read  map[string]string // what commands have read, by what is noted of them
	fails string
}

func (p *restoring) Replicas(_ context.Context, service string) ([]running.Replica, error) {
	return []running.Replica{{Name: service, Service: service, Healthy: true}}, nil
}

func (p *restoring) note(what string) error {
	*p.done = append(*p.done, what)
	if p.fails != "" && strings.HasPrefix(what, p.fails) {
		return errors.New("it broke")
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
	case "audit days":
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
	case what == "backup create":
		return 0, json.NewEncoder(s.Out).Encode(listed{Name: "backup-of-before"})
	case strings.HasPrefix(what, "gate replay"):
		_, err := io.WriteString(s.Out, `{"done":{"erase":1},"left":{"password":2},"failed":[]}`)
		return 0, err
	}
	return 0, nil
}

// restored is a stack into which a backup is restored.
func restored(t *testing.T) (*App, *restoring, *strings.Builder, target, stacks.Stack, *backups.Backup) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	begun := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
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

	erasures, err := os.Create(filepath.Join(dir, archive.ErasuresFile(begun.Add(time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	err = archive.SealJSON(erasures, []age.Recipient{id.Recipient()},
		[]auditlog.Record{{ID: "1", Time: begun.Add(time.Minute), Action: auditlog.Erase, Object: "ada"}})
	if err := errors.Join(err, erasures.Close()); err != nil {
		t.Fatal(err)
	}

	b, err := backups.Open(t.Context(), backups.Folder(dir), "", t.TempDir(), []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}

	var said strings.Builder
	getenv := func(string) string { return "" }
	a := &App{in: strings.NewReader(""), now: time.Now, out: console.New(&said, getenv),
		err: console.New(&said, getenv)}
	p := &restoring{done: new([]string), read: map[string]string{}}
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
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup"}
	err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
	if err != nil {
		t.Fatal(err)
	}

	replay := "gate replay --by=" + operator() + " " + b.Name
	want := []string{"backup create", "receive in /data", "finish in /data", "restart redis",
		"backup documents", "restart knowledge", "restart gate", replay}
	if !slices.Equal(*p.done, want) {
		t.Errorf("done is %q, want %q", *p.done, want)
	}
	if p.read["receive in /data"] != "REDIS" || p.read["backup documents"] != "documents" ||
		!strings.Contains(p.read[replay], `"object":"ada"`) {
		t.Errorf("read are %q", p.read)
	}
	tail := p.read["finish in /data"]
	for day, there := range map[string]bool{
		"2026-11-01": false, "2026-11-20": true, "2026-11-26": true, "2026-11-27": true,
	} {
		if strings.Contains(tail, "record of "+day) != there {
			t.Errorf("the audit goes on with %s: %t", day, !there)
		}
	}
	for _, line := range []string{"backup-of-before", "done again since the backup: 1 erase",
		"not done again: 2 password", "codexcontinue (0123456789ab)"} {
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
		says string
		last string
	}{
		"backup create":    {"so nothing was replaced", "backup create"},
		"receive":          {"Redis: it broke", "receive in /data"},
		"finish":           {"Redis: it broke", "finish in /data"},
		"restart redis":    {"Redis: it broke", "restart redis"},
		"backup documents": {"Redis has the backup already", "backup documents"},
		"gate replay":      {"what was erased since the backup is there again", "gate replay"},
	} {
		a, p, _, on, stack, b := restored(t)
		p.fails = fails
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup"}
		err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
		last := (*p.done)[len(*p.done)-1]
		if err == nil || !strings.Contains(err.Error(), want.says) || !strings.HasPrefix(last, want.last) {
			t.Errorf("%s: %v after %q", fails, err, last)
		}
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
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup"}
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
		"has no Redis of its own": func(s *stacks.Stack, _ *restoreOptions) {
			s.Services = slices.Delete(s.Services, 0, 1)
		},
	} {
		a, p, _, on, stack, b := restored(t)
		o := restoreOptions{yes: true}
		change(&stack, &o)
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup"}
		err := a.restoreBackup(t.Context(), on, stack, k, b, o)
		if err == nil || !strings.Contains(err.Error(), want) || len(*p.done) > 0 {
			t.Errorf("want %q, got %v after %q", want, err, *p.done)
		}
	}
}
