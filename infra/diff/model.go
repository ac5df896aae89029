package diff

import "github.com/codexcontinue/codexcontinue/infra/plan"

// Model is a changed model of the stack.
type Model struct {
	// Properties are name, modelfile, base, digest and evals, as far as they change.
	Properties []Property `json:"properties,omitempty"`
	// Lines are the changes of the Modelfile's text, EvalsLines those of the evals'.
	Lines      []Line `json:"lines,omitempty"`
	EvalsLines []Line `json:"evalsLines,omitempty"`
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
		{Path: "evals", Before: before.Evals, After: after.Evals},
	} {
		if p.Before != p.After {
			m.Properties = append(m.Properties, p)
		}
	}

	if len(m.Properties) == 0 {
		return nil // a comment, or the layout: the model stays the same
	}

	m.Lines = Lines(before.Text, after.Text)
	if before.Evals != after.Evals {
		m.EvalsLines = Lines(before.EvalsText, after.EvalsText)
	}

	return &m
}
