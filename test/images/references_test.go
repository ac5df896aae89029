package images

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestReferencesAreThoseOfTheStack checks that the equivalents have the references that the stack
// and the Dockerfiles pin.
func TestReferencesAreThoseOfTheStack(t *testing.T) {
	script, err := os.ReadFile("build.sh")
	if err != nil {
		t.Fatal(err)
	}

	references := regexp.MustCompile(`(?m)^(\w+)_ref=(\S+)$`).FindAllSubmatch(script, -1)
	if len(references) != 5 {
		t.Fatalf("build.sh sets %d references, want 5", len(references))
	}

	pinnedIn := map[string][]string{
		"redis":   {"stacks/base.go"},
		"caddy":   {"stacks/base.go"},
		"coredns": {"stacks/base.go"},
		"ollama":  {"stacks/base.go", "services/ollama/Dockerfile"},
		"golang":  {"stacks/base.go", "services/Dockerfile", "services/ollama/Dockerfile"},
	}

	for _, r := range references {
		name, reference := string(r[1]), string(r[2])
		for _, path := range pinnedIn[name] {
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`["=]` + regexp.QuoteMeta(reference) + `["\n]`).Match(text) {
				t.Errorf("%s does not pin %s, which build.sh makes for %s", path, reference, name)
			}
		}
	}
}
