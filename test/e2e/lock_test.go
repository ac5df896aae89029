package e2e

import (
	"strings"
	"testing"
	"time"
)

// deploysAlone checks that a stack which another machine changes is left alone until that is done,
// or somebody frees it, and that a deploy leaves no lock.
func deploysAlone(t *testing.T, c *checkout, stack string) {
	t.Helper()
	locks := func() string {
		return c.must(t, time.Minute, "docker", "volume", "ls", "-q", "--filter",
			"name=codexcontinue-lock-"+stack)
	}
	if left := locks(); left != "" {
		t.Errorf("up has left its lock: %s", left)
	}

	c.must(t, time.Minute, "docker", "volume", "create", "--label",
		`dev.codexcontinue.lock={"id":"x","user":"ada","host":"elsewhere","pid":7,`+
			`"command":"codexctl up `+stack+`","since":"2026-01-02T03:04:00Z"}`,
		"codexcontinue-lock-"+stack)
	for _, command := range []string{"up", "down"} {
		_, errOut, err := c.run(t, time.Minute, "bin/codexctl", command, stack)
		if err == nil || !strings.Contains(errOut, "of ada@elsewhere (process 7), since 2026-01-02") ||
			!strings.Contains(errOut, "codexctl unlock "+stack) {
			t.Errorf("%s of a locked stack: %v, %s", command, err, errOut)
		}
	}

	c.must(t, time.Minute, "bin/codexctl", "unlock", stack)
	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	if left := locks(); left != "" {
		t.Errorf("up has left its lock: %s", left)
	}
}
