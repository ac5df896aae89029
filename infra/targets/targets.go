// Package targets says what becomes of each field of a stack on each target. The table of docs/targets.md is made from it, and
// the tests hold every entry against what the targets do with a stack in which that field changes.
package targets

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Fate is what a target does with a field.
type Fate string

// What can become of a field.
const (
	// Rendered fields stand in what is provisioned: a change of one is a change of the plan.
	Rendered Fate = "rendered"
	// Refused fields are errors that name the field and the target.
	Refused Fate = "refused"
	// Unenforced fields ask for a limit that the target does not have: it lets more through, which Gaps names.
	Unenforced Fate = "not enforced"
	// Machine fields are for who runs the machine, or the cluster's nodes, to set.
	Machine Fate = "the machine's"
	// Other fields are not the target's to render: another field says the same to it, or something else reads them.
	Other Fate = "other"
)

// Outcome is what becomes of a field on one target.
type Outcome struct {
	Fate Fate
	// Text says as what, where or why: a part of a sentence.
	Text string
}

// Capability is what becomes of one field.
type Capability struct {
	// Field is Type.Field of package stacks.
	Field              string
	Docker, Kubernetes Outcome
}

// On is what becomes of the field on the target.
func (c Capability) On(t stacks.Target) Outcome {
	if t == stacks.Kubernetes {
		return c.Kubernetes
	}
	return c.Docker
}

// Fields are those of a Stack and of everything in it, as Type.Field in the order of their declaration. A field that only holds
// others, a struct or a list of them, is not among them; an optional part of the stack (a pointer) is, beside its own fields.
func Fields() []string {
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

// Markdown writes the table, in a section for each type.
func Markdown(w io.Writer) error {
	var b strings.Builder
	section := ""
	for _, c := range Capabilities {
		kind, field, _ := strings.Cut(c.Field, ".")
		if kind != section {
			section = kind
			fmt.Fprintf(&b, "\n### %s\n\n| field | Docker | Kubernetes |\n|---|---|---|\n", kind)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", field, c.Docker, c.Kubernetes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String is the outcome as the table says it.
func (o Outcome) String() string {
	text := strings.ReplaceAll(o.Text, "|", "\\|")
	switch {
	case o.Fate == Rendered:
		return text
	case text == "":
		return "*" + string(o.Fate) + "*"
	}
	return "*" + string(o.Fate) + "*: " + text
}

// Find is the entry of the field.
func Find(field string) (Capability, bool) {
	i := slices.IndexFunc(Capabilities, func(c Capability) bool { return c.Field == field })
	if i < 0 {
		return Capability{}, false
	}
	return Capabilities[i], true
}
