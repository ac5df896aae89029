package e2e

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// runsOnce runs commands like the stack's Redis, by `codexctl run`: output, input and exit code are
// the command's, which sees the service's data, cannot change it, and has the secrets only if it is
// given them. Nothing is left, also after a signal.
func runsOnce(t *testing.T, c *checkout, stack string) {
	t.Helper()
	const script = `cat; ls /data; touch /data/once || echo reads only; ` +
		`ls /run/secrets/redis-auth.conf || echo no secret; exit 7`
	once := func(flag string) string {
		out, errOut, err := c.run(t, 2*time.Minute, "bash", "-c",
			`echo a line | bin/codexctl run -i `+flag+` -s `+stack+` redis -- sh -c '`+script+`'`)
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 7 {
			t.Errorf("the command ended with %v, want exit code 7: %s%s", err, out, errOut)
		}
		return out
	}

	out := once("")
	for _, want := range []string{"a line\n", "appendonlydir\n", "reads only\n", "no secret\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the command printed %q, which lacks %q", out, want)
		}
	}
	if out := once("--secrets"); !strings.Contains(out, "/run/secrets/redis-auth.conf\n") ||
		strings.Contains(out, "no secret") {
		t.Errorf("with its secrets the command printed %q", out)
	}

	ctx := t.Context()
	line := append(append([]string{}, c.within...), c.path("bin/codexctl"), "run", "-s", stack,
		"redis", "--", "sh", "-c", "echo it runs; exec sleep 600")
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = c.dir, c.env, os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || said != "it runs\n" {
		t.Errorf("the command that goes on printed %q, %v", said, err)
	}

	shown := func() bool {
		return strings.Contains(c.must(t, time.Minute, "bin/codexctl", "status", "--json", stack),
			`"oneOffs"`)
	}
	if !shown() {
		t.Error("status does not show the command that runs")
	}

	start := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	t.Logf("%s after SIGTERM: %v", filepath.Base(cmd.Path), err)
	for shown() {
		if time.Since(start) > time.Minute {
			t.Error("the command is left after SIGTERM")
			return
		}
		time.Sleep(time.Second)
	}
}

// commandsAudited wants that the audit has what looksInside and runsOnce did, each command as it was
// about to be run and as it ended.
func commandsAudited(t *testing.T, c *checkout, stack string) {
	t.Helper()
	begun, ended := map[string]bool{}, map[string]bool{}
	lines := c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--json")
	for line := range strings.Lines(lines) {
		r, err := auditlog.Parse(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.Action != auditlog.Command || r.By == "" {
			continue
		}

		what := r.Detail["service"] + " " + r.Detail["program"]
		switch r.Outcome {
		case auditlog.Intent:
			begun[r.ID+" "+what] = true
		case auditlog.Failed:
			if begun[r.ID+" "+what] {
				ended[what+" "+r.Detail["code"]] = true
			}
		}
	}

	for _, want := range []string{stacks.Redis + " sh 7", "run-" + stacks.Redis + " sh 7"} {
		if !ended[want] {
			t.Errorf("the audit lacks %q: of commands that failed it has %v\n%s", want, ended, lines)
		}
	}
}
