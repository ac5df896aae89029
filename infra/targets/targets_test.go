package targets_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/targets"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the table of docs/targets.md")

// TestEveryField holds that the table has an entry for each field of a stack, and none for others.
func TestEveryField(t *testing.T) {
	var got []string
	for _, c := range targets.Capabilities {
		got = append(got, c.Field)
		for name, o := range map[string]targets.Outcome{"Docker": c.Docker, "Kubernetes": c.Kubernetes} {
			if o.Text == "" {
				t.Errorf("%s on %s: nothing is said", c.Field, name)
			}
		}
	}
	if d := cmp.Diff(targets.Fields(), got); d != "" {
		t.Errorf("the table does not have the fields of stacks.Stack (-fields +table):\n%s", d)
	}
}

// TestDocumented holds that docs/targets.md has the table as it is; -update rewrites it.
func TestDocumented(t *testing.T) {
	const path, begin, end = "../../docs/targets.md", "<!-- table -->\n", "<!-- end of table -->"
	var table bytes.Buffer
	if err := targets.Markdown(&table); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", path)
	}
	want := head + begin + table.String() + "\n" + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s does not have the table as it is: `go test ./infra/targets -run Documented -update`", path)
	}
}
