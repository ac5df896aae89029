// Package workflows tests the repository's GitHub workflows as far as that is possible without
// GitHub: their permissions, and the scripts that they run.
package workflows

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const root = "../../.github"

type workflow struct {
	On          yaml.Node
	Permissions map[string]string
	Jobs        map[string]struct {
		Permissions map[string]string
		Environment string
		Minutes     int `yaml:"timeout-minutes"`
		Steps       []struct {
			Uses, Run, If string
			With          map[string]any
		}
	}
}

func read(t *testing.T, name string) (workflow, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "workflows", name))
	if err != nil {
		t.Fatal(err)
	}

	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}

	return w, string(text)
}

// pinned matches an action with the full hash of a commit, and its version for whoever updates it.
var pinned = regexp.MustCompile(`^\s*(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)

func TestEveryWorkflow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "workflows", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}

	for _, path := range files {
		name := filepath.Base(path)
		w, text := read(t, name)
		for line := range strings.Lines(text) {
			if strings.Contains(line, "uses:") &&
				!pinned.MatchString(strings.TrimRight(line, "\n")) {
				t.Errorf("%s: not pinned by a commit's hash with its version behind it: %s", name,
					strings.TrimSpace(line))
			}
		}

		if strings.Contains(text, "pull_request_target") {
			t.Errorf("%s runs a fork's code with the repository's secrets", name)
		}

		if w.Permissions == nil {
			t.Errorf("%s does not say its permissions: the repository's default may be to write",
				name)
		}

		for id, job := range w.Jobs {
			for _, s := range job.Steps {
				if strings.Contains(s.Run, "${{") {
					t.Errorf("%s: %s: an expression in a script is code of whoever chose its "+
						"value: hand it over in env",
						name, id)
				}

				if strings.HasPrefix(s.Uses, "actions/checkout@") &&
					s.With["persist-credentials"] != false {
					t.Errorf("%s: %s: the checkout keeps its token for later steps", name, id)
				}
			}
		}
	}
}

// TestForkSafe checks that jobs that run a fork's code can write nothing and have no secrets, and
// that jobs that can write run none of it.
func TestForkSafe(t *testing.T) {
	for _, name := range []string{"plan.yml", "test.yml"} {
		w, text := read(t, name)
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s may do %v", name, w.Permissions)
		}

		for _, word := range []string{"secrets.", "github.token", "GITHUB_TOKEN"} {
			if strings.Contains(text, word) {
				t.Errorf("%s knows %s", name, word)
			}
		}

		for id, job := range w.Jobs {
			if job.Permissions != nil || job.Environment != "" {
				t.Errorf("%s: %s has more than the workflow", name, id)
			}
		}
	}

	w, text := read(t, "plan-comment.yml")
	if len(w.Permissions) != 0 || !strings.Contains(text, "workflow_run:") {
		t.Errorf("plan-comment.yml may do %v", w.Permissions)
	}

	for _, job := range w.Jobs {
		for _, s := range job.Steps {
			if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["ref"] != nil {
				t.Error("plan-comment.yml checks out something else than the default branch")
			}
			if s.Run != "" && s.Run != ".github/scripts/comment.sh plan/plan.md" {
				t.Errorf("plan-comment.yml runs %q", s.Run)
			}
		}
	}
}

// TestPullRequestsAreTested checks that every pull request is linted and tested as the README says.
func TestPullRequestsAreTested(t *testing.T) {
	w, text := read(t, "test.yml")
	if !strings.Contains(text, "\n  pull_request:\n") {
		t.Error("test.yml does not run for pull requests")
	}

	for id, job := range w.Jobs {
		if last := job.Steps[len(job.Steps)-1].Run; last != "make "+id {
			t.Errorf("test.yml: %s ends with %q, not with `make %s`", id, last, id)
		}
	}

	if len(w.Jobs) != 2 {
		t.Errorf("test.yml has %d jobs, want lint and test", len(w.Jobs))
	}
}

// TestNightly checks that what is too long for a pull request is run all the same, with what earlier
// runs built, also where one failed, and with no right that a test could misuse.
func TestNightly(t *testing.T) {
	w, text := read(t, "e2e.yml")
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" ||
		strings.Contains(text, "secrets.") || strings.Contains(text, "pull_request") {
		t.Errorf("e2e.yml may do %v, or runs a fork's code or with secrets", w.Permissions)
	}
	for _, when := range []string{"\n  schedule:\n", "\n  workflow_dispatch:\n"} {
		if !strings.Contains(text, when) {
			t.Errorf("e2e.yml has no %s", strings.TrimSpace(when))
		}
	}

	job := w.Jobs["e2e"]
	if len(w.Jobs) != 1 || job.Permissions != nil || job.Minutes != 90 {
		t.Fatalf("e2e.yml has %d jobs, the one of e2e %d minutes", len(w.Jobs), job.Minutes)
	}

	var order []string
	var kept []any
	for _, s := range job.Steps {
		action, _, _ := strings.Cut(s.Uses, "@")
		switch {
		case strings.HasPrefix(action, "actions/cache/"):
			order, kept = append(order, action), append(kept, s.With["path"])
			if action == "actions/cache/save" && s.If != "${{ !cancelled() }}" {
				t.Errorf("what was built is kept if %q", s.If)
			}
		case s.Run == ".ci/run":
			order = append(order, s.Run)
		}
	}
	want := []string{"actions/cache/restore", ".ci/run", "actions/cache/save"}
	if !slices.Equal(order, want) {
		t.Fatalf("e2e.yml runs %v, want %v", order, want)
	}
	const paths = "~/.cache/codexcontinue-test\n~/.cache/go-build\n~/go/pkg/mod\n"
	if kept[0] != paths || kept[1] != paths {
		t.Errorf("it has %q and keeps %q", kept[0], kept[1])
	}
}

// TestDeployIsApproved checks that up needs a preview and the environment whose
// reviewers approve it.
func TestDeployIsApproved(t *testing.T) {
	w, _ := read(t, "deploy.yml")
	if w.Jobs["preview"].Environment != "${{ matrix.stack }}-preview" ||
		w.Jobs["up"].Environment != "${{ matrix.stack }}" {
		t.Errorf("the environments are %q and %q", w.Jobs["preview"].Environment,
			w.Jobs["up"].Environment)
	}

	for id, job := range w.Jobs {
		runs := 0
		for _, s := range job.Steps {
			if s.Run == ".github/scripts/deploy.sh "+id {
				runs++
			}
		}

		if runs != 1 {
			t.Errorf("deploy.yml: %s does not run .github/scripts/deploy.sh %s", id, id)
		}
	}
}

const marker = "<!-- codexctl diff -->"

// TestComment runs the script with a gh that answers as the API does and records its calls.
func TestComment(t *testing.T) {
	for _, program := range []string{"bash", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not on PATH", program)
		}
	}

	ours := `{"id":7,"user":{"login":"github-actions[bot]"},"body":"` + marker + `\nold"}`
	copied := `{"id":8,"user":{"login":"mallory"},"body":"` + marker + `\nold"}`
	pulls := `[{"number":3,"head":{"sha":"other"}},{"number":5,"head":{"sha":"abc"}}]`
	for name, c := range map[string]struct {
		plan, pulls, comments string
		fails                 bool
		says, told            string
	}{
		"first": {marker + "\nplan", pulls, `[]`, false, "commented on #5",
			"POST repos/o/r/issues/5/comments"},
		"update": {marker + "\nplan", pulls, `[` + copied + `,` + ours + `]`, false,
			"updated the comment on #5", "PATCH repos/o/r/issues/comments/7"},
		"somebody else's": {marker + "\nplan", pulls, `[` + copied + `]`, false, "commented on #5",
			"POST repos/o/r/issues/5/comments"},
		"pages": {marker + "\nplan", pulls, `[` + copied + `][` + ours + `]`, false,
			"updated the comment on #5", "PATCH repos/o/r/issues/comments/7"},
		"pushed meanwhile": {marker + "\nplan", `[{"number":5,"head":{"sha":"newer"}}]`, `[]`,
			false, "no open pull request is at abc", ""},
		"no plan":    {"", pulls, `[]`, false, "there is no plan", ""},
		"not a plan": {"approved!", pulls, `[]`, true, "this is no plan", ""},
		"too long":   {marker + strings.Repeat("\nx", 40000), pulls, `[]`, true, "more than the 64000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string, mode os.FileMode) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), mode); err != nil {
					t.Fatal(err)
				}
				return path
			}

			write("gh", fmt.Sprintf(`#!/usr/bin/env bash
case "$*" in
*"repos/o/r/pulls "*"head=fork:feature/x"*) cat %[1]s/pulls ;;
*"--paginate repos/o/r/issues/5/comments"*) cat %[1]s/comments ;;
"api --method "*) echo "$3 $4" >%[1]s/told; f=${6#body=@}; cat "$f" >%[1]s/body ;;
*) echo "gh $*: unexpected" >&2; exit 1 ;;
esac
`, dir), 0o755)

			write("pulls", c.pulls, 0o644)
			write("comments", c.comments, 0o644)
			plan := filepath.Join(dir, "plan.md")
			if c.plan != "" {
				write("plan.md", c.plan+"\n", 0o644)
			}

			cmd := exec.Command("bash", filepath.Join(root, "scripts/comment.sh"), plan)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "REPOSITORY=o/r",
				"HEAD_OWNER=fork", "HEAD_BRANCH=feature/x", "HEAD_SHA=abc")
			out, err := cmd.CombinedOutput()
			if (err != nil) != c.fails || !bytes.Contains(out, []byte(c.says)) {
				t.Fatalf("%v: %s", err, out)
			}

			told, _ := os.ReadFile(filepath.Join(dir, "told"))
			if got := strings.TrimSpace(string(told)); got != c.told {
				t.Errorf("told GitHub %q, want %q", got, c.told)
			}
			if c.told == "" {
				return
			}

			body, err := os.ReadFile(filepath.Join(dir, "body"))
			if err != nil || !strings.HasPrefix(string(body), marker+"\nplan\n") ||
				!strings.Contains(string(body), "Made by the code of abc itself") {
				t.Errorf("the comment is %q, %v", body, err)
			}
		})
	}
}
