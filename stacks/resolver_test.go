package stacks_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestResolver gives a private stack on a cluster a resolver, for all services but the one that has
// a way out.
func TestResolver(t *testing.T) {
	settings := withPassword()
	settings.Target = stacks.Kubernetes
	settings.SignIn = &stacks.SignInSettings{OIDC: provider()}
	three := 3
	settings.Services = map[string]stacks.ServiceSettings{
		stacks.Resolver: {Replicas: &three, Memory: 128 * stacks.MiB},
	}
	stack := load(t, "healthcare", settings)
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	resolver := stack.Service(stacks.Resolver)
	if resolver.Replicas != 3 || resolver.Resources.Memory != 128*stacks.MiB {
		t.Errorf("the settings make it %d replicas of %s", resolver.Replicas,
			resolver.Resources.Memory)
	}
	if _, out := stack.WayOut(*resolver); out || len(resolver.Files) > 0 {
		t.Errorf("the resolver has a way out: %v, files %v", out, resolver.Files)
	}

	for _, svc := range stack.Services {
		waits := svc.Name != stacks.Resolver && svc.Name != stacks.Egress
		if slices.Contains(svc.DependsOn, stacks.Resolver) != waits {
			t.Errorf("%s waits for %v", svc.Name, svc.DependsOn)
		}
		if slices.Contains(svc.Calls, stacks.Resolver) {
			t.Errorf("%s calls %v", svc.Name, svc.Calls)
		}
	}
}

// TestNoResolver leaves it out where names are no way out, and refuses its name to others.
func TestNoResolver(t *testing.T) {
	cluster := withPassword()
	cluster.Target = stacks.Kubernetes
	for name, stack := range map[string]stacks.Stack{
		"a private stack on an engine": load(t, "healthcare", withPassword()),
		"an open one on a cluster":     load(t, "prod", cluster),
	} {
		if stack.Service(stacks.Resolver) != nil {
			t.Errorf("%s has a resolver", name)
		}
		for _, svc := range stack.Services {
			if slices.Contains(svc.DependsOn, stacks.Resolver) {
				t.Errorf("%s: %s waits for it", name, svc.Name)
			}
		}
	}

	settings := withPassword()
	settings.Services = map[string]stacks.ServiceSettings{stacks.Resolver: {Memory: stacks.GiB}}
	_, err := stacks.Load("healthcare", settings, checkout())
	if err == nil || !strings.Contains(err.Error(), "services.resolver: this stack has no such") {
		t.Errorf("settings of a resolver that is not there: %v", err)
	}
}
