package openai_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// modulesVariable names the folder in whose node_modules OpenAI's client for JavaScript is.
const modulesVariable = "CODEXCONTINUE_OPENAI_JS"

// javascript returns the path of Node.js, and the folder with the modules. Without them the test is
// skipped.
func javascript(t *testing.T) (node, modules string) {
	t.Helper()
	node, modules = peers.Find(t, "openai-js", "node"), os.Getenv(modulesVariable)
	if _, err := os.Stat(filepath.Join(modules, "node_modules", "openai")); err != nil ||
		modules == "" {
		peers.Missing(t, "openai-js",
			errors.New(modulesVariable+" names no folder where test/peers/build.sh openai-js was"))
	}
	return node, modules
}

// TestJavaScript asks with the official client for JavaScript.
func TestJavaScript(t *testing.T) {
	node, modules := javascript(t)
	s := start(t)
	out, err := exec.CommandContext(t.Context(), node, "testdata/client.mjs", s.gate+"/v1", s.key,
		modules, tinymodel.Answer, tinymodel.Filling, tinymodel.LoopToken).CombinedOutput()
	const checks = "models chat stream tools completions embeddings errors abort"
	if err != nil || strings.Join(strings.Fields(string(out)), " ") != checks {
		t.Errorf("%v: %s", err, out)
	}

	s.quiet(t)
	s.unkept(t, seeded, s.key, "main.go")
}
