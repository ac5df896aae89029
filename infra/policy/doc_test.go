package policy_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/policy"
)

var update = flag.Bool("update", false, "rewrite the table of docs/policy.md")

// TestDocumented checks that docs/policy.md lists the rules as they are;
// -update rewrites its table.
func TestDocumented(t *testing.T) {
	const path, begin, end = "../../docs/policy.md", "<!-- rules -->\n", "<!-- end of rules -->"
	table := "\n| rule | why | what to do |\n|---|---|---|\n"
	for _, r := range policy.Rules() {
		table += "| `" + r.ID + "` | " + cell(r.Reason) + " | " + cell(r.Fix) + " |\n"
	}

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the rules", path)
	}

	want := head + begin + table + "\n" + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s does not list the rules as they are: `go test ./infra/policy -run "+
			"Documented -update`",
			path)
	}
}

// cell returns the sentence as it fits into a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ToUpper(s[:1])+s[1:], "|", "\\|")
}
