package docker

import (
	"errors"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestCause holds that a failure is told by its cause, and not by the services that suffer from it.
func TestCause(t *testing.T) {
	g := &gate{stack: stacks.Stack{Services: []stacks.Service{
		{Name: "edge", DependsOn: []string{"frontend"}},
		{Name: "frontend", DependsOn: []string{"backend"}},
		{Name: "backend", DependsOn: []string{"redis", "ml"}},
		{Name: "ml", DependsOn: []string{"ollama"}},
		{Name: "redis"},
		{Name: "ollama"},
	}}}

	for name, tc := range map[string]struct {
		failed []string
		want   string
	}{
		"nothing":                 {nil, ""},
		"one":                     {[]string{"backend"}, "backend"},
		"a cause and its victims": {[]string{"redis", "backend", "frontend"}, "redis"},
		"a victim's victim":       {[]string{"edge", "ollama"}, "ollama"},
		"two causes":              {[]string{"redis", "ollama", "backend"}, "redis\nollama"},
		"a cause in the middle":   {[]string{"frontend", "edge"}, "frontend"},
	} {
		t.Run(name, func(t *testing.T) {
			failed := map[string][]error{}
			for _, s := range tc.failed {
				failed[s] = []error{errors.New(s)}
			}

			got := ""
			if err := g.cause(failed); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
