package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// TestHealthcare starts the domain that has no way out as its documentation says: the base model is
// brought to it. Without it up says what to type; the model comes into the volume of a stack that is
// down, and beside an Ollama that runs.
func TestHealthcare(t *testing.T) {
	enabled(t)
	const stack, port = "e2e-healthcare", "23080"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, "overlay: healthcare\nportOffset: 15000")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "no-way-out-of-here")

	weights := filepath.Join(t.TempDir(), "tiny.gguf")
	f, err := os.Create(weights)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tinymodel.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}

	missing := []string{
		"the base model llama3 is not in Ollama",
		"codexctl model pull " + stack + " llama3", "codexctl model import " + stack + " FILE.gguf",
	}
	c.refused(t, stack, 5*time.Minute, missing...)
	c.refused(t, stack, 30*time.Second, missing...) // nothing to do but to find that out

	t.Run("a file that is no model", func(t *testing.T) {
		_, said, err := c.run(t, time.Minute, "bin/codexctl", "model", "import", stack, "go.mod")
		if err == nil || !strings.Contains(said, "is neither a GGUF file nor") {
			t.Errorf("import says %q, %v", said, err)
		}
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
	c.must(t, 5*time.Minute, "bin/codexctl", "model", "import", stack, weights)
	if left := c.containers(t, stack); len(left) != 0 {
		t.Errorf("containers left after the import: %v", left)
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
	chat(t, newBrowser(t), "http://127.0.0.1:"+port+"/")
	noChanges(t, c, stack)

	t.Run("beside an Ollama that runs", func(t *testing.T) {
		before := c.containers(t, stack)
		c.must(t, time.Minute, "bin/codexctl", "model", "import", stack, weights, "--name", "second")
		list := c.must(t, time.Minute, "docker", "exec", before["ollama"][0].ID, "ollama", "list")
		if !strings.Contains(list, "second:latest") || !strings.Contains(list, "llama3:latest") {
			t.Errorf("Ollama has\n%s", list)
		}
		sameContainers(t, before, c.containers(t, stack))
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}
