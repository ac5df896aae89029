package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
)

// TestDomainInTree adds a domain to a copy of the tree. Of the files that were there the list of
// overlays changes alone, and the new stack passes the tests that every stack passes, as one of
// development too.
func TestDomainInTree(t *testing.T) {
	dir := copyOfTree(t)
	// It is as long as a name can be and sorts before the others; the tree has none of that name.
	name, err := scaffold.ParseName("a-name-of-a-test-at-length")
	if err != nil {
		t.Fatal(err)
	}
	change, err := scaffold.Domain(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Write(dir); err != nil {
		t.Fatal(err)
	}

	run(t, dir, "go", "test", "./stacks", "-run", "^TestShippedStacks$", "-update")
	run(t, dir, "go", "vet", "./stacks/...")
	run(t, dir, "go", "test", "./stacks/...")
	if unformatted := run(t, dir, "gofmt", "-l", "stacks"); unformatted != "" {
		t.Errorf("not formatted:\n%s", unformatted)
	}

	for line := range strings.Lines(run(t, dir, "git", "status", "--porcelain", "-uall")) {
		kind, path := strings.TrimSpace(line[:2]), strings.TrimSpace(line[2:])
		switch {
		case kind == "M" && path == "stacks/overlay.go":
		case kind == "??" && strings.Contains(path, string(name)):
		default:
			t.Errorf("the domain changes %s %s", kind, path)
		}
	}

	overlay := filepath.Join(dir, "stacks", string(name)+".go")
	text, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, overlay, strings.Replace(string(text), "\tprod(s, c)", "\tdev(s, c)", 1))
	run(t, dir, "go", "test", "-vet=off", "./infra/docker", "./infra/targets",
		"-run", "^(TestBenchmark|TestSameDescription)$")
}
