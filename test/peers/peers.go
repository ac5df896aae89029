// Package peers finds the real programs that tests run against; build.sh beside it makes those that no package has.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dockerPlugin is the version of the docker provider that the program's SDK is made for.
const dockerPlugin = "4.10.0"

// Missing skips the test, as the peer is absent: why says what was looked for. The test fails where
// CODEXCONTINUE_REQUIRE_PEERS, a list with commas, names the peer.
func Missing(t testing.TB, peer string, why error) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("CODEXCONTINUE_REQUIRE_PEERS"), ","), peer) {
		t.Fatalf("peer %s is required but absent: %v", peer, why)
	}
	t.Skipf("peer %s is absent, so this was not tested: %v", peer, why)
}

// EndToEnd skips the test unless CODEXCONTINUE_E2E is set, as `make e2e` does. Tests that provision on this machine ask
// for it, so that they run one after the other and beside nothing else: an engine that adds a network changes the
// machine's addresses, and a browser drops every connection then (net::ERR_NETWORK_CHANGED).
func EndToEnd(t testing.TB) {
	t.Helper()
	if os.Getenv("CODEXCONTINUE_E2E") == "" {
		t.Skip("an end-to-end test takes minutes and changes this machine's networks: `make e2e` runs it")
	}
}

// Find returns the path of the first of the programs that is on PATH. Without any the peer is missing.
func Find(t testing.TB, peer string, programs ...string) string {
	t.Helper()
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	Missing(t, peer, fmt.Errorf("%s is not on PATH", strings.Join(programs, " or ")))
	return ""
}

// DockerPlugin looks for Pulumi's docker provider where the Pulumi CLI does: on PATH, and in the folder of its plugins.
func DockerPlugin(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("pulumi-resource-docker"); err == nil {
		return
	}
	home := os.Getenv("PULUMI_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		home = filepath.Join(user, ".pulumi")
	}
	if _, err := os.Stat(filepath.Join(home, "plugins", "resource-docker-v"+dockerPlugin, "pulumi-resource-docker")); err != nil {
		Missing(t, "docker-plugin", err)
	}
}
