package cli

import (
	"os"
	"os/exec"
	"testing"

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
