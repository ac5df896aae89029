package outside

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Column is what became of the attempts from somewhere.
type Column struct {
	Title   string
	Results []Result
}

// CompareTable compares the columns, whose rows are those of the last, with the table that the file
// has between <!-- name --> and <!-- end of name -->. With update it writes that.
func CompareTable(t testing.TB, file, name string, update bool, columns ...Column) {
	t.Helper()
	table := tableOf(columns)
	begin, end := "<!-- "+name+" -->\n\n", "\n<!-- end of "+name+" -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, table)
	}

	before, rest, ok := strings.Cut(string(text), begin)
	is, after, ended := strings.Cut(rest, end)
	switch {
	case !ok || !ended:
		t.Fatalf("%s has no table between %q and %q", file, begin, end)
	case update:
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case is != table:
		t.Errorf("%s has\n%s\nthe attempts gave\n%s", file, is, table)
	}
}

func tableOf(columns []Column) string {
	var b strings.Builder
	b.WriteString("| what is tried |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.Title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")

	for _, r := range columns[len(columns)-1].Results {
		fmt.Fprintf(&b, "| %s |", r.What)
		for _, c := range columns {
			outcome := "–"
			for _, own := range c.Results {
				if own.What == r.What {
					outcome = string(own.Outcome)
				}
			}
			fmt.Fprintf(&b, " %s |", outcome)
		}
		b.WriteString("\n")
	}
	return b.String()
}
