package learn_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/learning"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// heeding makes the tiny model one that gives its other answer where it has an example before the
// question.
const heeding = `# The model.
FROM tiny.gguf
PARAMETER num_thread 1
TEMPLATE """{{ $end := "" }}{{ range .Messages }}{{ if eq .Role "assistant" }}` +
	`{{ $end = "` + tinymodel.AltToken + `" }}{{ end }}[{{ .Role }}] {{ .Content }}
{{ end }}[assistant]{{ $end }}"""
`

// ollama starts a server of its own and returns its URL.
func ollama(t *testing.T) string {
	t.Helper()
	peers.Find(t, "ollama", "ollama")
	host, home := "127.0.0.1:"+peers.FreePort(t, "127.0.0.1"), t.TempDir()
	cmd := exec.Command("ollama", "serve")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "OLLAMA_HOST=" + host,
		"OLLAMA_MODELS=" + filepath.Join(home, "models"), "OLLAMA_NO_CLOUD=1", "TMPDIR=" + home}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it ends what it has started
		_ = cmd.Wait()
	})

	url := "http://" + host
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(url + "/api/version"); err == nil {
			_ = resp.Body.Close()
			return url
		}
		if time.Now().After(deadline) {
			t.Fatal("Ollama does not answer")
		}
	}
}

// serving returns the digest of the version of m that serves.
func serving(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/api/tags")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var all struct {
		Models []struct{ Name, Digest string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all.Models {
		if m.Name == "m:latest" {
			return m.Digest
		}
	}
	t.Fatalf("no version serves: %+v", all)
	return ""
}

// TestLearnedVersion proposes a correction that was accepted. The model fails its case without the
// example, and the version before goes on serving; with both it passes, and serves.
func TestLearnedVersion(t *testing.T) {
	url := ollama(t)
	ml := filepath.Join(t.TempDir(), "ml")
	build := exec.Command("go", "build", "-o", ml, "../../../../services/ml")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	var gguf bytes.Buffer
	if err := tinymodel.Write(&gguf); err != nil {
		t.Fatal(err)
	}
	c := checkoutOf(t, map[string]string{
		"Modelfile": heeding, "tiny.gguf": gguf.String(),
		"evals.yaml": "cases:\n  - name: says something\n    prompt: Hi\n    must: [\"[a-z]\"]\n",
	})

	// apply makes the version of the checkout, as the plan of it says.
	apply := func() (string, error) {
		t.Helper()
		dir := filepath.Join(c.Root, filepath.Dir(c.Modelfile))
		m, err := modelfiles.Load(os.DirFS(dir), "Modelfile", "")
		if err != nil {
			t.Fatal(err)
		}
		e, err := modelfiles.LoadEvals(os.DirFS(dir), "Modelfile")
		if err != nil {
			t.Fatal(err)
		}

		cmd := exec.Command(ml, "model", "apply", "--tries", "1")
		cmd.Env = []string{"ENVIRONMENT=test", "LOG_LEVEL=info", "DEBUG=false",
			"LISTEN_ADDR=127.0.0.1:" + peers.FreePort(t, "127.0.0.1"), "DRAIN_TIMEOUT=5s",
			"OLLAMA_API_URL=" + url, "DEFAULT_MODEL=m",
			"MODELFILE_PATH=" + filepath.Join(dir, "Modelfile"), "MODELFILE_DIGEST=" + m.Digest,
			"EVALS_DIGEST=" + e.Digest, "APPLY_MODEL=false", "MAX_PARALLEL=1", "MAX_QUEUE=2",
			"GENERATION_TIMEOUT=1m", "KEEP_ALIVE=1m", "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := apply(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first := serving(t, url)

	p, err := c.Propose(t.Context(), []learning.Submission{
		accepted("Which version speaks?", "The second version is speaking.", "Second version speaking"),
	})
	if err != nil || p.Examples != 1 || p.Cases != 1 {
		t.Fatalf("%+v, %v", p, err)
	}

	learned := read(t, c, "Modelfile")
	path := filepath.Join(c.Root, c.Modelfile)
	if err := os.WriteFile(path, []byte(heeding), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := apply(); err == nil || !strings.Contains(out, "does not pass its evals") &&
		!strings.Contains(out, `"learned `) {
		t.Fatalf("without the example: %v: %s", err, out)
	}
	if now := serving(t, url); now != first {
		t.Errorf("without the example %s serves, not %s", now, first)
	}

	if err := os.WriteFile(path, []byte(learned), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := apply(); err != nil {
		t.Fatalf("with the example: %v: %s", err, out)
	}
	if serving(t, url) == first {
		t.Error("with the example the version before still serves")
	}
}
