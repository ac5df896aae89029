package e2e

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// developed runs tests and linters of a service in its development container, which find nothing,
// and then what they are to find. The flags are those of both commands.
func developed(t *testing.T, c *checkout, flags ...string) {
	const dir = "services/backend/internal/generation/"
	run := func(want int, command string, args ...string) (said string) {
		t.Helper()
		start := time.Now()
		out, errOut, err := c.run(t, 15*time.Minute, "bin/codexctl",
			append(append([]string{command, "backend"}, flags...), args...)...)
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if err != nil && exit == nil || code != want {
			t.Errorf("%s %v: %v after %s, want exit code %d:\n%s\n%s",
				command, args, err, time.Since(start), want, tail(out, 30), tail(errOut, 30))
		}
		return out + errOut
	}
	says := func(said string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(said, w) {
				t.Errorf("it does not say %q:\n%s", w, tail(said, 30))
			}
		}
	}

	says(run(0, "test", "--", "-run", "^TestTitle$", "-v"), "--- PASS: TestTitle", "ok ")
	run(0, "lint")

	// An edit is there in the next run.
	c.write(t, dir+"wrong_test.go", `package generation

import "testing"

func TestWrong(t *testing.T) { t.Error("it is wrong") }
`)
	says(run(1, "test", "--", "-run", "^TestWrong$"), "--- FAIL: TestWrong", "it is wrong")
	c.write(t, dir+"wrong_test.go", `package generation

import ("fmt"; "testing")

func TestWrong(t *testing.T) { fmt.Printf("%d", "text") }

func unused() {}
`)
	says(run(1, "lint"), "not gofmt'ed:\n"+dir+"wrong_test.go",
		"wrong_test.go:5:44: fmt.Printf format %d", "func unused is unused (U1000)")
	if err := os.Remove(c.path(dir + "wrong_test.go")); err != nil {
		t.Fatal(err)
	}
}

// write writes a file of the checkout.
func (c *checkout) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(c.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// repository makes the checkout one of git, which says what a cluster is sent.
func (c *checkout) repository(t *testing.T) {
	t.Helper()
	c.must(t, time.Minute, "git", "init", "--quiet")
}
