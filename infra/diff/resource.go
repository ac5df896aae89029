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

	// Options are changed options of a resource (protection, what it waits for) that change nothing
	// of it by themselves.
	Options Action = "options"
)

var actions = []Action{Delete, Replace, Update, Create, Options}

// Resource is one that changes.
type Resource struct {
	Action Action `json:"action"`
	URN    string `json:"urn"`
	Type   string `json:"type"`
	Name   string `json:"name"`

	// Component reports whether it only groups others: nothing of it is on an
	// engine or in a cluster.
	Component bool `json:"component,omitempty"`

	// Retained reports whether deleting it only takes it out of the stack:
	// what it stands for stays.
	Retained bool `json:"retained,omitempty"`

	// Downtime reports whether the old one goes before the new one is there.
	Downtime bool `json:"downtime,omitempty"`

	// Unsure reports whether nothing is known about its type: an update may be a replacement.
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

	// Replaces reports whether the change replaces the resource.
	Replaces bool `json:"replaces,omitempty"`

	// From names the replaced resources whose values, known later, make the change.
	From []string `json:"from,omitempty"`

	// same is where the report for people shows the same change; empty where it does not.
	same string
}

// holds reports whether the path is the property's, or lies in it.
func (p Property) holds(path string) bool {
	rest, ok := strings.CutPrefix(path, p.Path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Kind returns the last part of the type: Container, Deployment.
func (r Resource) Kind() string { return r.Type[strings.LastIndex(r.Type, ":")+1:] }

const stackType = "pulumi:pulumi:Stack"

// compareResources pairs the resources by URN and returns those that change.
func compareResources(before, after []plan.Resource, secrets numbers) []Resource {
	old := map[string]plan.Resource{}
	for _, r := range before {
		old[r.URN] = r
	}

	var out []Resource
	kept := map[string]bool{}
	for _, now := range after {
		r := Resource{URN: now.URN, Type: now.Type, Name: now.Name, Component: now.Component}
		urns := append([]string{now.URN}, now.Aliases...)
		i := slices.IndexFunc(urns, func(urn string) bool { _, ok := old[urn]; return ok })
		if i < 0 {
			r.Action, r.Properties = Create, compareInputs(plan.Resource{}, now, secrets)
			out = append(out, r)
			continue
		}

		was := old[urns[i]]
		kept[was.URN] = true
		r.Properties = slices.DeleteFunc(compareInputs(was, now, secrets), func(p Property) bool {
			return ignored(now, p.Path)
		})
		r.decide(now)
		if r.Action == "" {
			if r.Properties = compareOptions(was, now); len(r.Properties) > 0 {
				r.Action = Options
			}
		}

		out = append(out, r)
	}

	spread(out, after)
	for _, was := range before {
		if !kept[was.URN] {
			out = append(out, Resource{
				Action: Delete, URN: was.URN, Type: was.Type, Name: was.Name,
				Component: was.Component, Retained: optionsOf(was).RetainOnDelete,
				Properties: compareInputs(was, plan.Resource{}, secrets),
			})
		}
	}

	out = slices.DeleteFunc(out, func(r Resource) bool { return r.Action == "" })
	slices.SortFunc(out, func(a, b Resource) int {
		return cmp.Or(
			cmp.Compare(slices.Index(actions, a.Action), slices.Index(actions, b.Action)),
			cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.URN, b.URN))
	})

	return out
}

// optionsOf returns the resource's options, which are all zero where the plan has none.
func optionsOf(r plan.Resource) plan.Options {
	if r.Options == nil {
		return plan.Options{}
	}
	return *r.Options
}

// decide sets what the changed properties do to the resource.
func (r *Resource) decide(now plan.Resource) {
	if len(r.Properties) == 0 {
		return
	}

	r.Action = Update
	for i := range r.Properties {
		p := &r.Properties[i]
		known := false
		if p.Replaces, known = replaces(now, p.Path); p.Replaces {
			r.Action = Replace
		}
		r.Unsure = r.Unsure || !known
	}

	if r.Action == Replace {
		first := optionsOf(now).DeleteBeforeReplace
		r.Unsure, r.Downtime = false, first != nil && *first || r.keepsName(now)
	}
}

// keepsName reports whether the resource is an object of a cluster that is replaced by another one of
// the same name: two of them cannot be at once, so that the provider deletes the first one before.
func (r *Resource) keepsName(now plan.Resource) bool {
	metadata, _ := now.Inputs["metadata"].(map[string]any)
	named := metadata["name"] != nil
	return strings.HasPrefix(now.Type, "kubernetes:") && named &&
		!slices.ContainsFunc(r.Properties, func(p Property) bool {
			return p.Path == "metadata.name" || p.Path == "metadata.namespace"
		})
}

// spread follows what is known later: an input that comes from a replaced resource changes with it.
// resources are those of after, in its order.
func spread(resources []Resource, after []plan.Resource) {
	replaced := map[string]bool{} // by "type name"
	for again := true; again; {
		again = false
		for i, now := range after {
			// A provider refers to a resource by a value that a new resource has anew.
			ref := now.Type + " " + now.Name
			if resources[i].Action == Replace && !replaced[ref] {
				replaced[ref], again = true, true
			}
		}

		for i, now := range after {
			if resources[i].Action != Create && resources[i].follow(now, replaced) {
				again = true
			}
		}
	}
}

// follow adds the properties that come from replaced resources, and reports whether there are some.
func (r *Resource) follow(now plan.Resource, replaced map[string]bool) bool {
	added := false
	for _, input := range keysOf(now.ComputedFrom, nil) {
		for _, path := range computedPaths(elementNames(now.Type), input, now.Inputs[input]) {
			var from []string
			for _, ref := range now.ComputedFrom[input] {
				if replaced[ref] && kind(path) == kind(ref) {
					from = append(from, ref)
				}
			}

			there := r.Action != Options &&
				slices.ContainsFunc(r.Properties, func(p Property) bool {
					return p.holds(path)
				})
			if len(from) == 0 || there || ignored(now, path) {
				continue
			}

			if r.Action == Options {
				r.Properties = nil
			}

			r.Properties = append(r.Properties,
				Property{Path: path, Before: plan.Computed, After: plan.Computed, From: from})
			r.decide(now)
			added = true
		}
	}

	return added
}

// computedPaths returns the places in an input whose values are known later.
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

// kind returns the sort of a property's value, or of a resource: an image, a ConfigMap, a Secret or
// anything else. The SDK tells from which resources an input comes and not which part of it: in a
// pod, each comes from its own kind.
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

// ignored reports whether the engine overlooks changes of the property.
func ignored(r plan.Resource, path string) bool { return matches(optionsOf(r).IgnoreChanges, path) }

// compareOptions returns the changed options of a resource that is otherwise the same.
func compareOptions(before, after plan.Resource) []Property {
	b, a := optionsOf(before), optionsOf(after)
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

// compareOutputs returns the changed outputs of the stack itself.
func compareOutputs(before, after []plan.Resource) []Property {
	outputs := func(list []plan.Resource) map[string]any {
		i := slices.IndexFunc(list, func(r plan.Resource) bool { return r.Type == stackType })
		if i < 0 {
			return nil
		}
		return list[i].Outputs
	}

	old, now := outputs(before), outputs(after)
	if old == nil || now == nil {
		return nil // a new stack, or one that is gone: its resources tell
	}

	c := properties{}
	c.value("", old, now)
	return c.out
}
