//go:build unix

package chaos

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine writes what the kernel would tell of processes, each "PID PARENT ARGV...".
func machine(t *testing.T, processes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range processes {
		f := strings.Fields(p)
		of := filepath.Join(dir, f[0])
		if err := os.MkdirAll(of, 0o755); err != nil {
			t.Fatal(err)
		}

		for name, text := range map[string]string{
			"cmdline": strings.Join(f[2:], "\x00") + "\x00",
			"stat":    f[0] + " (a) name) S " + f[1] + " 1 1",
			"environ": "A=b\x00C=d e\x00",
		} {
			if err := os.WriteFile(filepath.Join(of, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}

		if err := os.Symlink("/", filepath.Join(of, "cwd")); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

// TestEngine: all of the engine dies, it first, and nothing else does: a cluster's containerd has
// shims as well.
func TestEngine(t *testing.T) {
	const shim = " 1 /usr/bin/containerd-shim-runc-v2 -namespace moby -id x -address "
	proc := machine(t,
		"1 0 /sbin/init",
		"90 1 sudo dockerd --group root",
		"100 90 /usr/bin/dockerd --group root",
		"101 100 containerd --config /run/docker/containerd/containerd.toml --log-level info",
		"102 100 /usr/bin/docker-proxy -proto tcp",
		"20"+shim+"/run/docker/containerd/containerd.sock",
		"30 20 /sbin/docker-init -- /backend",
		"31 30 /backend",
		"40"+shim+"/run/cluster/containerd.sock",
		"41 40 /backend",
		"50 1 /usr/bin/containerd",
	)

	var killed []int
	e, err := findEngine(proc, func(pid int) error {
		killed = append(killed, pid)
		return os.RemoveAll(filepath.Join(proc, strconv.Itoa(pid)))
	})
	if err != nil {
		t.Fatal(err)
	}

	if !slices.Equal(e.argv, []string{"/usr/bin/dockerd", "--group", "root"}) ||
		!slices.Equal(e.env, []string{"A=b", "C=d e"}) || e.dir != "/" || e.log != os.DevNull {
		t.Errorf("found %+v", e)
	}

	n, err := e.Kill(t.Context())
	if err != nil || n != 6 || killed[0] != 100 {
		t.Errorf("%d killed, %v (%v)", n, killed, err)
	}

	slices.Sort(killed)
	if want := []int{20, 30, 31, 100, 101, 102}; !slices.Equal(killed, want) {
		t.Errorf("killed %v, want %v", killed, want)
	}
}

// TestEngineStays: one that goes on is told.
func TestEngineStays(t *testing.T) {
	proc := machine(t, "100 1 dockerd", "101 100 containerd --config /run/containerd.toml")
	e, err := findEngine(proc, func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}

	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Kill(soon); err == nil {
		t.Error("an engine that lives counts as dead")
	}
}

// TestNoEngine: an engine whose containerd is not its own cannot be killed as a whole, and of two
// it is not known which is meant.
func TestNoEngine(t *testing.T) {
	for want, proc := range map[string]string{
		"0 processes":       machine(t, "1 0 /sbin/init"),
		"2 processes":       machine(t, "100 1 dockerd", "101 1 dockerd"),
		"containerd of its": machine(t, "100 1 dockerd", "50 1 containerd --config /etc/c.toml"),
	} {
		if _, err := findEngine(proc, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}
