package cli

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestGone: a process is known to be gone only where its number means the same process.
func TestGone(t *testing.T) {
	boot, namespace := running.Here()
	if boot == "" {
		t.Skip("this system does not say which processes it sees")
	}

	ended := exec.Command(os.Args[0], "-test.run=^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}

	dead := running.Holder{
		Host: hostname(), PID: ended.Process.Pid, Boot: boot, PIDNamespace: namespace,
	}
	if !gone(dead) {
		t.Error("a process that has ended is taken for one that runs")
	}

	for name, change := range map[string]func(h *running.Holder){
		"that runs":                       func(h *running.Holder) { h.PID = os.Getpid() },
		"of a machine of the same name":   func(h *running.Holder) { h.Boot = "another" },
		"of a container of the same name": func(h *running.Holder) { h.PIDNamespace = "pid:[1]" },
		"of another host":                 func(h *running.Holder) { h.Host = "another" },
		"of which nothing is known": func(h *running.Holder) {
			h.Boot, h.PIDNamespace = "", ""
		},
	} {
		h := dead
		change(&h)
		if gone(h) {
			t.Errorf("a process %s is taken for one that has ended", name)
		}
	}
}

// lockedBy is a platform whose lock a process holds, unless its ID is empty.
type lockedBy struct {
	platform
	holder   running.Holder
	unlocked []string // the IDs
}

func (l *lockedBy) Holder(context.Context) (h running.Holder, held bool, err error) {
	return l.holder, l.holder.ID != "", nil
}

func (l *lockedBy) Unlock(_ context.Context, h running.Holder) error {
	l.unlocked = append(l.unlocked, h.ID)
	return nil
}

// TestFree: Pulumi's lock is removed only while the lock is as it was when it was decided to.
func TestFree(t *testing.T) {
	for _, c := range []struct {
		before, now string // who has it
		want        string
	}{
		{"a", "a", ""},
		{"", "", ""},
		{"a", "b", "meanwhile"},
		{"", "b", "meanwhile"},
		{"a", "", "meanwhile"},
	} {
		var said strings.Builder
		a := &App{now: time.Now, err: console.New(&said, func(string) string { return "" })}
		p := &lockedBy{holder: running.Holder{ID: c.now}}
		canceled := false
		err := a.free(t.Context(), p, running.Holder{ID: c.before}, c.before != "",
			func(context.Context) error {
				canceled = true
				return nil
			})

		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) ||
			canceled != (c.want == "") {
			t.Errorf("of %q, now of %q: %v, canceled %v", c.before, c.now, err, canceled)
		}
		if free := c.want == "" && c.now != ""; (len(p.unlocked) > 0) != free {
			t.Errorf("of %q, now of %q: unlocked %q", c.before, c.now, p.unlocked)
		}
	}
}
