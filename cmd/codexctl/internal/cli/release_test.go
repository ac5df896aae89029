package cli

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestDrift: what serves and the Modelfile are compared with what the last up was with.
func TestDrift(t *testing.T) {
	const a, b, c = "aaaaaaaaaaaa11", "bbbbbbbbbbbb22", "cccccccccccc33"
	for name, tc := range map[string]struct {
		model  status.Model
		digest string
		want   string
	}{
		"none":                        {status.Model{Digest: a, Serves: a[:12]}, a, ""},
		"no state":                    {status.Model{}, a, ""},
		"settings that are not valid": {status.Model{Digest: a, Serves: a[:12]}, "", ""},
		"a changed Modelfile": {status.Model{Digest: a, Serves: a[:12]}, b,
			"the Modelfile makes the version bbbbbbbbbbbb, and the last up was with aaaaaaaaaaaa"},
		"rolled back": {status.Model{Digest: a, Serves: b[:12], RolledBack: true}, a,
			"the version bbbbbbbbbbbb serves, rolled back from aaaaaaaaaaaa"},
		"failed": {status.Model{Digest: a, Serves: c[:12]}, a,
			"the version cccccccccccc serves, not yet aaaaaaaaaaaa"},
	} {
		if got := drift(tc.model, tc.digest); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// making is a platform whose service that makes the model prints a text.
type making struct {
	platform
	code   int
	output string
	words  []string
}

func (m *making) Exec(
	_ context.Context, _ running.Replica, words []string,
) (int, string, error) {
	m.words = words
	return m.code, m.output, nil
}

func TestMakerRuns(t *testing.T) {
	p := &making{output: `{"name":"m","version":"aaaaaaaaaaaa"}`}
	m := maker{platform: p, program: "/ml", name: "team/clinic"}
	r, err := m.ask(t.Context(), "rollback", "x")
	if err != nil || r.Version != "aaaaaaaaaaaa" ||
		!slices.Equal(p.words, []string{"/ml", "model", "rollback", "x"}) {
		t.Errorf("%+v, %v, ran %q", r, err, p.words)
	}

	m.stack.Services = []stacks.Service{{Name: stacks.Ollama, Replicas: 3}}
	if _, err := m.rollback(t.Context(), []string{"x"}); err != nil || !slices.Equal(p.words,
		[]string{"/ml", "model", "rollback", "--replicas", "3", "x"}) {
		t.Errorf("%v, ran %q", err, p.words)
	}

	p.output = "no JSON"
	if _, err := m.ask(t.Context(), "list"); err == nil {
		t.Error("it takes what is no JSON")
	}

	p.code, p.output = 1, "testing eval 1 of 1\n{\"level\":\"WARN\"}\n"+
		"ml: there is none: see `codexctl model list STACK`"
	want := "there is none: see `codexctl model list team/clinic`"
	if _, err := m.run(t.Context(), "rollback"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	p.output = "killed"
	if _, err := m.run(t.Context(), "apply"); err == nil || err.Error() != "killed" {
		t.Errorf("got %v", err)
	}
}

// TestPrintReleases: each Ollama has a table unless all are the same.
func TestPrintReleases(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var out, errs bytes.Buffer
	none := func(string) string { return "" }
	a := &App{out: console.New(&out, none), err: console.New(&errs, none),
		now: func() time.Time { return now }}
	release := func(since time.Duration, verdict string, serves bool) status.Release {
		return status.Release{Version: "aaaaaaaaaaaa", Since: now.Add(-since), Verdict: verdict,
			Serves: serves, Wanted: true}
	}
	r := status.Releases{Name: "m"}
	one := func(at string, v status.Release) {
		r.Replicas = append(r.Replicas, status.Replica{Address: at, Releases: []status.Release{v}})
	}

	one("10.0.0.1", release(time.Hour, "passed", true))
	one("10.0.0.2", release(2*time.Hour, "passed", true))
	a.printReleases(r)
	if text := out.String(); strings.Count(text, "aaaaaaaaaaaa") != 1 ||
		!strings.Contains(text, "passed") || strings.Contains(text, "10.0.0.1") ||
		!strings.Contains(text, "serves, what the Modelfile makes") {
		t.Errorf("both are the same:\n%s", text)
	}

	out.Reset()
	one("10.0.0.3", release(time.Hour, "", false))
	a.printReleases(r)
	if text := out.String(); strings.Count(text, "aaaaaaaaaaaa") != 3 ||
		!strings.Contains(text, "ollama at 10.0.0.3") || !strings.Contains(text, "not asked") {
		t.Errorf("one is another:\n%s", text)
	}

	out.Reset()
	a.printFailures(status.Evals{Passed: 1, Total: 2, Failures: []status.EvalFailure{
		{Name: "greets", Safety: true, Wrong: []string{`must match "hello"`}, Answer: "\x1b[2JNo."},
	}})
	for _, want := range []string{"1 of 2 evals passed", `greets (safety): must match "hello"`,
		"it says: "} {
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%q does not say %q", out.String(), want)
		}
	}
}

// TestReleaseArguments: a version may be left out, a stack may not.
func TestReleaseArguments(t *testing.T) {
	for _, c := range (&App{}).releaseCommands() {
		name := c.Name()
		if err := c.Args(c, nil); err == nil || !errors.As(err, new(usageError)) {
			t.Errorf("%s without a stack: %v", name, err)
		}
		if err := c.Args(c, []string{"a"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		takes := name == "eval" || name == "rollback"
		if err := c.Args(c, []string{"a", "b"}); (err == nil) != takes {
			t.Errorf("%s with a version: %v", name, err)
		}
	}
}
