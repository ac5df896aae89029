// Package peers finds the real programs that tests run against. Its build.sh makes
// those that no package has.
package peers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dockerPlugin is the version of the docker provider that belongs to the program's SDK.
const dockerPlugin = "4.10.0"

// The variables that test/cluster/cluster.sh prints for its cluster. Another kubeconfig is not
// used: it may lead to a cluster that people depend on.
const (
	kubeconfigVariable = "CODEXCONTINUE_KUBECONFIG"
	containerdVariable = "CODEXCONTINUE_CONTAINERD"
)

// Missing skips the test because the peer is absent; why is what was looked for. If
// CODEXCONTINUE_REQUIRE_PEERS, a comma-separated list, names the peer, the test fails.
func Missing(t testing.TB, peer string, why error) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("CODEXCONTINUE_REQUIRE_PEERS"), ","), peer) {
		t.Fatalf("peer %s is required but absent: %v", peer, why)
	}
	t.Skipf("peer %s is absent, so this was not tested: %v", peer, why)
}

// FreePort returns a port of the address that nobody listens on. It is below those that the kernel
// gives to whoever asks for any, so that no server of another package's test has it by the time that
// this one listens. Nor is it given to another test, of this or another package, until this one has
// ended: both would find the first server that answers there.
func FreePort(t testing.TB, address string) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20_000 + rand.IntN(10_000))
		if !claim(t, port) { // not even to look: its test may be about to listen
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}

	t.Fatal("no port from 20000 on is free")
	return ""
}

// claim reports whether no other test has claimed the port. It does so until the test ends, by an
// abstract socket, which goes with the process. Other systems than Linux have none.
func claim(t testing.TB, port string) bool {
	if runtime.GOOS != "linux" {
		return true
	}

	l, err := net.Listen("unix", "@codexcontinue-test-port-"+port)
	if err == nil {
		t.Cleanup(func() { l.Close() })
	}
	return !errors.Is(err, syscall.EADDRINUSE)
}

// EndToEnd skips the test unless CODEXCONTINUE_E2E is set, as `make e2e` does. Tests that provision
// on this machine call it, so that they run one after the other and beside nothing else. An engine
// that adds a network changes the machine's addresses, at which a browser drops every connection
// (net::ERR_NETWORK_CHANGED).
func EndToEnd(t testing.TB) {
	t.Helper()
	if os.Getenv("CODEXCONTINUE_E2E") == "" {
		t.Skip("an end-to-end test takes minutes and changes this machine's networks: `make e2e` runs it")
	}
}

// Find returns the path of the first of the programs that is on PATH. If none
// is, the peer is missing.
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

// DockerPlugin returns the path of Pulumi's docker provider. It looks where the Pulumi CLI does: on
// PATH, and in the folder of its plugins.
func DockerPlugin(t testing.TB) string {
	t.Helper()
	return plugin(t, "docker-plugin", "docker", "v"+dockerPlugin)
}

// KubernetesPlugin returns the path of Pulumi's Kubernetes provider, in any version: the CLI uses
// the one on PATH, and build.sh can make only some versions.
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

// Cluster returns the kubeconfig of the cluster that test/cluster/cluster.sh started, and the
// socket of its containerd. It sets the test's KUBECONFIG.
func Cluster(t testing.TB) (kubeconfig, containerd string) {
	t.Helper()
	kubeconfig, containerd = os.Getenv(kubeconfigVariable), os.Getenv(containerdVariable)
	if kubeconfig == "" {
		Missing(t, "kubernetes",
			errors.New(kubeconfigVariable+" is not set: test/cluster/cluster.sh up prints it"))
	}

	files := map[string]string{kubeconfigVariable: kubeconfig, containerdVariable: containerd}
	for variable, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%s: %v: start the cluster again with test/cluster/cluster.sh up",
				variable, err)
		}
	}

	t.Setenv("KUBECONFIG", kubeconfig)
	return kubeconfig, containerd
}
