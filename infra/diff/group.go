package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// resourceGroup is the same change of several resources of a plan, as of the replicas of a service.
type resourceGroup struct {
	action                                Action
	kind                                  string
	names                                 []string
	props                                 []Property
	component, retained, downtime, unsure bool
}

func grouped(p Plan) []resourceGroup {
	var out []resourceGroup
	byKey := map[string]int{}
	for _, r := range p.Resources {
		g := resourceGroup{r.Action, r.Kind(), []string{shortName(r.Name, p.Stack)}, neutralNames(r.Properties, p.Stack), r.Component, r.Retained, r.Downtime, r.Unsure}
		if r.Action == Create || r.Action == Delete {
			g.props = nil // `codexctl plan` and the JSON show what it has
		}
		key := fmt.Sprint(g.action, g.kind, g.component, g.retained, g.downtime, g.unsure, propertiesKey(g.props))
		if i, ok := byKey[key]; ok {
			out[i].names = append(out[i].names, g.names...)
			continue
		}
		byKey[key] = len(out)
		out = append(out, g)
	}
	return out
}

// shortName is the resource's name without what every one of the stack has.
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

var words = map[Action]string{Delete: "removed", Replace: "replaced", Update: "updated in place", Create: "added", Options: "options"}

func (g resourceGroup) word() string {
	word := words[g.action]
	switch {
	case g.retained:
		word = "taken out of the stack, but kept"
	case g.downtime:
		word += ", the old one first"
	case g.unsure:
		word = "updated, or replaced"
	}
	return word
}

// headline says why.
func (g resourceGroup) headline() entry {
	var why []string
	for _, p := range g.props {
		if p.Replaces {
			reason := strings.TrimPrefix(p.Path, "spec.template.spec.") // of a pod
			if len(p.From) > 0 {
				reason += " (known after " + strings.Join(p.From, ", ") + ")"
			}
			why = append(why, reason)
		}
	}
	text := g.word()
	if len(why) > 0 {
		text += ": " + strings.Join(why, ", ")
	}
	return entry{sign: signs[g.action], kind: g.kind, names: g.names, text: text}
}

func (g resourceGroup) detail() entry {
	return entry{sign: signs[g.action], kind: g.kind, names: g.names, text: g.word(), props: g.props}
}

// asModel is the plan with the Modelfile's text shown once: where a resource holds it too, it says so.
func asModel(p Plan) Plan {
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
