package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// section is a part of a report as people read it. The same change of several plans is one entry.
type section struct {
	title   string
	entries []entry
	// byKey finds an entry by what it says.
	byKey map[string]int
	// fold says that only who wants the details reads it.
	fold bool
}

// entry is one change.
type entry struct {
	// sign is +, -, ~, ± or !.
	sign string
	// kind is what is counted where entries are summed up.
	kind string
	// names are what changes; the same change of several is one entry.
	names []string
	text  string
	props []Property
	lines []Line
	where []place
}

// place is a plan that an entry is true for.
type place struct {
	stack  string
	target stacks.Target
}

// layout sorts what changes into sections, the most important first.
func layout(r Report) []section {
	sections := []section{
		{title: "Cannot be planned"}, {title: "Stacks and services that come, go or move"}, {title: "Replaced or removed"}, {title: "Exposure"},
		{title: "Limits"}, {title: "Images"}, {title: "Model"}, {title: "Storage"}, {title: "Every change, property by property", fold: true},
	}
	at := func(i int) *section { return &sections[i] }
	for _, p := range r.Plans {
		here := place{p.Stack, p.Target}
		layoutRefusal(at(0), p, here)
		come, gone := comings(p)
		if p.Added {
			at(1).add(entry{sign: "+", kind: "stack", text: "stack " + p.Stack}, here)
		}
		if p.Removed {
			at(1).add(entry{sign: "-", kind: "stack", text: "stack " + p.Stack}, here)
		}
		if p.Moved && p.Chosen {
			at(1).add(entry{sign: "!", kind: "stack", text: fmt.Sprintf("stack %s moves to %s: what it has elsewhere is removed, but for volumes that outlive it, and all of it is made here",
				p.Stack, p.Target)}, here)
		}
		if !p.Added && !p.Removed {
			for _, s := range come {
				at(1).add(entry{sign: "+", kind: "service", text: "service " + s + ": " + describe(p.Facts, s, true)}, here)
			}
			for _, s := range gone {
				at(1).add(entry{sign: "-", kind: "service", text: "service " + s + ": " + describe(p.Facts, s, false)}, here)
			}
		}
		for _, f := range p.Facts {
			if told(f, p.Added || slices.Contains(come, f.Service), p.Removed || slices.Contains(gone, f.Service)) {
				continue
			}
			at(3+slices.Index([]Section{Exposure, Limits, Images, "", Storage}, f.Section)).add(factEntry(f), here)
		}
		if p.Model != nil {
			at(6).add(entry{sign: "~", kind: "model", text: "the model that the stack serves", props: p.Model.Properties, lines: p.Model.Lines}, here)
		}
		for _, res := range grouped(asModel(p)) {
			if !res.component && (res.action == Delete || res.action == Replace) {
				at(2).add(res.headline(), here)
			}
			at(8).add(res.detail(), here)
		}
		if len(p.Outputs) > 0 {
			at(8).add(entry{sign: "~", kind: "outputs", text: "outputs of the stack", props: p.Outputs}, here)
		}
		if len(p.Plugins) > 0 {
			at(8).add(entry{sign: "~", kind: "provider plugin", text: "provider plugins", props: p.Plugins}, here)
		}
	}
	return slices.DeleteFunc(sections, func(s section) bool { return len(s.entries) == 0 })
}

func layoutRefusal(s *section, p Plan, here place) {
	switch {
	case p.Refused == nil:
	case p.Refused.After == "":
		if !p.Added && !p.Removed {
			s.add(entry{sign: "+", kind: "plan", text: "can be planned now; it was refused before: " + p.Refused.Before}, here)
		}
	default:
		s.add(entry{sign: "!", kind: "plan", text: p.Refused.After}, here)
	}
}

// add puts the entry in, or the place to the entry that says the same.
func (s *section) add(e entry, where place) {
	key := e.key()
	if i, ok := s.byKey[key]; ok {
		if have := s.entries[i].where; have[len(have)-1] != where { // plans come one after the other
			s.entries[i].where = append(have, where)
		}
		return
	}
	if s.byKey == nil {
		s.byKey = map[string]int{}
	}
	s.byKey[key] = len(s.entries)
	e.where = []place{where}
	s.entries = append(s.entries, e)
}

// key is all that the entry says.
func (e entry) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q %q", e.sign, e.text, e.kind, e.names)
	for _, l := range e.lines {
		fmt.Fprintf(&b, "\n%s%q", l.Sign, l.Text)
	}
	b.WriteString(propertiesKey(e.props))
	return b.String()
}

