package targets_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// fate is what a target does with a field. In the table it begins a cell, in italics.
type fate string

const (
	// A rendered field stands in what is provisioned: a change of it is a change of the plan. It is
	// the fate of a cell that names none.
	fateRendered fate = "rendered"

	// A refused field is an error that names the field and the target.
	fateRefused fate = "refused"

	// A field that is not enforced asks for a limit that the target does not have: it lets more
	// through, which Gaps names.
	fateUnenforced fate = "not enforced"

	// The machine's fields are for those to set who run the machine, or the cluster's nodes.
	fateMachine fate = "the machine's"

	// Another field is not the target's to render: a field beside it has the same effect, or
	// something else reads it.
	fateOther fate = "other"
)

// outcome is what becomes of a field on one target. Its text is as what, where or why.
type outcome struct {
	fate fate
	text string
}

// row is what becomes of one field, which is named Type.Field.
type row struct {
	field              string
	docker, kubernetes outcome
}

// on returns what becomes of the field on the target.
func (r row) on(t stacks.Target) outcome {
	if t == stacks.Kubernetes {
		return r.kubernetes
	}
	return r.docker
}

// table returns the rows of docs/targets.md, in their order.
func table(t *testing.T) []row {
	t.Helper()
	const path, begin, end = "../../docs/targets.md", "<!-- table -->\n", "<!-- end of table -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	_, rest, ok := strings.Cut(string(text), begin)
	lines, _, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no table", path)
	}

	var out []row
	kind := ""
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "### "); ok {
			kind = name
			continue
		}

		if line == "" || line == "| field | Docker | Kubernetes |" || line == "|---|---|---|" {
			continue
		}

		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !strings.HasPrefix(line, "| `") || !strings.HasSuffix(line, " |") {
			t.Fatalf("%s: no row of the table: %s", path, line)
		}

		field := strings.Trim(cells[0], "| `")
		kubernetes := strings.TrimSuffix(cells[2], " |")
		out = append(out, row{kind + "." + field, outcomeOf(cells[1]), outcomeOf(kubernetes)})
	}

	return out
}

func outcomeOf(cell string) outcome {
	for _, f := range []fate{fateRefused, fateUnenforced, fateMachine, fateOther} {
		if text, ok := strings.CutPrefix(cell, "*"+string(f)+"*: "); ok {
			return outcome{f, text}
		}
	}
	return outcome{fateRendered, cell}
}

// find returns the field's row.
func find(t *testing.T, field string) row {
	t.Helper()
	rows := table(t)
	i := slices.IndexFunc(rows, func(r row) bool { return r.field == field })
	if i < 0 {
		t.Fatalf("the table has no %s", field)
	}
	return rows[i]
}

// fields returns those of a Stack and of everything in it, as Type.Field in the order of their
// declaration. A field that only holds others, a struct or a list of them, is not among them. An
// optional part of the stack (a pointer) is, beside its own fields.
func fields() []string {
	var out []string
	seen := map[reflect.Type]bool{}

	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		if seen[t] {
			return
		}

		seen[t] = true

		var inside []reflect.Type
		for i := range t.NumField() {
			f := t.Field(i)
			of, optional := f.Type, f.Type.Kind() == reflect.Pointer
			if optional || of.Kind() == reflect.Slice {
				of = of.Elem()
			}

			holds := of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]()
			if holds {
				inside = append(inside, of)
			}
			if !holds || optional {
				out = append(out, t.Name()+"."+f.Name)
			}
		}

		for _, x := range inside {
			visit(x)
		}
	}

	visit(reflect.TypeFor[stacks.Stack]())

	return out
}

// TestEveryField checks that the table has a row for each field of a stack, and none for others,
// and that no cell is empty.
func TestEveryField(t *testing.T) {
	var got []string
	for _, r := range table(t) {
		got = append(got, r.field)
		for _, target := range both {
			switch text := r.on(target).text; {
			case text == "":
				t.Errorf("%s on %s: the cell is empty", r.field, target)
			case strings.HasPrefix(text, "*"):
				t.Errorf("%s on %s: no such fate: %s", r.field, target, text)
			}
		}
	}

	if d := cmp.Diff(fields(), got); d != "" {
		t.Errorf("docs/targets.md does not have the fields of a stack (-fields +table):\n%s", d)
	}
}
