package diff

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
)

// Action is what happens to a resource.
type Action string

// The actions, in the order in which they are shown.
const (
	Delete  Action = "delete"
	Replace Action = "replace"
	Update  Action = "update"
	Create  Action = "create"
	// Options are changed options of a resource (protection, what it waits for) that change nothing of it by themselves.
	Options Action = "options"
)

var actionOrder = map[Action]int{Delete: 0, Replace: 1, Update: 2, Create: 3, Options: 4}

// Resource is one that changes.
type Resource struct {
	Action Action `json:"action"`
	URN    string `json:"urn"`
	Type   string `json:"type"`
	Name   string `json:"name"`
	// Component says that it only groups others: nothing of it is on an engine or in a cluster.
	Component bool `json:"component,omitempty"`
	// Retained says that deleting it takes it out of the stack only: what it stands for stays.
	Retained bool `json:"retained,omitempty"`
	// Downtime says that the old one goes before the new one is there.
	Downtime bool `json:"downtime,omitempty"`
	// Unsure says that nothing is known about its type: what is shown as an update may be a replacement.
	Unsure bool `json:"unsure,omitempty"`
	// Properties are those that change; of a created or deleted resource, what it has.
	Properties []Property `json:"properties,omitempty"`
}

// Property is a changed property.
type Property struct {
	// Path is its place; elements of lists that have a name are named by it.
	Path string `json:"path"`
	// Before and After are absent where there is none.
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
	// Replaces says that the change replaces the resource.
	Replaces bool `json:"replaces,omitempty"`
	// From names the replaced resources whose values, known later, make the change.
	From []string `json:"from,omitempty"`
	// same says for people where the same change is told.
	same string
}

// holds says that the path is the property's, or lies in it.
func (p Property) holds(path string) bool {
	rest, ok := strings.CutPrefix(path, p.Path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Kind is the last part of the type: Container, Deployment.
func (r Resource) Kind() string { return r.Type[strings.LastIndex(r.Type, ":")+1:] }

func (r Resource) count() Counts {
	switch r.Action {
	case Create:
		return Counts{Create: 1}
	case Update:
		return Counts{Update: 1}
	case Replace:
		return Counts{Replace: 1}
	case Delete:
		return Counts{Delete: 1}
	}
	return Counts{}
}

const stackType = "pulumi:pulumi:Stack"

// compareResources pairs the resources by URN and says what happens to each.
func compareResources(before, after []plan.Resource, secrets *numbers) []Resource {
	old := map[string]plan.Resource{}
	for _, r := range before {
		old[r.URN] = r
	}
	var out []Resource
	changed := map[string]*Resource{} // of the new ones, by "type name"
	kept := map[string]bool{}
	for _, now := range after {
		urn := now.URN
		if _, ok := old[urn]; !ok {
			for _, alias := range now.Aliases {
				if _, ok := old[alias]; ok {
					urn = alias
					break
				}
			}
		}
		r := Resource{URN: now.URN, Type: now.Type, Name: now.Name, Component: now.Component}
		was, ok := old[urn]
		kept[urn] = ok
		if !ok {
			r.Action, r.Properties = Create, compareInputs(plan.Resource{}, now, secrets)
			changed[now.Type+" "+now.Name] = &r
			out = append(out, r)
			continue
		}
		r.Properties = slices.DeleteFunc(compareInputs(was, now, secrets), func(p Property) bool { return ignored(now, p.Path) })
		r.decide(now)
		if r.Action == "" {
			if r.Properties = compareOptions(was, now); len(r.Properties) > 0 {
				r.Action = Options
			}
		}
		changed[now.Type+" "+now.Name] = &r
		out = append(out, r)
	}
	spread(out, after)
	for _, was := range before {
		if kept[was.URN] {
			continue
		}
		out = append(out, Resource{Action: Delete, URN: was.URN, Type: was.Type, Name: was.Name, Component: was.Component,
			Retained: was.Options != nil && was.Options.RetainOnDelete, Properties: compareInputs(was, plan.Resource{}, secrets)})
	}
	out = slices.DeleteFunc(out, func(r Resource) bool { return r.Action == "" })
	slices.SortFunc(out, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(actionOrder[a.Action], actionOrder[b.Action]), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.URN, b.URN))
	})
	return out
}

// decide says what the changed properties do to the resource.
func (r *Resource) decide(now plan.Resource) {
	if len(r.Properties) == 0 {
		return
	}
	r.Action = Update
	known := false
	for i := range r.Properties {
		p := &r.Properties[i]
		p.Replaces, known = replaces(now, p.Path)
		if p.Replaces {
			r.Action = Replace
		}
		r.Unsure = r.Unsure || !known
	}
	if r.Action == Replace {
		r.Unsure = false
		r.Downtime = now.Options != nil && now.Options.DeleteBeforeReplace != nil && *now.Options.DeleteBeforeReplace
	}
}

