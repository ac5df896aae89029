package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// resourceGroup is the same change of several resources of a plan, as of the replicas of a service.
type resourceGroup struct {
	Resource
	names []string
}

func grouped(p Comparison) []resourceGroup {
	var out []resourceGroup
	byKey := map[string]int{}
	for _, r := range p.Resources {
		name := shortName(r.Name, p.Stack)
		r.URN, r.Name, r.Type = "", "", r.Kind()
		r.Properties = neutralNames(r.Properties, p.Stack)
		if r.Action == Create || r.Action == Delete {
			r.Properties = nil // `codexctl plan` and the JSON show what it has
		}

		key := fmt.Sprintf("%#v", r)
		if i, ok := byKey[key]; ok {
			out[i].names = append(out[i].names, name)
			continue
		}

		byKey[key] = len(out)
		out = append(out, resourceGroup{r, []string{name}})
	}

	return out
}

// shortName returns the resource's name without what every one of the stack has.
func shortName(name, stack string) string {
	return strings.TrimPrefix(name, stacks.Project+"-"+stack+"-")
}

// neutralNames names the resources that a property comes from as shortName does.
func neutralNames(props []Property, stack string) []Property {
	out := slices.Clone(props)
	for i := range out {
		from := slices.Clone(out[i].From)
		for j, ref := range from {
			typ, name, _ := strings.Cut(ref, " ")
			from[j] = typ[strings.LastIndex(typ, ":")+1:] + " " + shortName(name, stack)
		}
		out[i].From = from
	}

	return out
}

var signs = map[Action]string{Delete: "-", Replace: "±", Update: "~", Create: "+", Options: "~"}

var words = map[Action]string{
	Delete: "removed", Replace: "replaced", Update: "updated in place", Create: "added",
	Options: "options",
}

// entry returns the change with its properties.
func (g resourceGroup) entry() entry {
	text := words[g.Action]
	switch {
	case g.Retained:
		text = "taken out of the stack, but kept"
	case g.Downtime && (g.Type == "StatefulSet" || g.Type == "Deployment"):
		text += ", the old one first, so that nothing answers until its pods are ready"
	case g.Downtime:
		text += ", the old one first"
	case g.Unsure:
		text = "updated, or replaced"
	}

	return entry{
		sign:  signs[g.Action],
		kind:  g.Type,
		names: g.names,
		text:  text,
		props: g.Properties,
	}
}

// headline returns the change with the properties that make it a replacement.
func (g resourceGroup) headline() entry {
	var why []string
	for _, p := range g.Properties {
		if p.Replaces {
			reason := strings.TrimPrefix(p.Path, "spec.template.spec.") // of a pod
			if len(p.From) > 0 {
				reason += " (known after " + strings.Join(p.From, ", ") + ")"
			}
			why = append(why, reason)
		}
	}

	e := g.entry()
	e.props = nil
	if len(why) > 0 {
		e.text += ": " + strings.Join(why, ", ")
	}

	return e
}

// asModel returns the plan with the Modelfile's text shown once: a resource that
// holds it too refers to it.
func asModel(p Comparison) Comparison {
	if p.Model == nil || len(p.Model.Lines) == 0 {
		return p
	}

	p.Resources = slices.Clone(p.Resources)
	for i, r := range p.Resources {
		p.Resources[i].Properties = slices.Clone(r.Properties)
		for j, prop := range r.Properties {
			if slices.Equal(prop.linesOf(), p.Model.Lines) {
				p.Resources[i].Properties[j].same = "as under Model"
			}
		}
	}

	return p
}
