package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestAuditTable holds what people see of records: names of accounts that there are, pseudonyms of
// others, and nothing that a record could do to a terminal.
func TestAuditTable(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var lines []string
	for i, r := range []auditlog.Record{
		{Action: auditlog.Question, Outcome: auditlog.Intent, Actor: "p1", Address: "192.0.2.7"},
		{Action: auditlog.SignIn, Outcome: auditlog.Refused, Object: "p1"},
		{Action: auditlog.Delete, Outcome: auditlog.Done, Actor: "p2", Object: "conversation:x"},
		{Action: auditlog.Configuration, Outcome: auditlog.Done, By: "ca\x1b[31mrol",
			Detail: map[string]string{"revision": "abc", "settings": "def"}},
		{Action: auditlog.Command, Outcome: auditlog.Failed, By: "carol",
			Detail: map[string]string{"service": "redis", "program": "sh", "code": "3"}},
		{Action: auditlog.Read, Outcome: auditlog.Intent, By: "carol", Object: "p1",
			Detail: map[string]string{"reason": "case\n4711"}},
		{Action: auditlog.Access, Outcome: auditlog.Refused, Actor: "p1", Object: "key:x",
			Detail: map[string]string{"route": "GET /v1/models", "why": "expired"}},
	} {
		r.Number, r.Time = int64(i)+1, at
		lines = append(lines, auditlog.Key{}.Seal(r))
	}

	var out strings.Builder
	if err := writeAudit(&out, lines, map[string]string{"p1": "ada"}); err != nil {
		t.Fatal(err)
	}

	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	const when = " 2026-11-26 12:00:00 "
	want := []string{
		"RECORD TIME WHO FROM DID OUTCOME ABOUT MODEL BYTES",
		"1" + when + "ada 192.0.2.7 question intent 0",
		"2" + when + "sign-in refused ada 0",
		"3" + when + "p2 delete done conversation:x 0",
		"4" + when + `"ca\x1b[31mrol" configuration done abc def 0`,
		"5" + when + `"carol" command failed redis sh 3 0`,
		"6" + when + `"carol" read intent ada "case\n4711" 0`,
		"7" + when + "ada access refused key:x GET /v1/models: expired 0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed is\n%s", strings.Join(got, "\n"))
	}

	if err := writeAudit(&out, []string{"x"}, nil); err == nil {
		t.Error("what is no record was printed")
	}
}

