package diff

import (
	"cmp"
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

	// byKey holds the index of each entry, by the entry without its places.
	byKey map[string]int

	// fold reports whether only who wants the details reads it.
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

// Titles of sections. Those of facts have the name of the facts' section.
const (
	refusedPlans = "Cannot be planned"
	comeAndGo    = "Stacks and services that come, go or move"
	replacements = "Replaced or removed"
	modelChanges = "Model"
	everything   = "Every change, property by property"
)

// titles are in the order in which the sections are shown, the most important first.
var titles = []string{
	refusedPlans, comeAndGo, replacements, title(Exposure), title(Limits), title(Images),
	modelChanges, title(Storage), everything,
}

func title(s Section) string { return strings.ToUpper(string(s[:1])) + string(s[1:]) }

// layout sorts what changes into sections.
func layout(r Report) []section {
	sections := make([]section, len(titles))
	for i, title := range titles {
		sections[i].title, sections[i].fold = title, title == everything
	}

	for _, p := range r.Plans {
		p.layout(func(title string, e entry) {
			sections[slices.Index(titles, title)].add(e, place{p.Stack, p.Target})
		})
	}

	return slices.DeleteFunc(sections, func(s section) bool { return len(s.entries) == 0 })
}

// layout adds what changes in the plan to the section of the title.
func (p Comparison) layout(add func(title string, e entry)) {
	note := func(title, sign, kind, text string) {
		add(title, entry{sign: sign, kind: kind, text: text})
	}

	switch r := p.Refused; {
	case r == nil:
	case r.After != "":
		note(refusedPlans, "!", "plan", r.After)
	case !p.Added && !p.Removed:
		note(refusedPlans, "+", "plan", "can be planned now; it was refused before: "+r.Before)
	}

	come, gone := comings(p)
	switch {
	case p.Added:
		note(comeAndGo, "+", "stack", "stack "+p.Stack)
	case p.Removed:
		note(comeAndGo, "-", "stack", "stack "+p.Stack)
	default:
		if p.Moved && p.Chosen {
			note(comeAndGo, "!", "stack", fmt.Sprintf("stack %s moves to %s: what it has elsewhere "+
				"is removed, but for volumes that outlive it, and all of it is made here",
				p.Stack, p.Target))
		}

		for _, s := range come {
			note(comeAndGo, "+", "service", "service "+s+": "+describe(p.Facts, s, true))
		}

		for _, s := range gone {
			note(comeAndGo, "-", "service", "service "+s+": "+describe(p.Facts, s, false))
		}
	}

	for _, f := range p.Facts {
		if !impliedByService(f, p.Added || slices.Contains(come, f.Service),
			p.Removed || slices.Contains(gone, f.Service)) {
			add(title(f.Section), factEntry(f))
		}
	}

	if m := p.Model; m != nil {
		add(modelChanges, entry{sign: "~", kind: "model", text: "the model that the stack serves",
			props: m.Properties, lines: m.Lines})
		if len(m.EvalsLines) > 0 {
			add(modelChanges, entry{sign: "~", kind: "evals",
				text: "the evals that a version of it has to pass", lines: m.EvalsLines})
		}
	}

	for _, g := range grouped(asModel(p)) {
		if !g.Component && (g.Action == Delete || g.Action == Replace) {
			add(replacements, g.headline())
		}
		add(everything, g.entry())
	}

	if len(p.Outputs) > 0 {
		add(everything, entry{sign: "~", kind: "outputs", text: "outputs of the stack",
			props: p.Outputs})
	}

	if len(p.Plugins) > 0 {
		add(everything, entry{sign: "~", kind: "provider plugin", text: "provider plugins",
			props: p.Plugins})
	}
}

// add puts the entry in, or the place to the entry that is otherwise the same.
func (s *section) add(e entry, where place) {
	key := fmt.Sprintf("%#v", e)
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

// comings returns the services that are new, and those that are gone.
func comings(p Comparison) (come, gone []string) {
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

// impliedByService reports whether the entry of a service that comes or goes covers the
// fact: what is gone exposes nothing, and of what is new only ports and privileges are
// worth a line of their own.
func impliedByService(f Fact, come, gone bool) bool {
	switch f.Section {
	case Limits, Images:
		return come || gone
	case Exposure:
		network := strings.HasPrefix(f.What, onNetwork) || strings.HasPrefix(f.What, wayOut)
		return gone || come && network
	}

	return gone && f.Section == Storage && f.After == ""
}

// describe returns what a service that is new, or gone, has.
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

// openedWay is the kind of an entry where more is exposed than before.
const openedWay = "opened way"

func factEntry(f Fact) entry {
	switch {
	case f.Opens():
		return entry{sign: "!", kind: openedWay, text: f.Service + ": " + f.What}
	case f.Section == Exposure:
		return entry{sign: "-", kind: "closed way", text: f.Service + ": no more " + f.What}
	}

	return entry{sign: "~", kind: string(f.Section), text: fmt.Sprintf("%s %s: %s → %s",
		f.Service, f.What, cmp.Or(f.Before, "(none)"), cmp.Or(f.After, "(none)"))}
}

// head returns the entry's first line without its places.
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

	var out []string
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

		on := strings.Join(names, ", ") + " on "
		if i := len(out) - 1; i >= 0 && strings.HasPrefix(out[i], on) {
			out[i] += " and " + string(target)
		} else {
			out = append(out, on+string(target))
		}
	}

	return strings.Join(out, "; ")
}

// sentence sums up the report, which the sections lay out.
func sentence(r Report, sections []section) string {
	changed := 0
	for _, p := range r.Plans {
		if p.Changed() {
			changed++
		}
	}

	if changed == 0 {
		return fmt.Sprintf("No plan changes from %s to %s (%d plans).", r.Base, r.Head,
			len(r.Plans))
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
	out := fmt.Sprintf("%d of %d plans change from %s to %s: "+
		"%d to create, %d to update, %d to replace, %d to delete.",
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
