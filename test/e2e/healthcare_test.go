package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// TestHealthcare starts the domain that has no way out as its documentation says, from nothing: the
// base model is downloaded to this machine and brought to it. Without it up says what to type before
// it makes anything.
func TestHealthcare(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, site = "e2e-healthcare", "http://127.0.0.1:23080"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, "overlay: healthcare\nportOffset: 15000")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "no-way-out-of-here")
	c.refused(t, stack, time.Minute, "codexctl certificates new "+stack)
	c.must(t, time.Minute, "bin/codexctl", "certificates", "new", stack)

	missing := missingModel(stack)
	c.refused(t, stack, lookTime, missing...)
	for _, kind := range []string{"container", "network", "volume"} {
		made := c.must(t, time.Minute, "docker", kind, "ls", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack)
		if made != "" {
			t.Errorf("up without the model has made a %s: %s", kind, made)
		}
	}

	t.Run("a file that is no model", func(t *testing.T) {
		_, said, err := c.run(t, time.Minute, "bin/codexctl", "model", "import", stack, "go.mod")
		if err == nil || !strings.Contains(said, "is neither a GGUF file nor") {
			t.Errorf("import says %q, %v", said, err)
		}
	})

	weights := tinyWeights(t)
	c.pulls(t, stack, "llama3", weights)
	c.noneLeft(t, stack, "the download")

	out, said, err := c.run(t, 15*time.Minute, "bin/codexctl", "up", stack)
	for _, want := range []string{
		"codexctl user invite --stack " + stack + " --admin NAME",
		"two lines in its firewall: `codexctl doctor " + stack + "` prints them",
	} {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(said), " "), want) {
			t.Fatalf("up does not say %q, %v:\n%s\n%s", want, err, tail(out, 20), tail(said, 40))
		}
	}
	b := newBrowser(t)
	ada := c.invite(t, stack, site, "ada", "--admin")
	b.signIn(t, ada, site)
	chat(t, b, site+"/")
	noChanges(t, c, stack)
	t.Run("TLS inside", func(t *testing.T) { c.speaksTLS(t, stack) })
	t.Run("content", func(t *testing.T) { contentStays(t, c, stack, b, ada) })

	t.Run("no way out", func(t *testing.T) { noWayOut(t, c, stack) })

	before := c.containers(t, stack)
	ollama := func(t *testing.T, args ...string) string {
		t.Helper()
		return c.must(t, time.Minute, "docker",
			append([]string{"exec", before[stacks.Ollama][0].ID, "ollama"}, args...)...)
	}
	t.Run("beside an Ollama that runs", func(t *testing.T) {
		c.must(t, time.Minute, "bin/codexctl", "model", "import", stack, weights, "--name",
			"second")
		list := ollama(t, "list")
		if !strings.Contains(list, "second:latest") || !strings.Contains(list, "llama3:latest") {
			t.Errorf("Ollama has\n%s", list)
		}

		sameContainers(t, before, c.containers(t, stack))
	})

	t.Run("an Ollama that runs and lacks it", func(t *testing.T) {
		ollama(t, "rm", "llama3") // first, as ml would make its own of it again
		for line := range strings.Lines(ollama(t, "list")) {
			if name, _, _ := strings.Cut(line, " "); strings.Contains(name, ":") {
				ollama(t, "rm", name)
			}
		}

		c.refused(t, stack, lookTime, missing...)
		sameContainers(t, before, c.containers(t, stack))
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// tinyWeights writes the tiny model's weights outside the checkout.
func tinyWeights(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tiny.gguf")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tinymodel.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}

	return name
}

// lookTime is how long up may take to find that the base model is missing.
const lookTime = 5 * time.Second

// missingModel is what up says of a stack of healthcare without its base model.
func missingModel(stack string) []string {
	return []string{
		"the base model llama3 is not in Ollama",
		"codexctl model pull " + stack + " llama3", "codexctl model import " + stack + " FILE.gguf",
	}
}