func propertiesKey(props []Property) string {
	var b strings.Builder
	for _, p := range props {
		fmt.Fprintf(&b, "\n%q %v %q %q %q %q", p.Path, p.Replaces, p.From, p.same, text(p.Before), text(p.After))
	}
	return b.String()
}

// comings are the services that are new, and those that are gone.
func comings(p Plan) (come, gone []string) {
	for _, f := range p.Facts {
		if f.Section != Limits || f.What != "replicas" {
			continue
		}
		if f.Before == "" {
			come = append(come, f.Service)
		} else if f.After == "" {
			gone = append(gone, f.Service)
		}
	}
	return come, gone
}

// told says that a fact about a service that comes or goes is said with it: what is gone exposes nothing, and of what is
// new only ports and privileges are worth a line of their own.
func told(f Fact, come, gone bool) bool {
	switch f.Section {
	case Limits, Images:
		return come || gone
	case Exposure:
		return gone || come && (strings.HasPrefix(f.What, onNetwork) || strings.HasPrefix(f.What, wayOut))
	}
	return gone && f.Section == Storage && f.After == ""
}

// describe says what a service that is new, or gone, has.
func describe(facts []Fact, service string, after bool) string {
	var parts []string
	for _, f := range facts {
		if name, ok := strings.CutPrefix(f.What, onNetwork); ok && f.Service == service {
			parts = append(parts, "network "+name)
			continue
		}
		if f.Service != service || f.Section != Limits && f.Section != Images {
			continue
		}
		value := f.Before
		if after {
			value = f.After
		}
		if f.What == "gpu" && value == "none" {
			continue
		}
		parts = append(parts, f.What+" "+value)
	}
	return strings.Join(parts, ", ")
}

// openedWay is the kind of entry that says that more is exposed than before.
const openedWay = "opened way"

func factEntry(f Fact) entry {
	switch {
	case f.Opens():
		return entry{sign: "!", kind: openedWay, text: f.Service + ": " + f.What}
	case f.Section == Exposure:
		return entry{sign: "-", kind: "closed way", text: f.Service + ": no more " + f.What}
	}
	return entry{sign: "~", kind: string(f.Section), text: fmt.Sprintf("%s %s: %s → %s", f.Service, f.What, orAbsent(f.Before), orAbsent(f.After))}
}

func orAbsent(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// head is the entry's first line without its places.
func (e entry) head() string {
	if len(e.names) == 0 {
		return e.text
	}
	return e.kind + " " + strings.Join(e.names, ", ") + ": " + e.text
}

// places names the plans: "dev, prod on docker".
func places(where []place, all int) string {
	if len(where) == all && all > 1 {
		return "every plan"
	}
	byTarget := map[string][]stacks.Target{}
	var lists []string // of stacks, in order
	for _, target := range plan.Targets {
		var names []string
		for _, p := range where {
			if p.target == target {
				names = append(names, p.stack)
			}
		}
		if len(names) == 0 {
			continue
		}
		list := strings.Join(names, ", ")
		if byTarget[list] == nil {
			lists = append(lists, list)
		}
		byTarget[list] = append(byTarget[list], target)
	}
	var out []string
	for _, list := range lists {
		var targets []string
		for _, t := range byTarget[list] {
			targets = append(targets, string(t))
		}
		out = append(out, list+" on "+strings.Join(targets, " and "))
	}
	return strings.Join(out, "; ")
}

// sentence sums the report up, which the sections lay out.
func sentence(r Report, sections []section) string {
	changed := 0
	for _, p := range r.Plans {
		if p.Changed() {
			changed++
		}
	}
	if changed == 0 {
		return fmt.Sprintf("No plan changes from %s to %s (%d plans).", r.Base, r.Head, len(r.Plans))
	}
	opened := 0 // as people read them: the same way in several plans is one
	for _, part := range sections {
		for _, e := range part.entries {
			if e.kind == openedWay {
				opened++
			}
		}
	}
	c := r.Counts()
	out := fmt.Sprintf("%d of %d plans change from %s to %s: %d to create, %d to update, %d to replace, %d to delete.",
		changed, len(r.Plans), r.Base, r.Head, c.Create, c.Update, c.Replace, c.Delete)
	if opened > 0 {
		out += fmt.Sprintf(" %s.", plural(opened, "thing becomes exposed", "things become exposed"))
	}
	return out
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
