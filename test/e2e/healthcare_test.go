package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// TestHealthcare starts the domain that has no way out as its documentation says: the base model is
// brought to it. Without it up says what to type before it makes anything; the model comes into the
// volume of a stack that is down, and beside an Ollama that runs.
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

	weights := tinyWeights(t)
	missing := missingModel(stack)
	c.refused(t, stack, lookTime, missing...)
	for _, kind := range []string{"container", "network", "volume"} {
		made := c.must(t, time.Minute, "docker", kind, "ls", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack)
		if made != "" {
			t.Errorf("up without the model has made a %s: %s", kind, made)
		}
	}

	c.must(t, 15*time.Minute, "bin/codexctl", "up", "--no-wait", stack)
	before := c.containers(t, stack)
	c.refused(t, stack, lookTime, missing...) // it asks the Ollama that runs
	sameContainers(t, before, c.containers(t, stack))

	t.Run("a file that is no model", func(t *testing.T) {
		_, said, err := c.run(t, time.Minute, "bin/codexctl", "model", "import", stack, "go.mod")
		if err == nil || !strings.Contains(said, "is neither a GGUF file nor") {
			t.Errorf("import says %q, %v", said, err)
		}
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
	c.refused(t, stack, lookTime, missing...) // it looks into the volume
	c.noneLeft(t, stack, "a look into the volume")

	c.must(t, 5*time.Minute, "bin/codexctl", "model", "import", stack, weights)
	c.noneLeft(t, stack, "the import")

	out, said, err := c.run(t, 5*time.Minute, "bin/codexctl", "up", stack)
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
	t.Run("beside an Ollama that runs", func(t *testing.T) {
		before := c.containers(t, stack)
		c.must(t, time.Minute, "bin/codexctl", "model", "import", stack, weights, "--name",
			"second")
		list := c.must(t, time.Minute, "docker", "exec", before["ollama"][0].ID, "ollama", "list")
		if !strings.Contains(list, "second:latest") || !strings.Contains(list, "llama3:latest") {
			t.Errorf("Ollama has\n%s", list)
		}

		sameContainers(t, before, c.containers(t, stack))
	})

	t.Run("from a registry", func(t *testing.T) {
		name := oneModelRegistry(t, weights) + "/library/third"
		c.must(t, time.Minute, "bin/codexctl", "model", "pull", stack, name)
		list := c.must(t, time.Minute, "docker", "exec", c.containers(t, stack)["ollama"][0].ID,
			"ollama", "list")
		if !strings.Contains(list, "/library/third:latest") {
			t.Errorf("Ollama has\n%s", list)
		}
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// oneModelRegistry serves a model of the weights by whatever name, as a registry does,
// and returns its address.
func oneModelRegistry(t *testing.T, weights string) string {
	t.Helper()
	content, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}

	type part struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}

	blobs := map[string][]byte{}
	add := func(kind string, content []byte) part {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
		blobs[digest] = content
		return part{kind, digest, len(content)}
	}

	manifest, err := json.Marshal(map[string]any{
		"config": add("application/vnd.docker.container.image.v1+json", []byte("{}")),
		"layers": []part{add("application/vnd.ollama.image.model", content)},
	})
	if err != nil {
		t.Fatal(err)
	}

	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := blobs[path.Base(r.URL.Path)]
		if strings.HasSuffix(r.URL.Path, "/manifests/latest") {
			what = manifest
		}

		if what == nil {
			http.NotFound(w, r)
			return
		}

		_, _ = w.Write(what)
	}))

	t.Cleanup(s.Close)
	return s.URL
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
