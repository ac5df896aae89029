package stacks_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
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
		`{"requestsPerDay": 0}`:   "limits.requestsPerDay: must be from 1 to 1000000000, got 0",
		`{"requestsPerDay": 2.5}`: `limits.requestsPerDay: must be a whole number, got "2.5"`,
		`{"tokensPerDay": -1}`:    "limits.tokensPerDay: must be from 1 to 1000000000, got -1",
		`{"atOnce": 513}`:         "limits.atOnce: must be from 1 to 512, got 513",
		`{"storage": 100}`:        `limits.storage: "100" is no amount of memory`,
		`{"storage": "1023Ki"}`:   "limits.storage: must be 1Mi or more",
		`{"storage": "0Mi"}`:      "limits.storage: must be more than nothing",
		`{"requests": 5}`:         "limits.requests: unknown key",
		`{"tokenPerDay": 5}`:      "limits.tokenPerDay: unknown key: did you mean tokensPerDay?",
		`{"models": ["a"]}`:       "limits.models: must be an object of keys and values",
		`{"models": {}}`:          "limits.models: is empty: remove the key",
		`{"models": {"a": "team"}}`: `limits.models.a: must be a list of groups, or everybody, ` +
			`got "team"`,
		`{"models": {"a": []}}`:      "limits.models.a: must be a list",
		`{"models": {"a": [""]}}`:    "limits.models.a.0: is empty",
		`{"models": {"a": [["b"]]}}`: "limits.models.a.0: must be text",
		`{"models": {"a": ["m"], "a:latest": ["n"]}}`: "limits.models.a:latest: is no name of a " +
			"model, or one that is there twice",
		`[1]`: "limits: must be an object",
	} {
		_, err := stacks.DecodeSettings(map[string]string{"limits": text}, nil)
		if err == nil || !strings.Contains(err.Error(), "codexcontinue:"+want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestModels holds that ml and the gate know whose each model is, and that nobody is locked out by
// a setting that cannot be meant.
func TestModels(t *testing.T) {
	decode := func(signIn, models string) stacks.Settings {
		t.Helper()
		v, err := stacks.DecodeSettings(map[string]string{
			"limits": `{"models": ` + models + `}`, "signIn": signIn,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	want := contract.Models{"codexcontinue": {}, "llama3.2:3b": {"research", "a team"}}
	s := load(t, "dev", decode(`{"accounts": true}`,
		`{"codexcontinue:latest": "everybody", "llama3.2:3b": ["research", "a team"]}`))
	ml := s.Service(stacks.ML).Contract.(*mlenv.Config)
	gate := s.Service(stacks.Gate).Contract.(*gateenv.Config)
	for service, got := range map[string]contract.Models{"ml": ml.Models, "gate": gate.Models} {
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", service, d)
		}
	}

	for _, tt := range []struct{ signIn, models, want string }{
		{"none", `{"codexcontinue": ["a"]}`, "nobody signs in to this stack"},
		{`{"accounts": true}`, `{"llama3.2:3b": ["a"]}`, "does not name codexcontinue"},
	} {
		_, err := stacks.Load("dev", decode(tt.signIn, tt.models), checkout())
		if err == nil || !strings.Contains(err.Error(), "codexcontinue:limits.models: "+tt.want) {
			t.Errorf("%s: %v, want %q", tt.models, err, tt.want)
		}
	}
}
