package stacks

import (
	"maps"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
)

// TestAddKnowledge has an overlay bring documents, which the settings of the stack may change and
// which go with the service.
func TestAddKnowledge(t *testing.T) {
	overlay := func() *Stack {
		s := base("legal")
		s.addKnowledge(KnowledgeSettings{Collections: map[string][]string{"statutes": nil}})
		prod(&s, Checkout{})
		return &s
	}

	for name, tt := range map[string]struct {
		settings *KnowledgeSettings
		change   func(*Stack)
		want     []string // collections
		err      bool
	}{
		"of the overlay": {nil, func(*Stack) {}, []string{"statutes"}, false},
		"of the settings": {
			&KnowledgeSettings{Collections: map[string][]string{"handbook": nil}},
			func(*Stack) {}, []string{"handbook"}, false,
		},
		"taken out":           {nil, func(s *Stack) { s.Remove(Knowledge) }, nil, false},
		"taken out and asked": {&KnowledgeSettings{}, func(s *Stack) { s.Remove(Knowledge) }, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := overlay()
			tt.change(s)
			if err := s.applyKnowledge(tt.settings); (err != nil) != tt.err {
				t.Fatal(err)
			}

			var got []string
			if svc := s.Service(Knowledge); svc != nil {
				c := svc.Contract.(*knowledgeenv.Config)
				got = slices.Sorted(maps.Keys(c.Collections))
				if svc.Replicas != 1 || svc.Resources.Memory != 2*GiB {
					t.Errorf("it has %d replicas, %+v", svc.Replicas, svc.Resources)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("collections %v, want %v", got, tt.want)
			}

			backend := s.Service(Backend)
			asks := backend.Contract.(*backendenv.Config).KnowledgeURL != ""
			_, kept := s.Volume(KnowledgeData)
			calls := slices.Contains(backend.Calls, Knowledge)
			if there := tt.want != nil; asks != there || kept != there || calls != there {
				t.Errorf("the backend knows of it: %t, may call it: %t, its volume is there: %t",
					asks, calls, kept)
			}
		})
	}
}
