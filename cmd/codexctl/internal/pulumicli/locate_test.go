package pulumicli

import (
	"os"
	"strings"
	"testing"
)

// TestVersions compares the versions with those that the modules pin.
func TestVersions(t *testing.T) {
	for path, lines := range map[string][]string{
		"../../../../go.mod": {
			"\ngo " + Go,
			"\n\tgithub.com/pulumi/pulumi-docker/sdk/v4 v" + DockerProvider + "\n",
			"\n\tgithub.com/pulumi/pulumi-kubernetes/sdk/v4 v" + KubernetesProvider + "\n",
		},
		"../../../../tools/pulumi/go.mod": {"github.com/pulumi/pulumi/pkg/v3 v" + Version + "\n"},
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		for _, line := range lines {
			if !strings.Contains(string(text), line) {
				t.Errorf("%s does not say %q", path, line)
			}
		}
	}
}
