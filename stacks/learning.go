package stacks

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
)

// LearningSettings are what is learned from people.
type LearningSettings struct {
	// Ratings reports whether people rate answers, and hand them over for review; nil keeps what the
	// stack says.
	Ratings *bool
}

func (s *Settings) decodeLearning(v string) error {
	return object(fields{"ratings": boolean(&s.Learning.Ratings)})(v)
}

// applyLearning lets people rate answers where they sign in, and in development. Where the domain is
// there for people's safety, or nothing may leave the stack, whoever runs it has to say so: what is
// handed over is read by others, and may be about a patient.
func (s *Stack) applyLearning(v LearningSettings, safety bool) {
	private := slices.ContainsFunc(s.Networks, func(n Network) bool { return n.Internal })
	on := (s.Development || s.Audited()) && !safety && !private
	if v.Ratings != nil {
		on = *v.Ratings
		s.RatingsChosen = on
	}

	edit(s, func(c *backendenv.Config) { c.Ratings = on })
	edit(s, func(c *frontendenv.Config) { c.Ratings = on })
}
