package stacks

import (
	"errors"
	"fmt"
	"strings"

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
		"models": decodeModels(&l.Models),
	})(v)
}

// everybody is whom a model is for that is for no groups.
const everybody = "everybody"

// decodeModels reads who may ask which model.
func decodeModels(into *contract.Models) func(string) error {
	return func(v string) error {
		models := contract.Models{}
		err := eachKey(v, func(name, v string) error {
			name = strings.TrimSuffix(name, ":latest")
			if _, twice := models[name]; twice || name == "" {
				return errors.New("is no name of a model, or one that is there twice")
			}

			groups := []string{}
			models[name] = groups
			if v == everybody {
				return nil
			}
			if !strings.HasPrefix(v, "[") {
				return fmt.Errorf("must be a list of groups, or %s, got %q", everybody, v)
			}

			err := list(appendText(&groups))(v)
			models[name] = groups
			return err
		})
		if err == nil && len(models) == 0 {
			err = errors.New("is empty: remove the key")
		}

		*into = models
		return err
	}
}

// applyModels has ml refuse people the models that are for others. It comes when it is known how
// people sign in, and how the stack's own model is called. The gate, which knows the groups, has
// nothing to know of the models where nobody is of one.
func (s *Stack) applyModels(models contract.Models) error {
	own, signsIn := s.Model.Name, s.Audited()
	switch _, named := models[own]; {
	case len(models) == 0:
		return nil
	case !signsIn && len(models.Groups()) > 0:
		return fmt.Errorf("%s:limits.models: nobody signs in to this stack, so nobody is of a group: "+
			"set %[1]s:signIn, or make the models for %s", Project, everybody)
	case !named:
		return fmt.Errorf("%s:limits.models: does not name %s, the stack's own model, which nobody "+
			"could ask then: add it, with its groups or with %s", Project, own, everybody)
	}

	edit(s, func(c *mlenv.Config) { c.Models = models })
	if signsIn {
		edit(s, func(c *gateenv.Config) { c.Models = models })
	}
	return nil
}

// ownModelAlone has ml refuse people every model but the stack's own, unless the settings say which
// are for them: another one, such as the base, would answer without the prompt that is there for
// their safety, and no evals have tried it.
func (s *Stack) ownModelAlone() {
	edit(s, func(c *mlenv.Config) {
		if len(c.Models) == 0 {
			c.Models = contract.Models{s.Model.Name: {}}
		}
	})
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