// TestAuditOptions: what cannot be done together is refused, and nothing is left out silently.
func TestAuditOptions(t *testing.T) {
	for line, want := range map[string]string{
		"--verify --export x":            "--verify and --against check all records",
		"--verify --since 2026-11":       "--since 2026-11 is no day",
		"--verify --json":                "--verify and --against check all records",
		"--against x --export y":         "--verify and --against check all records",
		"--against x --since 2026-11-26": "--verify and --against check all records",
		"--person ada --export x":        "--person prints the records of one person",
		"--person ada --verify":          "--person prints the records of one person",
		"--copy x --verify":              "--copy checks a file alone",
		"--copy x --json":                "--copy checks a file alone",
		"--export x --json":              "--export writes the records to a file",
	} {
		var stderr strings.Builder
		args := append([]string{"audit", "-C", t.TempDir()}, strings.Fields(line)...)
		code := Run(t.Context(), args, nil, nil, io.Discard, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), "error: "+want) {
			t.Errorf("%s: exit code %d, %s", line, code, &stderr)
		}
	}

	for _, o := range []auditOptions{
		{verify: true, against: "x"},
		{since: "2026-11-26", person: "ada", json: true},
		{since: "2026-11-26", export: "x"},
	} {
		if err := o.check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// commands is a platform on which commands are run by a function.
type commands struct {
	platform
	gates []running.Replica
	run   func(command []string) (code int, output string)
}

func (c commands) Replicas(context.Context, string) ([]running.Replica, error) {
	return c.gates, nil
}

func (c commands) Exec(
	_ context.Context, _ running.Replica, command []string,
) (code int, output string, err error) {
	code, output = c.run(command)
	return code, output, nil
}

// TestAuditCopy: a copy is checked in the order of its records, each once, without what stands
// around them.
func TestAuditCopy(t *testing.T) {
	var lines []string
	for n := range 3 {
		lines = append(lines, auditlog.Key{}.Seal(auditlog.Record{Number: int64(n) + 1}))
	}

	dir := write(t, "log", "listening\n"+lines[2]+"\r\n"+lines[0]+"\n{}\n"+lines[1]+"\n"+lines[2]+
		"\n", "other", "nothing\n")
	var got string
	code := 0
	g := gate{program: "/gate", platform: gateRuns{run: func(
		command []string, s running.Streams,
	) (int, error) {
		b, err := io.ReadAll(s.In)
		got = strings.Join(command, " ") + "\n" + string(b)
		fmt.Fprintln(s.Out, "as they were written")
		fmt.Fprintln(s.Err, "gate: record 2: it is lost")
		return code, err
	}}}

	var out strings.Builder
	a := &App{out: console.New(&out, func(string) string { return "" })}
	if err := a.verifyCopy(t.Context(), g, filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if want := "/gate audit copy\n" + strings.Join(lines, "\n") + "\n"; got != want ||
		!strings.HasSuffix(out.String(), "log: as they were written\n") {
		t.Errorf("the gate is given\n%s, and people are told %s", got, &out)
	}

	code = 1
	err := a.verifyCopy(t.Context(), g, filepath.Join(dir, "log"))
	if err == nil || !strings.HasSuffix(err.Error(), "log: record 2: it is lost") {
		t.Errorf("what the gate finds: %v", err)
	}
	for _, name := range []string{"other", "absent"} {
		if err := a.verifyCopy(t.Context(), g, filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is checked", name)
		}
	}
}

// TestAuditLines: a gate records while its pages are read. No record is left out before one that is
// returned.
func TestAuditLines(t *testing.T) {
	const first = auditlog.PageSize + 10
	var all []string
	for n := range 3 * auditlog.PageSize {
		all = append(all, fmt.Sprint("record ", n))
	}

	recorded := all[:first]
	g := gate{program: "/gate", platform: commands{run: func(command []string) (int, string) {
		if command[2] == "days" {
			return 0, "2026-11-25\n2026-11-26\n"
		}
		if command[3] == "2026-11-25" {
			return 0, ""
		}

		from, err := strconv.Atoi(command[4])
		if err != nil {
			t.Error(err)
		}

		from = min(from, len(recorded))
		page := recorded[from:min(from+auditlog.PageSize, len(recorded))]
		if len(page) < auditlog.PageSize {
			recorded = all
		}
		return 0, strings.Join(page, "\n") + "\n"
	}}}

	lines, err := g.auditLines(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < first || !slices.Equal(lines, all[:len(lines)]) {
		t.Errorf("%d lines, which are not the first of all", len(lines))
	}
}

// TestAuditEarlierGate asks a gate for names without a day that takes none.
func TestAuditEarlierGate(t *testing.T) {
	var out strings.Builder
	a := &App{out: console.New(&out, func(string) string { return "" })}
	g := gate{program: "/gate", platform: commands{run: func(command []string) (int, string) {
		if strings.Join(command, " ") != "/gate audit names" {
			return 1, "gate: usage: gate audit verify"
		}
		return 0, `{"p1":"ada"}`
	}}}

	line := auditlog.Key{}.Seal(auditlog.Record{Number: 1, Actor: "p1"})
	err := a.printAudit(t.Context(), g, []string{line}, "2026-11-26")
	if err != nil || !strings.Contains(out.String(), "ada") {
		t.Errorf("printed is %q, %v", out.String(), err)
	}
}

// TestConfiguring holds what an up has the gates record before it and after it, and what it says of
// what they cannot.
func TestConfiguring(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "Pulumi.prod.yaml")
	if err := os.WriteFile(file, []byte("config: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	on := target{name: "prod", project: project.Project{Root: root},
		file: project.StackFile{Name: "prod", Path: file}}
	healthy := []running.Replica{{Name: "gate-1", Healthy: true}}
	for name, tt := range map[string]struct {
		signIn        string
		before, after []running.Replica
		says          string // what the first command prints: it fails if the gate's name is before it
		fails         bool   // the up
		want          []string
		said          string
	}{
		"done":              {gateenv.Accounts, healthy, healthy, "ID", false, []string{"", "ID done"}, ""},
		"failed":            {gateenv.Accounts, healthy, healthy, "ID", true, []string{"", "ID failed"}, ""},
		"the first":         {gateenv.Accounts, nil, healthy, "", false, []string{"- done"}, ""},
		"the first, failed": {gateenv.Accounts, nil, nil, "", true, nil, ""},
		"unrecorded": {gateenv.Accounts, healthy, healthy, "gate: Redis is away", false,
			[]string{"", "- done"}, "the audit does not have that this up begins: Redis is away\n"},
		"an earlier gate": {gateenv.Accounts, healthy, healthy,
			"gate: usage: gate audit verify\n       gate audit days", false, []string{"", "- done"},
			"begins: the gate that runs is of an earlier release, which does not record it\n"},
		"unwell": {gateenv.Accounts, []running.Replica{{Name: "gate-1"}}, healthy, "", false,
			[]string{"- done"}, "the audit does not have that this up begins: gate of stack prod"},
		"no gate left": {gateenv.Accounts, healthy, nil, "ID", true, []string{""},
			"the audit does not have how this up ended, which is failed: gate of stack prod"},
		"nobody signs in": {gateenv.None, healthy, healthy, "", false, []string{""}, ""},
		"nobody signs in any more": {gateenv.None, healthy, healthy, "ID", false,
			[]string{"", "ID done"}, "may not have how this up ended, which is done: it ends sign-in"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			p := &commands{gates: tt.before}
			p.run = func(command []string) (int, string) {
				if want := []string{"/gate", "audit", "up", operator(), "unknown"}; len(command) < 6 ||
					!slices.Equal(command[:5], want) || len(command[5]) != 64 {
					t.Errorf("run is %q", command)
				}
				got = append(got, strings.Join(command[6:], " "))
				switch {
				case len(got) > 1 || tt.says == "":
					return 0, ""
				case strings.HasPrefix(tt.says, "gate: "):
					return 1, tt.says
				}
				return 0, tt.says + "\n"
			}

			var said strings.Builder
			a := &App{now: time.Now, err: console.New(&said, func(string) string { return "" })}
			stack := stacks.Stack{Services: []stacks.Service{{Name: stacks.Gate,
				Contract: &gateenv.Config{SignIn: tt.signIn},
				Health:   stacks.Health{Command: []string{"/gate"}}}}}
			ctx, cancel := context.WithCancel(t.Context())
			ended := a.configuring(ctx, on, stack, p)
			cancel() // as somebody who interrupts the up
			p.gates = tt.after
			if !tt.fails {
				ended(auditlog.Done)
			}
			ended(auditlog.Failed)
			if !slices.Equal(got, tt.want) {
				t.Errorf("recorded are %q, want %q", got, tt.want)
			}
			if !strings.Contains(said.String(), tt.said) || (said.Len() > 0) != (tt.said != "") {
				t.Errorf("said is %q, want %q", said.String(), tt.said)
			}
		})
	}
}

// TestAuditPerson holds which records are of a person: those of what the person did, and those about
// the person, by what the gate says that records call them.
func TestAuditPerson(t *testing.T) {
	var lines []string
	for i, r := range []auditlog.Record{
		{Action: auditlog.UserInvited, Actor: "P1", Object: "N2"},
		{Action: auditlog.Question, Actor: "P2"},
		{Action: auditlog.Question, Actor: "P1"},
		{Action: auditlog.Read, By: "carol", Object: "P2"},
		{Action: auditlog.Move, By: "carol", Object: "P3", Detail: map[string]string{"to": "P2"}},
		{Action: auditlog.Configuration, By: "P2"},
	} {
		r.Number = int64(i) + 1
		lines = append(lines, auditlog.Key{}.Seal(r))
	}

	var said strings.Builder
	a := &App{now: time.Now, err: console.New(&said, func(string) string { return "" })}
	g := gate{program: "/gate", platform: commands{run: func(command []string) (int, string) {
		switch strings.Join(command, " ") {
		case "/gate audit person ada":
			return 0, "P2\nN2\n"
		case "/gate audit person bob":
			return 0, "P9\n"
		}
		return 1, "gate: eve: there is no account with this name"
	}}}

	of, err := a.linesOf(t.Context(), g, lines, "ada")
	if want := slices.Concat(lines[:2], lines[3:5]); err != nil || !slices.Equal(of, want) {
		t.Errorf("%q, %v", of, err)
	}
	if of, err := a.linesOf(t.Context(), g, lines, "bob"); err != nil || len(of) > 0 ||
		!strings.Contains(said.String(), "there is no record of bob") {
		t.Errorf("%q, %v, said %q", of, err, said.String())
	}
	if _, err := a.linesOf(t.Context(), g, lines, "eve"); err == nil {
		t.Error("nobody has records")
	}
	if _, err := a.linesOf(t.Context(), g, []string{"x"}, "ada"); err == nil {
		t.Error("what is no record is one of ada's")
	}
}
