package kubernetes_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// planned is a stack with its plan.
type planned struct {
	stack     stacks.Stack
	root      string
	resources []plan.Resource
}

// eachStack runs f on the plan of the lab's stack and of every shipped one on a cluster, and of
// healthcare with documents.
func eachStack(t *testing.T, f func(t *testing.T, p planned)) {
	t.Helper()
	run := func(stack stacks.Stack, root string) {
		t.Run(stack.Name, func(t *testing.T) {
			if err := stack.Validate(); err != nil {
				t.Fatal(err)
			}

			f(t, planned{
				stack:     stack,
				root:      root,
				resources: mustRecord(t, stack, kubernetes.Options{Root: root}),
			})
		})
	}

	stack, root := labStack(t)
	run(stack, root)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range stacks.Overlays() {
		run(shipped(t, root, name, shippedSettings(t, root, name)), root)
	}

	with := shippedSettings(t, root, "healthcare")
	with.Overlay, with.Knowledge = "healthcare", &stacks.KnowledgeSettings{
		Collections: map[string][]string{"handbook": nil, "wards": {"nurses"}},
		Embedding:   "nomic-embed-text",
	}
	run(shipped(t, root, stacks.Knowledge, with), root)
}

// shippedSettings are those of the stack's file in the repository, on a cluster, with the secrets
// that a person adds.
func shippedSettings(t *testing.T, root, name string) stacks.Settings {
	t.Helper()
	config, err := program.ReadConfig(root, name)
	if err != nil {
		t.Fatal(err)
	}

	plain, secrets := config.Own()
	plain["target"] = string(stacks.Kubernetes)
	if name != "dev" {
		secrets = append(secrets, stacks.RedisPasswordKey)
	}
	if name == "healthcare" {
		secrets = append(secrets, stacks.InternalAuthorityKey)
	}

	settings, err := stacks.DecodeSettings(plain, secrets)
	if err != nil {
		t.Fatal(err)
	}

	return settings
}

// shipped is a stack of the repository with the settings.
func shipped(t *testing.T, root, name string, settings stacks.Settings) stacks.Stack {
	t.Helper()
	stack, err := stacks.Load(name, settings, stacks.Checkout{
		FS:       os.DirFS(root),
		UID:      1000,
		Unlocked: true,
		GID:      1000,
	})
	if err != nil {
		t.Fatal(err)
	}

	return stack
}

// TestGolden compares every stack's plan with testdata/<stack>.json; -update rewrites these. Of
// healthcare with documents it is what other stacks have not.
func TestGolden(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		if p.stack.Name == stacks.Knowledge {
			p.resources = slices.DeleteFunc(p.resources, func(r plan.Resource) bool {
				return !strings.HasPrefix(r.Name, stacks.Knowledge)
			})
		}

		got := toJSON(t, p.resources)
		path := filepath.Join("testdata", p.stack.Name+".json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}

		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v: run `go test ./infra/kubernetes -run Golden -update`", err)
		}

		if !bytes.Equal(got, want) {
			t.Errorf("the plan of %s changed: %s\n"+
				"read the change with `go test ./infra/kubernetes -run Golden -update && git diff`",
				p.stack.Name, firstDifference(want, got))
		}
	})
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d is %q, want %q", i+1, g[min(i, len(g)-1)], w[i])
		}
	}
	return fmt.Sprintf("%d lines more", len(g)-len(w))
}
