// Package diff compares the plans of two revisions, property by property, and reports what the
// changes mean: what is replaced or removed, what becomes exposed, which limits, images and models
// change.
//
// It works on recorded plans alone. What only an engine, a cluster or a provider knows it does not
// guess: see Unknown.
package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Version of the Report. It changes when a reader of the old one would misread the new one.
const Version = 1

// Report is what changes between two sets of plans.
type Report struct {
	Version int `json:"version"`

	// Base and Head name the revisions, for a person.
	Base string `json:"base"`
	Head string `json:"head"`

	// Plans are all that were compared, changed or not, by stack and target.
	Plans []Comparison `json:"plans"`

	// Unknown is what plans without a login cannot know.
	Unknown []string `json:"unknown"`
}

// Comparison is what changes in the plan of one stack on one target.
type Comparison struct {
	Stack  string        `json:"stack"`
	Target stacks.Target `json:"target"`

	// Chosen reports whether the stack's settings name this target; the other plans are what if.
	Chosen bool `json:"chosen"`

	// Moved reports whether the settings named another target before, or name another one now.
	Moved bool `json:"moved,omitempty"`

	// Refused holds why there is no plan before or after, where that changes or the plan is chosen.
	Refused *Refusal `json:"refused,omitempty"`

	// Added and Removed report whether the stack itself is new or gone.
	Added   bool   `json:"added,omitempty"`
	Removed bool   `json:"removed,omitempty"`
	Counts  Counts `json:"counts"`

	// Facts are what the changes mean for services.
	Facts []Fact `json:"facts,omitempty"`
	Model *Model `json:"model,omitempty"`

	// Resources are those that change, by what happens to them, kind and name.
	Resources []Resource `json:"resources,omitempty"`

	// Outputs are those of the stack.
	Outputs []Property `json:"outputs,omitempty"`

	// Plugins are the provider plugins whose version changes.
	Plugins []Property `json:"plugins,omitempty"`

	// Picture is the Mermaid flowchart of the chosen plan after the change, where its topology is
	// another one.
	Picture string `json:"picture,omitempty"`
}

// Refusal is why a target cannot have the stack; empty where it can.
type Refusal struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Counts are numbers of resources, the stack itself and its components among them.
type Counts struct {
	Create  int `json:"create"`
	Update  int `json:"update"`
	Replace int `json:"replace"`
	Delete  int `json:"delete"`
}

func countsOf(resources []Resource) Counts {
	n := map[Action]int{}
	for _, r := range resources {
		n[r.Action]++
	}
	return Counts{n[Create], n[Update], n[Replace], n[Delete]}
}

// Changed reports whether anything of the plan differs.
func (p Comparison) Changed() bool {
	return p.Refused != nil && p.Refused.Before != p.Refused.After ||
		p.Added || p.Removed || p.Moved || p.Model != nil ||
		len(p.Facts)+len(p.Resources)+len(p.Outputs)+len(p.Plugins) > 0
}

// Changed reports whether anything differs.
func (r Report) Changed() bool { return slices.ContainsFunc(r.Plans, Comparison.Changed) }

// Counts returns those of all plans together.
func (r Report) Counts() Counts {
	var all []Resource
	for _, p := range r.Plans {
		all = append(all, p.Resources...)
	}
	return countsOf(all)
}

// Unknown returns what a plan without a login, an engine and a cluster cannot know.
func Unknown() []string {
	return []string{
		"drift: what was changed by hand, and what the last `up` left behind. Both sides are " +
			"plans, not " +
			"what runs; `codexctl preview STACK` compares with what runs.",
		"defaults that the engine, the cluster or a provider fills in, and values that exist only " +
			"after provisioning.",
		"secrets: equal numbers are equal ciphertexts in the settings file. A value that is encrypted " +
			"again counts as another one, and one that is not set counts as set.",
		"what is behind a name that stays: an image of the same tag, the weights of a model of the " +
			"same name.",
		"who owns the checkout: plans are made for nobody's.",
	}
}

// Compare compares the plans of two revisions. base and head name them for a person.
func Compare(base, head string, before, after []plan.Document) (Report, error) {
	r := Report{Version: Version, Base: base, Head: head, Plans: []Comparison{}, Unknown: Unknown()}
	type key struct {
		stack  string
		target stacks.Target
	}

	pairs := map[key][2]*plan.Document{}
	for side, documents := range [][]plan.Document{before, after} {
		for i, d := range documents {
			k := key{d.Stack, d.Target}
			pair := pairs[k]
			if pair[side] != nil {
				return Report{}, fmt.Errorf("diff: two plans of %s on %s", k.stack, k.target)
			}
			pair[side] = &documents[i]
			pairs[k] = pair
		}
	}

	order := slices.SortedFunc(maps.Keys(pairs), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.stack, b.stack), cmp.Compare(a.target, b.target))
	})
	secrets := numbers{}
	for _, k := range order {
		p, err := comparePlan(pairs[k][0], pairs[k][1], secrets)
		if err != nil {
			return Report{}, fmt.Errorf("diff: %s on %s: %w", k.stack, k.target, err)
		}
		r.Plans = append(r.Plans, p)
	}

	return r, nil
}

// comparePlan compares the plans of one stack on one target; either may be nil.
func comparePlan(before, after *plan.Document, secrets numbers) (Comparison, error) {
	old, now := cmp.Or(before, &plan.Document{}), cmp.Or(after, &plan.Document{})
	some := cmp.Or(after, before)
	p := Comparison{
		Stack: some.Stack, Target: some.Target, Chosen: some.Chosen,
		Added: before == nil, Removed: after == nil,
	}

	both := before != nil && after != nil
	p.Moved = both && old.Chosen != now.Chosen
	if old.Refused != now.Refused || now.Refused != "" && now.Chosen {
		p.Refused = &Refusal{Before: old.Refused, After: now.Refused}
	}
	if p.Refused != nil && both {
		return p, nil // nothing to compare with: what a refused plan would hold is not known
	}

	p.Resources = compareResources(old.Resources, now.Resources, secrets)
	p.Counts = countsOf(p.Resources)
	p.Outputs = compareOutputs(old.Resources, now.Resources)
	p.Plugins = comparePlugins(old.Plugins, now.Plugins)
	p.Model = compareModel(old.Model, now.Model)

	var views [2]workload.View
	for i, d := range []*plan.Document{old, now} {
		if d.Refused != "" || len(d.Resources) == 0 {
			continue
		}
		var err error
		if views[i], err = workload.Of(*d); err != nil {
			return Comparison{}, err
		}
	}

	p.Facts = compareFacts(views[0], views[1])
	if p.Chosen && p.Refused == nil {
		p.Picture = picture(views[0], views[1])
	}

	return p, nil
}

func comparePlugins(before, after map[string]string) []Property {
	var out []Property
	for _, name := range keysOf(before, after) {
		// A package that comes or goes shows by its resources.
		if b, a := before[name], after[name]; b != a && b != "" && a != "" {
			out = append(out, Property{Path: name, Before: b, After: a})
		}
	}

	return out
}
