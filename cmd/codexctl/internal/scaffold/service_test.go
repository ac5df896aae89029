package scaffold_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
	"github.com/codexcontinue/codexcontinue/test/worktree"
)

// TestService adds a service to a copy of the tree. What changes of the files that were there is
// two lines of stacks/ and its goldens, the service passes its own tests, and every stack runs it.
func TestService(t *testing.T) {
	dir := copyOfTree(t)
	addService(t, dir, "a-test-only")

	run(t, dir, "go", "test", "./stacks", "-run", "^TestShippedStacks$", "-update")
	run(t, dir, "go", "vet", "./services/a-test-only/...")
	run(t, dir, "go", "test", "./services/a-test-only/...", "./stacks", "./test/images",
		withoutServers)
	// What of other packages speaks of the services that there are.
	run(t, dir, "go", "test", "-vet=off", "./cmd/codexctl", "./cmd/codexctl/internal/cli",
		"./infra/kubernetes",
		"-run", "^(TestScripts|TestPlanTellsGaps|TestScaling)$/^(develop|policy|export)$")
	if unformatted := run(t, dir, "gofmt", "-l", "services/a-test-only", "stacks"); unformatted != "" {
		t.Errorf("not formatted:\n%s", unformatted)
	}

	for line := range strings.Lines(run(t, dir, "git", "status", "--porcelain", "-uall")) {
		kind, path := strings.TrimSpace(line[:2]), strings.TrimSpace(line[2:])
		switch {
		case kind == "??" && strings.HasPrefix(path, "services/a-test-only"):
		case kind == "??" && path == "stacks/a-test-only.go":
		case kind == "M" && (path == "stacks/base.go" || path == "stacks/dev.go"):
		case kind == "M" && strings.HasPrefix(path, "stacks/testdata/"):
		default:
			t.Errorf("the service changes %s %s", kind, path)
		}
	}

	for _, stack := range []string{"dev", "prod", "healthcare"} {
		golden, err := os.ReadFile(filepath.Join(dir, "stacks/testdata", stack+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(golden, []byte(`"Name": "a-test-only"`)) {
			t.Errorf("%s does not run the service", stack)
		}
	}
}

// TestServicesTakePortsOfTheirOwn checks that a second service gets other ports than the first.
func TestServicesTakePortsOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"stacks/base.go": "package stacks\n\nvar ownServices = []int{\n\tml,\n}\n",
		"stacks/dev.go":  "package stacks\n\nvar debuggers = map[string]int{\n\tML: 2347,\n}\n",
	} {
		writeFile(t, filepath.Join(dir, path), text)
	}
	addService(t, dir, "one")
	addService(t, dir, "two")

	for path, wants := range map[string][]string{
		"stacks/base.go":         {"oneService,\n\ttwoService,\n"},
		"stacks/dev.go":          {`"one": 2348,`, `"two": 2349,`},
		"stacks/one.go":          {"onePort = 8003\n"},
		"stacks/two.go":          {"twoPort = 8004\n"},
		"services/two/.air.toml": {"--listen=:2349"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not hold %q:\n%s", path, want, text)
			}
		}
	}
}

func TestServiceRefuses(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "stacks/dev.go"), "package stacks\n\nvar debuggers = ports()\n")
	writeFile(t, filepath.Join(dir, "services/contract/contract.go"), "package contract\n")
	for name, want := range map[string]string{
		"redis":    `name "redis": a stack has that already: choose another name`,
		"model":    `name "model": a stack has that already: choose another name`,
		"service":  `name "service": means something else in an image or to Go: choose another name`,
		"etc":      `name "etc": means something else in an image or to Go: choose another name`,
		"run":      `name "run": means something else in an image or to Go: choose another name`,
		"vendor":   `name "vendor": means something else in an image or to Go: choose another name`,
		"contract": "services/contract: exists already: choose another name",
		"search":   "stacks/dev.go: has no variable debuggers that holds a composite literal",
	} {
		_, err := scaffold.Service(dir, scaffold.Name(name))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}

	_, err := scaffold.Service(t.TempDir(), "search")
	if err == nil || err.Error() != "stacks/dev.go: no such file or directory" {
		t.Errorf("no checkout: %v", err)
	}
}

func addService(t *testing.T, dir, name string) {
	t.Helper()
	change, err := scaffold.Service(dir, scaffold.Name(name))
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Write(dir); err != nil {
		t.Fatal(err)
	}
}

// copyOfTree returns a repository of what git knows of the working tree, uncommitted changes too.
func copyOfTree(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not on PATH")
	}
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	if err := worktree.Copy(t.Context(), root, dir); err != nil {
		t.Fatal(err)
	}

	run(t, dir, "git", "init", "-q")
	run(t, dir, "git", "add", "-A")
	run(t, dir, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "before")
	return dir
}

// run returns what the command prints. Its flags are those that all else is compiled with, so that
// other modules are not compiled again; nor with -trimpath is what is the same in the copy.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false "+os.Getenv("GOFLAGS"),
		"GOPROXY=off")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}
