package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/composefiles"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestWithoutProvider runs the prod stack where Pulumi's docker provider cannot be had: the same
// stack, the same Dockerfiles and the same engine, but the containers are made by docker compose,
// from files that TestComposeParity holds equal to what the Pulumi program plans.
func TestWithoutProvider(t *testing.T) {
	engineWanted(t)
	t.Parallel()
	peers.Find(t, "chromium", "chromium")
	program, version, err := composefiles.Find(t.Context(), exec.LookPath)
	if err != nil {
		peers.Missing(t, "compose", err)
	}

	t.Logf("docker compose %s", version)

	const name, overlay, port, password = "e2e-compose", "prod", "33080", "sesame-without-provider"
	c := copyTree(t)
	settings := stacks.Settings{
		Overlay:    overlay,
		PortOffset: 25000,
		Secrets:    map[string]bool{stacks.RedisPasswordKey: true},
	}

	settings.Model.Base = "tiny"
	stack, err := stacks.Load(name, settings, stacks.Checkout{FS: os.DirFS(c.dir)})
	if err != nil {
		t.Fatal(err)
	}
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	images := c.buildImages(t, stack)
	c.remove(t, name)
	args, err := composefiles.Project{
		Stack:   stack,
		Name:    name,
		Overlay: overlay,
		Root:    c.dir,
		Images:  images,
		Secrets: map[string]string{stacks.RedisPassword: password},
	}.Write(c.path("compose"))
	if err != nil {
		t.Fatal(err)
	}

	compose := func(t *testing.T, command ...string) string {
		t.Helper()
		return c.must(t, 5*time.Minute, program[0], slices.Concat(program[1:], args, command)...)
	}

	said := compose(t, "up", "-d", "--wait", "--quiet-pull")

	running := c.containers(t, name)
	for _, svc := range stack.Services {
		if len(running[svc.Name]) != svc.Replicas {
			t.Errorf("%s has %d containers, want %d",
				svc.Name, len(running[svc.Name]), svc.Replicas)
		}
	}

	checkHardening(t, running, false)
	smallImages(t, c, running)
	modelReady(t, "http://127.0.0.1:"+port)
	b := newBrowser(t)
	chat(t, b, "http://127.0.0.1:"+port+"/")
	b.screenshot(t, "without-provider")
	t.Run("the secret shows nowhere", func(t *testing.T) {
		showsNowhere(t, c, name, password, map[string]string{
			"up":     said,
			"config": compose(t, "config"),
		})
	})

	compose(t, "down", "-v")
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}, {"volume", "ls", "-q"}} {
		if left := c.must(t, time.Minute, "docker",
			append(list, "--filter", "label="+stacks.LabelStack+"="+name)...); left != "" {
			t.Errorf("docker %s after down: %s", strings.Join(list, " "), left)
		}
	}
}

// buildImages returns the references of all services' images, after building those that are
// the repository's own. They are untagged when the test ends; BuildKit's cache keeps what
// the next build can use.
func (c *checkout) buildImages(t *testing.T, stack stacks.Stack) map[string]string {
	t.Helper()
	made, images, built := c.builtImages(t), map[string]string{}, map[string]bool{}
	t.Cleanup(func() {
		if len(built) == 0 {
			return
		}

		refs := slices.Sorted(maps.Keys(built))
		if out, err := exec.Command("docker",
			append([]string{"image", "rm", "-f"}, refs...)...).CombinedOutput(); err != nil {
			t.Logf("clean-up of images: %v: %s", err, out)
		}
	})

	for _, svc := range stack.Services {
		if images[svc.Name] = svc.Image.Ref; svc.Image.Build == nil {
			continue
		}
		ref := svc.Image.Build.Repository + ":" + stack.Name
		c.tag(t, made, *svc.Image.Build, ref)
		images[svc.Name], built[ref] = ref, true
	}

	return images
}

// modelReady waits until the page's own status is that all is ready: containers are
// healthy before the model is.
func modelReady(t *testing.T, edge string) {
	t.Helper()
	start := time.Now()
	for {
		var status struct {
			Status string
			Model  struct{ State, Error string }
		}

		resp, err := http.Get(edge + "/api/status")
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&status)
			resp.Body.Close()
		}

		if err == nil && status.Status == "ready" && status.Model.State == "ready" {
			t.Logf("healthy to model ready: %.1f s", time.Since(start).Seconds())
			return
		}

		last := fmt.Sprintf("status %q, model %q %s (%v)", status.Status, status.Model.State,
			status.Model.Error, err)
		if status.Model.State == "failed" || time.Since(start) > 5*time.Minute {
			t.Fatalf("the stack is not ready after %s: %s",
				time.Since(start).Round(time.Second), last)
		}

		time.Sleep(100 * time.Millisecond)
	}
}
