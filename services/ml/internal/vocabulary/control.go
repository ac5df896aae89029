package vocabulary

import "github.com/codexcontinue/codexcontinue/services/internal/controltoken"

// Neutralise breaks the model's control tokens in a person's text up: see package controltoken. A
// nil Vocabulary takes what looks like a control token of any model for one. Text without them stays
// as it is, byte by byte.
func (v *Vocabulary) Neutralise(text string) string {
	if v == nil {
		return controltoken.Break(text)
	}

	for { // one token may be inside another
		out := v.breaks.Replace(text)
		if out == text {
			return out
		}
		text = out
	}
}
