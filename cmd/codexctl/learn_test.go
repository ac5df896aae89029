package main

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/learn"
	"github.com/codexcontinue/codexcontinue/services/learning"
)

// TestDiffShowsProposal proposes a correction that was accepted in a copy of the tree. `codexctl
// diff` shows the example and what it changes in the plans, and no word that was not accepted.
func TestDiffShowsProposal(t *testing.T) {
	root, environ := sources(t)
	c := learn.Checkout{
		Root: root, Modelfile: "modelfiles/codexcontinue/Modelfile", Environ: environ,
	}
	p, err := c.Propose(t.Context(), []learning.Submission{{
		ID: "1", Question: "Mrs. Smith asks how we release.", Answer: "By hand.",
		State: learning.Accepted,
		Review: &learning.Review{
			Question: "How do we release?", Answer: "With `codexctl up prod`.",
			Must: []string{"codexctl up"}, MustNot: []string{"by hand"},
		},
	}})
	if err != nil || p.Examples != 1 || p.Cases != 1 {
		t.Fatalf("%+v, %v", p, err)
	}

	code, stdout, stderr := codexctl(environ, "diff", "-C", root, "--base", "main")
	if code != 2 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		`+ MESSAGE user """How do we release?"""`, "+   - name: learned ",
		"+ MESSAGE assistant \"\"\"With `codexctl up prod`.\"\"\"",
		"envs[MODELFILE_DIGEST]", "envs[EVALS_DIGEST]",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the report does not say %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout+p.Diff, "Smith") {
		t.Error("the change has what was not accepted")
	}
}
