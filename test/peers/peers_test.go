package peers_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// recorder is a test that does not end the one it is in.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Skipf(f string, a ...any)  { r.end("skip: ", f, a) }
func (r *recorder) Fatalf(f string, a ...any) { r.end("fail: ", f, a) }
func (r *recorder) end(how, f string, a []any) {
	r.said = how + fmt.Sprintf(f, a...)
	panic(r)
}

// verdict is how a test that runs f ends; empty when it goes on.
func verdict(t *testing.T, f func(testing.TB)) (said string) {
	r := &recorder{TB: t}
	defer func() {
		if p := recover(); p != nil && p != r {
			panic(p)
		}
		said = r.said
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
		if got := verdict(t, func(t testing.TB) { peers.Missing(t, "redis", errors.New("why")) }); got != want {
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
	if got, want := verdict(t, find), "skip: peer peer is absent, so this was not tested: gone or there is not on PATH"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := verdict(t, peers.DockerPlugin); got == "" {
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
	if got := verdict(t, find) + verdict(t, peers.DockerPlugin); got != "" {
		t.Errorf("not found: %s", got)
	}
}
