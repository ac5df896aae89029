package stacks

import (
	"fmt"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

const (
	// maxPerDay is more than anybody uses in a day: a greater number is a slip.
	maxPerDay = 1_000_000_000

	// leastStorage holds the longest question and its answer.
	leastStorage = 1 * MiB
)

func (s *Settings) decodeLimits(v string) error {
	l := &s.Limits
	return object(fields{
		"requestsPerDay": integer(&l.RequestsPerDay, 1, maxPerDay),
		"tokensPerDay":   integer(&l.TokensPerDay, 1, maxPerDay),
		"atOnce":         integer(&l.AtOnce, 1, maxParallel),
		"storage": func(v string) error {
			err := quantity(&l.Storage, ParseBytes)(v)
			if err == nil && l.Storage < leastStorage {
				err = fmt.Errorf("must be %s or more, which hold a long question and its answer, "+
					"got %s", leastStorage, l.Storage)
			}
			return err
		},
	})(v)
}

// applyLimits gives each service the limits that it holds people to, and the gate those that it
// shows.
func (s *Stack) applyLimits(v LimitSettings) {
	limits := contract.Limits{
		RequestsPerDay: int64(v.RequestsPerDay),
		TokensPerDay:   int64(v.TokensPerDay),
		RequestsAtOnce: v.AtOnce,
	}

	edit(s, func(c *mlenv.Config) { c.Limits = limits })
	edit(s, func(c *gateenv.Config) { c.Limits = limits })
	if v.Storage != 0 {
		edit(s, func(c *backendenv.Config) { c.MaxStored = int64(v.Storage) })
	}
}
