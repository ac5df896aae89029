package contract_test

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/google/go-cmp/cmp"
)

func TestModels(t *testing.T) {
	some := contract.Models{"all": {}, "few": {"a", "b"}}
	for _, tt := range []struct {
		models contract.Models
		model  string
		groups []string
		want   bool
	}{
		{nil, "any", nil, true},
		{some, "all", nil, true},
		{some, "few", nil, false},
		{some, "few", []string{"c", "b"}, true},
		{some, "few", []string{"A", ""}, false},
		{some, "other", []string{"a"}, false},
	} {
		if got := tt.models.Allow(tt.model, tt.groups); got != tt.want {
			t.Errorf("%v: %s for %q: %v", tt.models, tt.model, tt.groups, got)
		}
	}

	some["third"] = []string{"b", "c"}
	if d := cmp.Diff([]string{"a", "b", "c"}, some.Groups()); d != "" {
		t.Errorf("the groups (-want +got):\n%s", d)
	}

	for _, m := range []contract.Models{{"": {"a"}}, {"m": {""}}} {
		if m.Validate() == nil {
			t.Errorf("%v is valid", m)
		}
	}
}
