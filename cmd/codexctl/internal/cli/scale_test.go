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

// TestScaleRefused: what the policy forbids is said before the settings are written, whether they
// break it already or the number does.
func TestScaleRefused(t *testing.T) {
	const closed = "config:\n  codexcontinue:overlay: prod\n" +
		"  codexcontinue:edge: {address: 127.0.0.1, port: 8080}\n" +
		"  codexcontinue:redisPassword: {secure: AAAA}\n"
	const secret = "  codexcontinue:services:\n    gate:\n      secrets:\n        API_KEY: {secure: BBBB}\n"
	for name, tt := range map[string]struct {
		settings, service, replicas, want string
	}{
		"already":  {closed + "  codexcontinue:debug: true\n", "backend", "2", "debug"},
		"the last": {closed, "gate", "1", "replicas open on docker: gate has one replica"},
		"of one with secrets": {
			closed + secret, "gate", "1", "replicas open on docker: gate has one replica",
		},
	} {
		dir, file := checkout(t, "open", tt.settings)
		var stderr strings.Builder
		code := Run(t.Context(), []string{"scale", "-C", dir, "-s", "open", tt.service, tt.replicas},
			[]string{"HOME=" + t.TempDir()}, nil, io.Discard, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "Nothing was done: the policy") ||
			!strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%s: exit code %d, %s", name, code, &stderr)
		}

		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(after) != tt.settings {
			t.Errorf("%s: the settings are\n%s", name, after)
		}
	}
}
