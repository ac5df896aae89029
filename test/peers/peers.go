// Package peers finds the real programs that tests run against; build.sh beside it makes
// those that no package has.
package peers

import (
	"errors"
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

// Where test/cluster/cluster.sh says that its cluster is. A kubeconfig that is merely there must
// not be enough: it may lead to a cluster that people depend on.
const (
	kubeconfigVariable = "CODEXCONTINUE_KUBECONFIG"
	containerdVariable = "CODEXCONTINUE_CONTAINERD"
)

// Missing skips the test, as the peer is absent: why says what was looked for. The test fails where
// CODEXCONTINUE_REQUIRE_PEERS, a list with commas, names the peer.
func Missing(t testing.TB, peer string, why error) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("CODEXCONTINUE_REQUIRE_PEERS"), ","), peer) {
		t.Fatalf("peer %s is required but absent: %v", peer, why)
	}
	t.Skipf("peer %s is absent, so this was not tested: %v", peer, why)
}

// EndToEnd skips the test unless CODEXCONTINUE_E2E is set, as `make e2e` does. Tests that provision
// on this machine ask for it, so that they run one after the other and beside nothing else: an
// engine that adds a network changes the machine's addresses, and a browser drops every connection
// then (net::ERR_NETWORK_CHANGED).
func EndToEnd(t testing.TB) {
	t.Helper()
	if os.Getenv("CODEXCONTINUE_E2E") == "" {
		t.Skip("an end-to-end test takes minutes and changes this machine's networks: `make e2e` runs it")
	}
}

// Find returns the path of the first of the programs that is on PATH. Without
// any the peer is missing.
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

// DockerPlugin finds Pulumi's docker provider where the Pulumi CLI does: on PATH, and in the
// folder of its plugins.
func DockerPlugin(t testing.TB) string {
	t.Helper()
	return plugin(t, "docker-plugin", "docker", "v"+dockerPlugin)
}

// KubernetesPlugin finds Pulumi's Kubernetes provider in the same places, in any version: the CLI
// takes the one on PATH, and build.sh can make only some versions.
func KubernetesPlugin(t testing.TB) string {
	t.Helper()
	return plugin(t, "kubernetes-plugin", "kubernetes", "v*")
}

func plugin(t testing.TB, peer, name, version string) string {
	t.Helper()
	program := "pulumi-resource-" + name
	if path, err := exec.LookPath(program); err == nil {
		return path
	}

	home := os.Getenv("PULUMI_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		home = filepath.Join(user, ".pulumi")
	}

	pattern := filepath.Join(home, "plugins", "resource-"+name+"-"+version, program)
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		Missing(t, peer, fmt.Errorf("%s is not on PATH, and there is no %s", program, pattern))
	}

	return found[len(found)-1]
}

// Cluster returns the kubeconfig of the cluster that test/cluster/cluster.sh started, which is also
// the test's KUBECONFIG then, and the socket of its containerd.
func Cluster(t testing.TB) (kubeconfig, containerd string) {
	t.Helper()
	kubeconfig, containerd = os.Getenv(kubeconfigVariable), os.Getenv(containerdVariable)
	if kubeconfig == "" {
		Missing(t, "kubernetes",
			errors.New(kubeconfigVariable+" is not set: test/cluster/cluster.sh up prints it"))
	}

	for variable, file := range map[string]string{kubeconfigVariable: kubeconfig, containerdVariable: containerd} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%s: %v: start the cluster again with test/cluster/cluster.sh up", variable,
				err)
		}
	}

	t.Setenv("KUBECONFIG", kubeconfig)
	return kubeconfig, containerd
}
