package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// withoutCheckout holds that what runs is made of the images and of what was handed to the engine:
// the checkout can go, or be another one's.
func withoutCheckout(t *testing.T, c *checkout, stack string) {
	for service, list := range c.containers(t, stack) {
		for _, x := range list {
			for _, m := range x.Mounts {
				if m.Type == "bind" {
					t.Errorf("%s mounts %s of the machine at %s", service, m.Source, m.Destination)
				}
			}
		}
	}

	away := c.path("modelfiles") + "-away"
	if err := os.Rename(c.path("modelfiles"), away); err != nil {
		t.Fatal(err)
	}
	for _, x := range c.containers(t, stack)[stacks.ML] {
		c.must(t, 5*time.Minute, "docker", "restart", x.ID)
	}
	if err := os.Rename(away, c.path("modelfiles")); err != nil {
		t.Fatal(err)
	}

	// It waits until ml is healthy and has its version of the model.
	c.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
	noChanges(t, c, stack)
}

// builtAgain removes a service's containers and its image, as a prune does.
func builtAgain(t *testing.T, c *checkout, stack string) {
	before := c.containers(t, stack)
	ref := before[stacks.Backend][0].Config.Image
	for _, x := range before[stacks.Backend] {
		c.must(t, time.Minute, "docker", "rm", "-f", x.ID)
	}
	c.must(t, time.Minute, "docker", "rmi", "-f", ref)

	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	after := c.containers(t, stack)
	if n := len(after[stacks.Backend]); n != len(before[stacks.Backend]) {
		t.Errorf("%d containers of backend, want %d", n, len(before[stacks.Backend]))
	}
	if got := after[stacks.Backend][0].Config.Image; got != ref {
		t.Errorf("backend runs %s, want %s", got, ref)
	}
	noChanges(t, c, stack)
}

// listsWhatIsInside reads what codexctl says the images are made of.
func listsWhatIsInside(t *testing.T, c *checkout, stack string) {
	out := c.must(t, 10*time.Minute, "bin/codexctl", "images", "sbom", stack, "-o", t.TempDir())
	files := strings.Fields(out)
	if len(files) != 5 { // gate, frontend, backend, ml, ollama
		t.Errorf("%d files: %s", len(files), out)
	}

	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			BOMFormat  string
			Components []struct{ PURL string }
		}
		if err := json.Unmarshal(text, &bom); err != nil {
			t.Fatal(err)
		}

		found := false
		for _, x := range bom.Components {
			found = found || strings.HasPrefix(x.PURL, "pkg:golang/stdlib@1.")
		}
		if bom.BOMFormat != "CycloneDX" || !found {
			t.Errorf("%s: %s without Go's own library", file, bom.BOMFormat)
		}
	}
}

// TestOtherPlatform builds a service for a processor that this machine does not have. A stack of that
// platform is refused by an engine of another, before anything is made.
func TestOtherPlatform(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack = "e2e-platform"
	c := newCheckout(t)
	c.remove(t, stack)
	own := strings.TrimSpace(c.must(t, time.Minute, "docker", "version", "-f", "{{.Server.Arch}}"))
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[own]
	c.settings(t, stack, "overlay: prod\nplatform: linux/"+other)

	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "correct-horse-battery-staple")

	ref := ""
	for _, line := range strings.Fields(c.must(t, time.Minute, "bin/codexctl", "images", "list", stack)) {
		if strings.HasPrefix(line, "codexcontinue/gate:") {
			ref = line
		}
	}
	t.Cleanup(func() { c.run(t, time.Minute, "docker", "rmi", "-f", ref) })

	// It ends at Ollama, of which there is an equivalent for this platform alone here.
	_, errOut, _ := c.run(t, 20*time.Minute, "bin/codexctl", "images", "build", stack)
	got := strings.TrimSpace(c.must(t, time.Minute, "docker", "image", "inspect", "-f",
		"{{.Architecture}}", ref))
	if got != other {
		t.Errorf("%s is for %s, want %s:\n%s", ref, got, other, tail(errOut, 30))
	}

	_, errOut, err := c.run(t, 5*time.Minute, "bin/codexctl", "up", stack)
	want := "codexcontinue:platform: images are built for linux/" + other +
		", and the engine runs on linux/" + own
	if err == nil || !strings.Contains(errOut, want) {
		t.Errorf("%v, want %s:\n%s", err, want, tail(errOut, 20))
	}
	if left := c.containers(t, stack); len(left) != 0 {
		t.Errorf("a refused up left containers: %v", left)
	}
}
