package diff_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/diff"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// recorded returns the plan of an edited stack, which no file holds.
func recorded(
	t *testing.T, root, name string, target stacks.Target, edit func(*stacks.Stack),
) plan.Document {
	t.Helper()
	config, err := program.ReadConfig(root, name)
	if err != nil {
		t.Fatal(err)
	}

	key := stacks.Project + ":target"
	d := plan.Document{Version: plan.Version, Project: stacks.Project, Stack: name, Target: target,
		Chosen: config.Plain[key] == string(target)}
	config.Plain[key] = string(target)
	plain, secrets := config.Own()
	settings, stack, err := program.LoadOffline(root, name, plain, secrets)
	if err != nil {
		t.Fatal(err)
	}

	edit(&stack)
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	run := recorder.Stack{Project: stacks.Project, Name: name, Config: config.Plain}
	for _, s := range stack.Secrets {
		key := stacks.Project + ":" + s.ConfigKey
		run.Config[key] = secret.Placeholder + key
		run.Secrets = append(run.Secrets, key)
	}

	rendered, err := program.Render(settings, stack, root)
	if err == nil {
		d.Resources, err = program.Record(context.Background(), run, stack, rendered, root)
	}

	if err != nil {
		d.Refused = err.Error()
	}

	d.Docker = rendered.Docker
	return d
}

// TestGolden compares what is said of two edits of overlays, in all shipped stacks on both
// targets, with testdata; -update rewrites these. TestDiff in cmd/codexctl has others, of which
// each needs a compiler.
func TestGolden(t *testing.T) {
	for name, edit := range map[string]func(*stacks.Stack){
		"port": func(s *stacks.Stack) {
			if s.Name == "dev" {
				s.Service(stacks.Redis).Ports[0].Host = 0
			}
		},
		"service": func(s *stacks.Stack) {
			if s.Name == "prod" {
				withSessions(s)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			names, err := program.Stacks(repository(t))
			if err != nil {
				t.Fatal(err)
			}

			var before, after []plan.Document
			for _, stack := range names {
				for _, target := range plan.Targets {
					before = append(before,
						recorded(t, repository(t), stack, target, func(*stacks.Stack) {}))
					after = append(after, recorded(t, repository(t), stack, target, edit))
				}
			}

			r := compare(t, before, after)
			var text strings.Builder
			if err := diff.Text(&text, r, 80, nil); err != nil {
				t.Fatal(err)
			}

			golden(t, name+".txt", text.String())
			golden(t, name+".md", diff.Markdown(r))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run `go test ./infra/diff -run Golden -update`", err)
	}

	if got != string(want) {
		t.Errorf("%s differs: run `go test ./infra/diff -run Golden -update && git diff`\ngot:\n%s",
			path, got)
	}
}
