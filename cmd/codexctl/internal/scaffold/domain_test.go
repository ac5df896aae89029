package scaffold_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
)

// TestDomainInTree adds a domain to a copy of the tree. Of the files that were there the list of
// overlays changes alone, and the new stack passes the tests that every stack passes.
func TestDomainInTree(t *testing.T) {
	dir := copyOfTree(t)
	change, err := scaffold.Domain(dir, "legal-advice")
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
		case kind == "??" && strings.Contains(path, "legal-advice"):
		default:
			t.Errorf("the domain changes %s %s", kind, path)
		}
	}
}