// spread follows what is known later: an input that comes from a replaced resource changes with it. resources are those of
// after, in its order.
func spread(resources []Resource, after []plan.Resource) {
	replaced := map[string]bool{}
	for again := true; again; {
		again = false
		for i := range resources {
			// A provider refers to a resource by a value that a new resource has anew.
			if key := after[i].Type + " " + after[i].Name; resources[i].Action == Replace && !replaced[key] {
				replaced[key], again = true, true
			}
		}
		for i := range resources {
			r, now := &resources[i], after[i]
			if r.Action == Create {
				continue
			}
			for _, input := range keysOf(now.ComputedFrom, nil) {
				from := slices.DeleteFunc(slices.Clone(now.ComputedFrom[input]), func(ref string) bool { return !replaced[ref] })
				for _, path := range computedPaths(elementNames(now.Type), input, now.Inputs[input]) {
					why := slices.DeleteFunc(slices.Clone(from), func(ref string) bool { return kind(path) != kind(ref) })
					if len(why) == 0 || ignored(now, path) || r.Action != Options && slices.ContainsFunc(r.Properties, func(p Property) bool { return p.holds(path) }) {
						continue
					}
					if r.Action == Options {
						r.Properties = nil
					}
					r.Properties = append(r.Properties, Property{Path: path, Before: plan.Computed, After: plan.Computed, From: why})
					r.decide(now)
					again = true
				}
			}
		}
	}
}

// computedPaths are the places in an input whose values are known later.
func computedPaths(names []string, path string, v any) []string {
	var out []string
	switch v := v.(type) {
	case string:
		if v == plan.Computed {
			out = append(out, path)
		}
	case map[string]any:
		for _, key := range keysOf(v, nil) {
			out = append(out, computedPaths(names, recorder.Path(path, key), v[key])...)
		}
	case []any:
		at := make([]string, len(v))
		for i := range v {
			at[i] = recorder.Path(path, i)
		}
		byName, _ := elements(names, v)
		for name, i := range byName {
			at[i] = path + "[" + name + "]"
		}
		for i, e := range v {
			out = append(out, computedPaths(names, at[i], e)...)
		}
	}
	return out
}

// kind is what sort of thing a property's value, or a resource, is: an image, a ConfigMap, a Secret or anything else. The
// SDK tells from which resources an input comes and not which part of it: in a pod, each comes from its own kind.
func kind(pathOrRef string) string {
	word, _, _ := strings.Cut(strings.ToLower(pathOrRef), " ")
	for _, k := range []string{"configmap", "secret"} {
		if strings.HasSuffix(word, ":"+k) || strings.Contains(word, "."+k+".") {
			return k
		}
	}
	if strings.HasSuffix(word, "image") {
		return "image"
	}
	return ""
}

// ignored says that the engine does not look at changes of the property.
func ignored(r plan.Resource, path string) bool {
	return r.Options != nil && matches(r.Options.IgnoreChanges, path)
}

// compareOptions are the changed options of a resource that is otherwise the same.
func compareOptions(before, after plan.Resource) []Property {
	var b, a plan.Options
	if before.Options != nil {
		b = *before.Options
	}
	if after.Options != nil {
		a = *after.Options
	}
	var out []Property
	add := func(name string, before, after any) {
		if !reflect.DeepEqual(before, after) {
			out = append(out, Property{Path: name, Before: before, After: after})
		}
	}
	add("retainOnDelete", b.RetainOnDelete, a.RetainOnDelete)
	add("protect", b.Protect, a.Protect)
	add("parent", before.Parent, after.Parent)
	add("provider", before.Provider, after.Provider)
	add("deleteBeforeReplace", flag(b.DeleteBeforeReplace), flag(a.DeleteBeforeReplace))
	each := func(name string, before, after []string) {
		for _, s := range before {
			if !slices.Contains(after, s) {
				add(name, s, nil)
			}
		}
		for _, s := range after {
			if !slices.Contains(before, s) {
				add(name, nil, s)
			}
		}
	}
	each("dependsOn", b.DependsOn, a.DependsOn)
	each("ignoreChanges", b.IgnoreChanges, a.IgnoreChanges)
	each("replaceOnChanges", b.ReplaceOnChanges, a.ReplaceOnChanges)
	return out
}

func flag(b *bool) any {
	if b == nil {
		return nil
	}
	return *b
}

// compareOutputs are the changed outputs of the stack itself.
func compareOutputs(before, after []plan.Resource) []Property {
	var outputs [2]map[string]any
	for i, list := range [][]plan.Resource{before, after} {
		for _, r := range list {
			if r.Type == stackType {
				outputs[i] = r.Outputs
			}
		}
	}
	if outputs[0] == nil || outputs[1] == nil {
		return nil // a new stack, or one that is gone: its resources tell
	}
	c := comparison{}
	c.object("", "", "", outputs[0], outputs[1])
	return c.out
}
