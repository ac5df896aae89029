package stacks_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestLimits holds that each limit reaches the services that it is for, and that there is
// none unless it is set.
func TestLimits(t *testing.T) {
	for text, want := range map[string]struct {
		limits  contract.Limits
		storage int64
	}{
		`{}`: {},
		`{"requestsPerDay": 200, "tokensPerDay": 500000, "atOnce": 3, "storage": "100Mi"}`: {
			contract.Limits{RequestsPerDay: 200, TokensPerDay: 500000, RequestsAtOnce: 3},
			100 << 20,
		},
		`{"storage": "1Mi"}`: {storage: 1 << 20},
	} {
		v, err := stacks.DecodeSettings(map[string]string{"limits": text}, nil)
		if err != nil {
			t.Fatal(err)
		}

		s := load(t, "dev", v)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}

		ml := s.Service(stacks.ML).Contract.(*mlenv.Config)
		gate := s.Service(stacks.Gate).Contract.(*gateenv.Config)
		backend := s.Service(stacks.Backend).Contract.(*backendenv.Config)
		if ml.Limits != want.limits || gate.Limits != want.limits ||
			backend.MaxStored != want.storage {
			t.Errorf("%s: ml %+v, gate %+v, backend %d", text, ml.Limits, gate.Limits,
				backend.MaxStored)
		}
	}
}

func TestLimitsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"requestsPerDay": 0}`:    "limits.requestsPerDay: must be from 1 to 1000000000, got 0",
		`{"requestsPerDay": 2.5}`:  `limits.requestsPerDay: must be a whole number, got "2.5"`,
		`{"tokensPerDay": -1}`:     "limits.tokensPerDay: must be from 1 to 1000000000, got -1",
		`{"atOnce": 513}`:          "limits.atOnce: must be from 1 to 512, got 513",
		`{"storage": 100}`:         `limits.storage: "100" is no amount of memory`,
		`{"storage": "1023Ki"}`:    "limits.storage: must be 1Mi or more",
		`{"storage": "0Mi"}`:       "limits.storage: must be more than nothing",
		`{"requests": 5}`:          "limits.requests: unknown key",
		`{"tokenPerDay": 5}`:       "limits.tokenPerDay: unknown key: did you mean tokensPerDay?",
		`{"models": {"a": ["m"]}}`: "limits.models: unknown key",
		`[1]`:                      "limits: must be an object",
	} {
		_, err := stacks.DecodeSettings(map[string]string{"limits": text}, nil)
		if err == nil || !strings.Contains(err.Error(), "codexcontinue:"+want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
