package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkout returns a copy of the project that has one stack, with these settings.
func checkout(t *testing.T, stack, settings string) (dir, file string) {
	t.Helper()
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}

	dir = t.TempDir()
	for _, name := range []string{"Pulumi.yaml", "go.mod", "modelfiles", "services", "stacks"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}

	file = filepath.Join(dir, "Pulumi."+stack+".yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}

	return dir, file
}

// TestScaleRefused: what the policy forbids is said before the settings are written.
func TestScaleRefused(t *testing.T) {
	const settings = "config:\n  codexcontinue:overlay: prod\n" +
		"  codexcontinue:edge: {address: 127.0.0.1, port: 8080}\n" +
		"  codexcontinue:debug: true\n  codexcontinue:redisPassword: {secure: AAAA}\n"
	dir, file := checkout(t, "open", settings)
	var stderr strings.Builder
	code := Run(t.Context(), []string{"scale", "-C", dir, "-s", "open", "backend", "2"},
		[]string{"HOME=" + t.TempDir()}, nil, io.Discard, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "Nothing was done: the policy") {
		t.Errorf("exit code %d, %s", code, &stderr)
	}

	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != settings {
		t.Errorf("the settings are\n%s", after)
	}
}
