package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/export"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/composefiles"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/compose-spec/compose-go/v2/cli"
)

// TestExportedCompose runs what `codexctl export compose` writes with the real docker compose: for
// people who cannot run Pulumi where the stack is to run.
func TestExportedCompose(t *testing.T) {
	engineWanted(t)
	t.Parallel()
	peers.Find(t, "chromium", "chromium")
	program, version, err := composefiles.Find(t.Context(), exec.LookPath)
	if err != nil {
		peers.Missing(t, "compose", err)
	}

	t.Logf("docker compose %s", version)

	const name, port, password = "e2e-export", "32080", "sesame-exported"
	c := copyTree(t)
	c.settings(t, name, "overlay: prod\nportOffset: 24000\nmodel: {base: tiny}")
	p, err := plan.Of(t.Context(), c.dir, name, plan.OfOptions{})
	if err != nil {
		t.Fatal(err)
	}

	dir := c.path("exported")
	files, err := export.Compose(export.Source{
		Rendered: p.Rendered,
		Stack:    p.Stack,
		Root:     c.dir,
		Dir:      dir,
	})
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range files {
		file := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(f.Text), f.Mode); err != nil {
			t.Fatal(err)
		}
	}

	c.env = append(c.env, "REDIS_PASSWORD="+password)
	c.must(t, time.Minute, "sh", filepath.Join(dir, "secrets.sh"))
	c.env = slices.DeleteFunc(c.env, func(v string) bool { return v == "REDIS_PASSWORD="+password })

	c.buildExported(t, p.Stack, filepath.Join(dir, export.ComposeFile))
	c.remove(t, name)
	compose := func(t *testing.T, command ...string) string {
		t.Helper()
		args := slices.Concat(program[1:],
			[]string{"--ansi", "never", "--file", filepath.Join(dir, export.ComposeFile)}, command)
		return c.must(t, 5*time.Minute, program[0], args...)
	}

	said := compose(t, "up", "-d", "--wait", "--quiet-pull")

	running := c.containers(t, name)
	for _, svc := range p.Stack.Services {
		if len(running[svc.Name]) != svc.Replicas {
			t.Errorf("%s has %d containers, want %d",
				svc.Name, len(running[svc.Name]), svc.Replicas)
		}
	}

	checkHardening(t, running, false)
	modelReady(t, "http://127.0.0.1:"+port)
	chat(t, newBrowser(t), "http://127.0.0.1:"+port+"/")
	t.Run("the secret shows nowhere", func(t *testing.T) {
		showsNowhere(t, c, name, password, map[string]string{
			"up":     said,
			"config": compose(t, "config"),
		})
	})

	compose(t, "down", "-v")
}

// buildExported builds the images that the file names. `docker compose up --build` does so
// where compose has buildx.
func (c *checkout) buildExported(t *testing.T, stack stacks.Stack, file string) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file},
		cli.WithWorkingDirectory(filepath.Dir(file)))
	if err != nil {
		t.Fatal(err)
	}

	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	made := c.builtImages(t)
	for _, svc := range stack.Services {
		exported := project.Services[svc.Name]
		if svc.Image.Build == nil {
			continue
		}

		if exported.Build == nil || exported.Build.Context != c.dir ||
			exported.Build.Dockerfile != svc.Image.Build.Dockerfile {
			t.Fatalf("services.%s.build: %+v", svc.Name, exported.Build)
		}

		c.tag(t, made, *svc.Image.Build, exported.Image)
	}
}
