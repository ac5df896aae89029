package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// additions are what codexctl new adds to the sources.
var additions = []struct {
	kind string

	// edited are the files that existed before; goldens do not count.
	edited []string

	// tested are the packages whose tests the addition changes.
	tested []string

	// says is what codexctl diff says of it.
	says []string
}{
	{
		kind:   "domain",
		edited: []string{"stacks/overlay.go"},
		tested: []string{"./stacks/..."},
		says: []string{
			"2 of 8 plans change", " 0 to replace, 0 to delete.",
			"+ stack legal-advice\n      legal-advice on docker and kubernetes\n",
		},
	},
}

// TestNew holds that an addition edits what it has to and nothing else, that it compiles and passes
// the tests of the sources, and that the plans show it.
func TestNew(t *testing.T) {
	for _, a := range additions {
		t.Run(a.kind, func(t *testing.T) {
			root, environ := repository(t)
			code, _, stderr := codexctl(environ, "new", "-C", root, a.kind, "legal-advice")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}

			if d := cmp.Diff(a.edited, edited(t, root)); d != "" {
				t.Errorf("the files that existed (-want +got):\n%s", d)
			}
			if out := inTree(t, root, environ, "gofmt", "-l", "."); out != "" {
				t.Errorf("not gofmt'ed: %s", out)
			}
			inTree(t, root, environ, "go", append([]string{"vet"}, a.tested...)...)

			inTree(t, root, environ, "go", "test", "./stacks", "-run", "Shipped", "-update")
			inTree(t, root, environ, "go", append([]string{"test"}, a.tested...)...)

			code, stdout, stderr := codexctl(environ, "diff", "-C", root, "--base", "main")
			if code != 2 {
				t.Fatalf("diff: exit code %d: %s", code, stderr)
			}
			for _, want := range a.says {
				if !strings.Contains(stdout, want) {
					t.Errorf("diff does not say %q:\n%s", want, stdout)
				}
			}
		})
	}
}

// repository returns a git repository, with one commit, of everything that git knows of this one.
func repository(t *testing.T) (root string, environ []string) {
	t.Helper()
	root, environ = sources(t)
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	if err != nil {
		t.Skipf("not a git repository: %v", err)
	}

	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) { // deleted, and not committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}

		to := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	commitAll(t, root)
	return root, environ
}

// edited returns the files that were changed or removed since the commit, but for goldens.
func edited(t *testing.T, root string) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "diff", "--name-only", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		return strings.Contains(name, "/testdata/")
	})
}

// inTree runs a program in the tree and returns what it wrote.
func inTree(t *testing.T, root string, environ []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = root, environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}
