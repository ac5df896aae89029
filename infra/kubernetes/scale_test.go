package kubernetes_test

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestScaling checks that another number of replicas leaves the pods that are there alone.
func TestScaling(t *testing.T) {
	templates := func(replicas int) map[string]any {
		t.Helper()
		out := map[string]any{}
		for _, o := range manifestsOf(t, "prod", func(s *stacks.Settings) {
			s.Services = map[string]stacks.ServiceSettings{}
			for _, name := range []string{stacks.Edge, stacks.Gate, stacks.Frontend, stacks.Backend, stacks.ML, stacks.Ollama} {
				s.Services[name] = stacks.ServiceSettings{Replicas: &replicas}
			}
		}) {
			if kind := o.GetKind(); kind == "Deployment" || kind == "StatefulSet" {
				out[o.GetName()] = o.Object["spec"].(map[string]any)["template"]
			}
		}

		return out
	}

	one, three := templates(1), templates(3)
	if len(one) < 6 {
		t.Errorf("%d workloads", len(one))
	}
	if diff := cmp.Diff(one, three); diff != "" {
		t.Errorf("scaling rolls pods (-one replica +three):\n%s", diff)
	}
}
