package cli

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestPlanTellsGaps checks that the plan shows with each service what its target does not enforce.
func TestPlanTellsGaps(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}

	for target, want := range map[stacks.Target]map[string]string{
		stacks.Docker: {
			stacks.Redis: "calls: reaches edge, gate, frontend, backend, ml",
			stacks.Edge:  "calls: reaches frontend, backend, ml",
		},
		// The edge can write to its tmpfs only, and Redis has none.
		stacks.Kubernetes: {stacks.Redis: "", stacks.Edge: "mounts./tmp: can run programs"},
	} {
		p, err := plan.Of(context.Background(), root, "healthcare", plan.OfOptions{Target: target})
		if err != nil {
			t.Fatal(err)
		}

		view, err := workload.Of(p.Document)
		if err != nil {
			t.Fatal(err)
		}

		tree := planTree(p, view)
		for service, text := range want {
			i := slices.IndexFunc(tree.branches, func(b branch) bool { return b.title == service })
			if i < 0 {
				t.Fatalf("%s: the plan has no %s", target, service)
			}

			facts := tree.branches[i].facts
			at := slices.IndexFunc(facts, func(f [2]string) bool { return f[0] == "not enforced" })
			if (at >= 0) != (text != "") || at >= 0 && !strings.HasPrefix(facts[at][1], text) {
				t.Errorf("%s of %s on %s: %q, want %q",
					"not enforced", service, target, facts, text)
			}
		}
	}
}
