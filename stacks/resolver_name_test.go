package stacks

import (
	"strings"
	"testing"
)

// TestResolverName keeps an overlay from having a service of the resolver's name, on any target.
func TestResolverName(t *testing.T) {
	for _, target := range []Target{Docker, Kubernetes} {
		s := Stack{Services: []Service{{Name: Resolver}}}
		err := s.applyResolver(target)
		if err == nil || !strings.Contains(err.Error(), "services.resolver: the name is that of") {
			t.Errorf("on %s: %v", target, err)
		}
	}
}
