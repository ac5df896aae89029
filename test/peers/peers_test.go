package peers_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// recorder is a test that records its end without ending the real one.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Skipf(f string, a ...any)  { r.stop("skip: ", f, a) }
func (r *recorder) Fatalf(f string, a ...any) { r.stop("fail: ", f, a) }
func (r *recorder) stop(how, f string, a []any) {
	r.end = how + fmt.Sprintf(f, a...)
	panic(r)
}

// outcome returns how a test that runs f ends, or "" if it goes on.
func outcome(t *testing.T, f func(testing.TB)) (end string) {
	r := &recorder{TB: t}
	defer func() {
		if p := recover(); p != nil && p != r {
			panic(p)
		}
		end = r.end
	}()

	f(r)
	return
}

func TestMissing(t *testing.T) {
	for list, want := range map[string]string{
		"":            "skip: peer redis is absent, so this was not tested: why",
		"redis2,my":   "skip: peer redis is absent, so this was not tested: why",
		"caddy,redis": "fail: peer redis is required but absent: why",
	} {
		t.Setenv("CODEXCONTINUE_REQUIRE_PEERS", list)
		if got := outcome(t, func(t testing.TB) {
			peers.Missing(t, "redis", errors.New("why"))
		}); got != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("PULUMI_HOME", dir)
	t.Setenv("CODEXCONTINUE_REQUIRE_PEERS", "")
	find := func(t testing.TB) {
		if got, want := peers.Find(t, "peer", "gone", "there"), filepath.Join(dir, "there"); got != want {
			t.Errorf("found %s, want %s", got, want)
		}
	}

	if got, want := outcome(t, find), "skip: peer peer is absent, so this was not tested: gone "+
		"or there is not on PATH"; got != want {
		t.Errorf("%s, want %s", got, want)
	}

	if got := outcome(t, func(t testing.TB) { peers.DockerPlugin(t) }); got == "" {
		t.Error("a plugin was found in an empty folder")
	}

	plugin := filepath.Join(dir, "plugins", "resource-docker-v4.10.0")
	if err := os.MkdirAll(plugin, 0o755); err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{filepath.Join(dir, "there"), filepath.Join(plugin, "pulumi-resource-docker")} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	if got := outcome(t, find) + outcome(t, func(t testing.TB) {
		peers.DockerPlugin(t)
	}); got != "" {
		t.Errorf("not found: %s", got)
	}
}

func TestCluster(t *testing.T) {
	dir := t.TempDir()
	config, socket := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "socket")
	t.Setenv("KUBECONFIG", "/somebody/depends/on/it")
	find := func(t testing.TB) {
		if c, s := peers.Cluster(t); c != config || s != socket {
			t.Errorf("found %s and %s", c, s)
		}
	}

	t.Setenv("CODEXCONTINUE_REQUIRE_PEERS", "")
	t.Setenv("CODEXCONTINUE_KUBECONFIG", "")
	t.Setenv("CODEXCONTINUE_CONTAINERD", socket)
	if got := outcome(t, find); !strings.HasPrefix(got, "skip: peer kubernetes is absent") {
		t.Errorf("without a cluster: %q", got)
	}

	t.Setenv("CODEXCONTINUE_REQUIRE_PEERS", "kubernetes")
	if got := outcome(t, find); !strings.HasPrefix(got, "fail: peer kubernetes is required") {
		t.Errorf("without the cluster that is required: %q", got)
	}

	t.Setenv("CODEXCONTINUE_KUBECONFIG", config)
	if got := outcome(t, find); !strings.Contains(got, "start the cluster again") {
		t.Errorf("with a cluster that was stopped: %q", got)
	}

	for _, file := range []string{config, socket} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if got := outcome(t, find); got != "" || os.Getenv("KUBECONFIG") != config {
		t.Errorf("with a cluster: %q, KUBECONFIG %s", got, os.Getenv("KUBECONFIG"))
	}
}

func TestKubernetesPlugin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("PULUMI_HOME", dir)
	t.Setenv("CODEXCONTINUE_REQUIRE_PEERS", "kubernetes-plugin")
	if got := outcome(t, func(t testing.TB) {
		peers.KubernetesPlugin(t)
	}); !strings.HasPrefix(got, "fail: peer kubernetes-plugin is required") {
		t.Errorf("in an empty folder: %q", got)
	}

	plugin := filepath.Join(dir, "plugins", "resource-kubernetes-v4.30.0")
	if err := os.MkdirAll(plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(plugin, "pulumi-resource-kubernetes"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, func(t testing.TB) { peers.KubernetesPlugin(t) }); got != "" {
		t.Errorf("not found: %s", got)
	}
}
