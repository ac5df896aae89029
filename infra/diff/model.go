package diff

import "github.com/codexcontinue/codexcontinue/infra/plan"

// Model is a changed model of the stack.
type Model struct {
	// Properties are name, modelfile, base and digest, as far as they change.
	Properties []Property `json:"properties,omitempty"`
	// Lines are the changes of the Modelfile's text.
	Lines []Line `json:"lines,omitempty"`
}

func compareModel(before, after *plan.Model) *Model {
	if before == nil || after == nil { // a stack that is new or gone
		return nil
	}

	var m Model
	for _, p := range []Property{
		{Path: "name", Before: before.Name, After: after.Name},
		{Path: "modelfile", Before: before.Modelfile, After: after.Modelfile},
		{Path: "base", Before: before.Base, After: after.Base},
		{Path: "digest", Before: before.Digest, After: after.Digest},
	} {
		if p.Before != p.After {
			m.Properties = append(m.Properties, p)
		}
	}

	if len(m.Properties) == 0 {
		return nil // a comment, or the layout: the model stays the same
	}

	m.Lines = Lines(before.Text, after.Text)
	return &m
}
