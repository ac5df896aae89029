package kubernetes_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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

// eachStack runs f on the plan of the lab's stack and of every shipped one on a cluster.
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
		run(shipped(t, root, name), root)
	}
}

// shipped is a stack of the repository with the settings of its file, on a cluster.
func shipped(t *testing.T, root, name string) stacks.Stack {
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

	stack, err := stacks.Load(name, settings, stacks.Checkout{
		FS:  os.DirFS(root),
		UID: 1000,
		GID: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}

	return stack
}

// TestGolden compares every stack's plan with testdata/<stack>.json; -update rewrites these.
func TestGolden(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
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
