package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/status"
)

// TestRelease is the life of a model's versions: one that passes its evals serves, one that fails
// never does, and an earlier one serves again within seconds and stays.
func TestRelease(t *testing.T) {
	enabled(t)
	const stack = "e2e-release"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, `
		overlay: prod
		portOffset: 31000
		model: {base: tiny}`)
	const folder = "modelfiles/codexcontinue"
	writeEvals(t, c.path(folder), "twenty fixed words")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "correct-horse-battery-staple")

	up := func() string { return c.must(t, 20*time.Minute, "bin/codexctl", "up", stack) }
	list := func() (r status.Releases) {
		t.Helper()
		out := c.must(t, time.Minute, "bin/codexctl", "model", "list", stack, "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}
	serves := func() string {
		t.Helper()
		for _, v := range list().Replicas[0].Releases {
			if v.Serves {
				return v.Version
			}
		}
		return ""
	}

	if out := up(); !strings.Contains(out, "1 of 1 evals passed") {
		t.Errorf("up says nothing of the evals:\n%s", out)
	}
	first := serves()

	edit(t, c, folder+"/Modelfile", "You are CodexContinue,", "You really are CodexContinue,")
	if out := c.must(t, time.Minute, "bin/codexctl", "status", stack); !strings.Contains(out,
		"drift      the Modelfile makes the version ") {
		t.Errorf("status does not see that the Modelfile has changed:\n%s", out)
	}
	up()
	second := serves()
	if second == first || first == "" {
		t.Fatalf("%q serves, then %q", first, second)
	}

	start := time.Now()
	c.must(t, time.Minute, "bin/codexctl", "model", "rollback", stack)
	t.Logf("rolled back in %.1f s", time.Since(start).Seconds())
	out := c.must(t, time.Minute, "bin/codexctl", "status", stack)
	if !strings.Contains(out, "drift      the version "+first+" serves, rolled back from "+second) {
		t.Errorf("status after the rollback:\n%s", out)
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "restart", "--stack", stack, "ml")
	up()
	if now := serves(); now != first {
		t.Errorf("after a restart and an up %s serves, not %s", now, first)
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "model", "apply", stack)
	if now := serves(); now != second {
		t.Errorf("after apply %s serves, not %s", now, second)
	}

	// Another prompt, whose answers fail.
	edit(t, c, folder+"/Modelfile", "You really are CodexContinue,", "You are not CodexContinue,")
	writeEvals(t, c.path(folder), "something else")
	_, said, err := c.run(t, 20*time.Minute, "bin/codexctl", "up", stack)
	said = strings.Join(strings.Fields(said), " ")
	if err == nil || !strings.Contains(said, "does not pass its evals") ||
		!strings.Contains(said, `"answers" must match "something else"`) {
		t.Errorf("up with evals that fail: %v\n%s", err, tail(said, 40))
	}
	if now := serves(); now != second {
		t.Errorf("%s serves, not %s", now, second)
	}
	said = c.must(t, time.Minute, "bin/codexctl", "history", "-n", "1", stack)
	if !strings.Contains(said, " model not ready ") {
		t.Errorf("the history is\n%s", said)
	}

	out, _, err = c.run(t, 5*time.Minute, "bin/codexctl", "model", "eval", stack)
	if err == nil || !strings.Contains(out, "0 of 1 evals passed") || !strings.Contains(
		strings.Join(strings.Fields(out), " "), answer) {
		t.Errorf("eval of what serves: %v\n%s", err, out)
	}

	writeEvals(t, c.path(folder), "twenty fixed words")
	up()
	if now := serves(); now == second || now == first {
		t.Errorf("%s serves still", now)
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}
