package stacks_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestLearning holds that people rate answers where they sign in and in development, and where the
// domain is there for their safety only if the settings say so.
func TestLearning(t *testing.T) {
	const accounts = `{"accounts": true}`
	for name, tt := range map[string]struct {
		overlay string
		plain   map[string]string
		want    bool
	}{
		"dev":                      {"dev", nil, true},
		"dev without":              {"dev", map[string]string{"learning": `{"ratings": false}`}, false},
		"prod for nobody":          {"prod", nil, false},
		"prod":                     {"prod", map[string]string{"signIn": accounts}, true},
		"prod with another domain": {"prod", map[string]string{"signIn": accounts, "domain": "healthcare"}, false},
		"healthcare":               {"healthcare", nil, false},
		"healthcare switched on":   {"healthcare", map[string]string{"learning": `{"ratings": true}`}, true},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := stacks.DecodeSettings(tt.plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			v.AssumeSecrets = true

			s := load(t, tt.overlay, v)
			backend := s.Service(stacks.Backend).Contract.(*backendenv.Config)
			page := s.Service(stacks.Frontend).Contract.(*frontendenv.Config)
			if backend.Ratings != tt.want || page.Ratings != tt.want {
				t.Errorf("backend %t, frontend %t, want %t", backend.Ratings, page.Ratings, tt.want)
			}
			if chosen := tt.plain["learning"] != "" && tt.want; s.RatingsChosen != chosen {
				t.Errorf("chosen %t, want %t", s.RatingsChosen, chosen)
			}
		})
	}

	for text, want := range map[string]string{
		`{"ratings": "yes"}`: `learning.ratings: must be true or false, got "yes"`,
		`{"rating": true}`:   "learning.rating: unknown key: did you mean ratings?",
		`true`:               "learning: must be an object",
	} {
		_, err := stacks.DecodeSettings(map[string]string{"learning": text}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
