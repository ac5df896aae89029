package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/composefiles"
	"github.com/codexcontinue/codexcontinue/test/load"
	"github.com/codexcontinue/codexcontinue/test/load/chaos"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestLoadBesideCompose puts prod through the same twice: provisioned by codexctl, which holds its
// promises, and by docker compose from files that say the same, with the same images, changes and
// kills. `make load-compose` runs it.
func TestLoadBesideCompose(t *testing.T) {
	enabled(t)
	compose, version, err := composefiles.Find(t.Context(), exec.LookPath)
	if err != nil {
		peers.Missing(t, "compose", err)
	}

	t.Logf("docker compose %s", version)

	ours := onDocker(t, "e2e-load")
	ours.down()
	theirs := onCompose(t, compose, "e2e-compose-load")
	var out bytes.Buffer
	printLoads(&out, ours, theirs)
	t.Logf("\n%s", out.String())
}

// onCompose puts a stack of docker compose through everything. What is lost is told, and no failure
// of the test.
func onCompose(t *testing.T, compose []string, stack string) *loaded {
	t.Helper()
	c := copyTree(t)
	edit(t, c, "stacks/base.go", `"`+stacks.OllamaImage+`"`, `"`+slowImage+`"`)
	c.remove(t, stack)
	l := &loaded{checkout: c, t: t, stack: stack}
	l.settings = dockerSettings + "\nredisPassword: {secure: none}"
	secret, again := "correct-horse-battery-staple", []string(nil)
	// Compose does not see that a secret's file has changed: whoever knows that says what is to be
	// made anew.
	l.password = func(value string) {
		secret = value
		again = []string{"--force-recreate", "--no-deps", stacks.Redis, stacks.Backend}
	}

	var args []string
	l.prepare = func() {
		s := c.load(t, stack)
		p := composefiles.Project{
			Stack: s, Name: stack, Overlay: "prod", Root: c.dir, Images: c.buildImages(t, s),
			Secrets: map[string]string{stacks.RedisPassword: secret},
		}

		var err error
		if args, err = p.Write(c.path("compose")); err != nil {
			t.Fatal(err)
		}
	}

	l.up = func() {
		// With --wait the next change comes when this one is through.
		command := slices.Concat(compose[1:], args, []string{"up", "-d", "--wait"}, again)
		again = nil
		if _, said, err := c.run(t, 20*time.Minute, compose[0], command...); err != nil {
			t.Logf("docker compose up: %v\n%s", err, tail(said, 10))
		}
	}

	c.settings(t, stack, l.settings)
	l.prepare()
	l.up()
	modelReady(t, dockerURL)
	l.start(dockerURL)
	l.updates()
	engine := chaos.NewCompose(stack)
	l.kills(engine.Kill, engine.Healthy)
	l.stop()
	down := slices.Concat(compose[1:], args, []string{"down", "-v"})
	c.must(t, 15*time.Minute, compose[0], down...)
	return l
}

// load is the stack that its settings describe now.
func (c *checkout) load(t *testing.T, stack string) stacks.Stack {
	t.Helper()
	config, err := program.ReadConfig(c.dir, stack)
	if err != nil {
		t.Fatal(err)
	}

	plain, secret := config.Own()
	_, s, err := program.Load(c.dir, stack, plain, secret)
	if err != nil {
		t.Fatal(err)
	}

	return s
}

// printLoads writes what several stacks lost that were put through the same, side by side.
func printLoads(w io.Writer, all ...*loaded) {
	row := func(name string, value func(*loaded) string) {
		fmt.Fprintf(w, "%-40s", name)
		for _, l := range all {
			fmt.Fprintf(w, "%20s", value(l))
		}
		fmt.Fprintln(w)
	}

	number := func(name string, of func(*load.Report) int) {
		row(name, func(l *loaded) string { return fmt.Sprint(of(l.report)) })
	}
	seconds := func(name string, of func(*load.Report) time.Duration) {
		row(name, func(l *loaded) string { return fmt.Sprintf("%.1f s", of(l.report).Seconds()) })
	}
	row("", func(l *loaded) string { return l.stack })
	number("requests", (*load.Report).RequestCount)
	number("requests failed", (*load.Report).FailureCount)
	number("connections refused", func(r *load.Report) int { return r.Refused.Count })
	seconds("  at the longest", func(r *load.Report) time.Duration { return r.Refused.Longest })
	number("messages acknowledged", func(r *load.Report) int { return r.Acknowledged })
	number("messages lost", func(r *load.Report) int { return r.LostMessages })
	number("messages doubled", func(r *load.Report) int { return r.DoubledMessages })
	number("answers failed", func(r *load.Report) int { return r.FailedAnswers })
	number("answers lost", func(r *load.Report) int { return r.LostAnswers })
	number("answers doubled", func(r *load.Report) int { return r.DoubledAnswers })
	number("answers with wrong text", (*load.Report).WrongCount)
	number("readers that gave up", func(r *load.Report) int { return r.LostReaders })
	number("event streams taken up again", func(r *load.Report) int { return r.Reconnects })
	seconds("longest pause in an answer", func(r *load.Report) time.Duration { return r.Gaps.Max })
	seconds("all of it", func(r *load.Report) time.Duration { return r.Took })
	printSteps(w, all...)
}
