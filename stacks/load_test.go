package stacks_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// checkout is this repository, owned by nobody in particular, whatever digests it has locked.
func checkout() stacks.Checkout {
	return stacks.Checkout{FS: os.DirFS(".."), UID: 1000, GID: 1000, Unlocked: true}
}

// withPassword are settings that every shipped stack accepts.
func withPassword() stacks.Settings {
	return stacks.Settings{
		Target:  stacks.Docker,
		Secrets: map[string]bool{stacks.RedisPasswordKey: true},
	}
}

// load returns the stack. Healthcare has an authority as well, which others refuse.
func load(t *testing.T, name string, s stacks.Settings) stacks.Stack {
	t.Helper()
	if name == "healthcare" && (s.InternalTLS == nil || *s.InternalTLS) {
		s.Secrets = maps.Clone(s.Secrets)
		if s.Secrets == nil {
			s.Secrets = map[string]bool{}
		}
		s.Secrets[stacks.InternalAuthorityKey] = true
	}

	stack, err := stacks.Load(name, s, checkout())
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

func TestShippedStacks(t *testing.T) {
	for _, name := range stacks.Overlays() {
		t.Run(name, func(t *testing.T) {
			s := withPassword()
			s.AssumeSecrets = true // a domain may have others
			if name == "dev" {
				s.Secrets = nil
			}

			stack := load(t, name, s)
			if err := stack.Validate(); err != nil {
				t.Fatal(err)
			}

			stack.Model.Digest = "digest" // of files that people edit
			got, err := json.MarshalIndent(stack, "", "  ")
			if err != nil {
				t.Fatal(err)
			}

			golden := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}

			if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
				t.Errorf("the stack changed; rewrite the golden with -update when it should "+
					"(-want +got):\n%s",
					d)
			}
		})
	}
}

// TestLoadSharesNothing checks that an edit of one stack's environments changes no other stack.
func TestLoadSharesNothing(t *testing.T) {
	one, two := load(t, "prod", withPassword()), load(t, "prod", withPassword())
	for _, svc := range one.Services {
		if svc.Contract != nil {
			svc.Contract.Shared().LogLevel = "debug"
		}
	}

	for _, svc := range two.Services {
		if svc.Contract != nil && svc.Contract.Shared().LogLevel != "info" {
			t.Errorf("%s is one of both stacks", svc.Name)
		}
	}
}
