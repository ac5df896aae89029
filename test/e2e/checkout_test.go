package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/worktree"
)

// checkout is a copy of the working tree with its own Pulumi state, in which codexctl and pulumi
// are run as a person would run them. Its stacks have names of their own and shifted ports, so that
// a developer's dev stack on the same engine is left alone.
type checkout struct {
	dir string
	env []string

	// within is a command that runs every other, such as one that enters a namespace.
	within []string
}

// newCheckout is a copy of the working tree with codexctl built.
func newCheckout(t *testing.T) *checkout {
	t.Helper()
	c := copyTree(t)
	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")
	return c
}

// copyTree copies what git knows of the working tree, uncommitted changes too.
func copyTree(t *testing.T) *checkout {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	// Services in containers read the mounted tree as another user than the one that made it.
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	if err := worktree.Copy(t.Context(), root, dir); err != nil {
		t.Fatal(err)
	}

	domains, err := filepath.Glob(filepath.Join(dir, "modelfiles", "*", "Modelfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, modelfile := range domains {
		writeEvals(t, filepath.Dir(modelfile), ".")
	}

	// Whatever somebody is logged in to on this machine, the state is the checkout's own.
	env := append(os.Environ(), "PULUMI_CONFIG_PASSPHRASE=end-to-end", "PULUMI_BACKEND_URL=",
		"PULUMI_CREDENTIALS_PATH="+t.TempDir(),
		"NO_COLOR=1", "PULUMI_SKIP_UPDATE_CHECK=true")
	return &checkout{dir: dir, env: env}
}

// writeEvals writes evals into a folder of a model that the models of tests pass whose answer
// matches the pattern: those of the repository are for models that can do more.
func writeEvals(t *testing.T, folder, pattern string) {
	t.Helper()
	text := "cases: [{name: answers, prompt: Hello, must: ['" + pattern + "'], tokens: 32}]\n"
	if err := os.WriteFile(filepath.Join(folder, "evals.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// settings writes Pulumi.<stack>.yaml for a throwaway stack.
func (c *checkout) settings(t *testing.T, stack, values string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("config:\n")
	for line := range strings.SplitSeq(strings.TrimSpace(values), "\n") {
		fmt.Fprintf(&b, "  codexcontinue:%s\n", strings.TrimSpace(line))
	}

	if err := os.WriteFile(c.path("Pulumi."+stack+".yaml"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c *checkout) path(name string) string { return filepath.Join(c.dir, name) }

// run runs a program in the checkout, or of it when its name is a relative path, and
// returns what it said.
func (c *checkout) run(
	t *testing.T, timeout time.Duration, name string, args ...string,
) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = c.path(name)
	}

	line := append(append(slices.Clone(c.within), name), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = io.MultiWriter(&errOut)
	start := time.Now()
	err = cmd.Run()
	t.Logf("%s %s: %.1f s", filepath.Base(name), strings.Join(args, " "),
		time.Since(start).Seconds())
	return out.String(), errOut.String(), err
}

// must is run that fails the test when the program fails.
func (c *checkout) must(t *testing.T, timeout time.Duration, name string, args ...string) string {
	t.Helper()
	out, errOut, err := c.run(t, timeout, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s",
			name, strings.Join(args, " "), err, tail(out, 60), tail(errOut, 60))
	}
	return out
}

// looksInside runs commands in the stack's Redis, by `codexctl exec`: output, input and exit code are
// the command's.
func looksInside(t *testing.T, c *checkout, stack string) {
	t.Helper()
	out, errOut, err := c.run(t, time.Minute, "bash", "-c",
		`printf 'a line\nand another' | bin/codexctl exec -i -s `+stack+
			` redis -- sh -c 'cat; echo to stderr >&2; exit 7'`)
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 7 {
		t.Errorf("the command ended with %v, want exit code 7", err)
	}
	if out != "a line\nand another" || !strings.Contains(errOut, "to stderr") {
		t.Errorf("the command printed %q and %q", out, errOut)
	}

	// Without a program of that name the exit code says so, as a shell's does.
	_, errOut, err = c.run(t, time.Minute, "bin/codexctl", "exec", "-s", stack, "backend", "--", "sh")
	if err == nil {
		t.Error("an image without a shell has run one")
	}
	t.Logf("an image without a shell: %v, %s", err, errOut)
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// container is what `docker inspect` says of one container, as far as the tests look at it.
type container struct {
	ID     string `json:"Id"`
	Name   string
	Image  string
	Config struct {
		User   string
		Env    []string
		Image  string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs  bool
		CapDrop, CapAdd []string
		SecurityOpt     []string
		Memory          int64
		NanoCPUs        int64 `json:"NanoCpus"`
		CPUQuota        int64 `json:"CpuQuota"`
		PidsLimit       *int64
		Privileged      bool
		Ulimits         []struct {
			Name string
			Hard int64
		}
		PortBindings  map[string][]struct{ HostIP, HostPort string } `json:"PortBindings"`
		RestartPolicy struct{ Name string }
	}
	Mounts []struct{ Type, Source, Destination string }
	State  struct {
		Status string
		Health *struct{ Status string }
	}
}

func (c container) service() string { return c.Config.Labels[stacks.LabelService] }

// containers lists the stack's containers, all states, by service.
func (c *checkout) containers(t *testing.T, stack string) map[string][]container {
	t.Helper()
	out := map[string][]container{}
	var list []container
	for tries := 0; ; tries++ {
		ids := strings.Fields(c.must(t, time.Minute, "docker", "ps", "-aq", "--filter",
			"label="+stacks.LabelStack+"="+stack))
		if len(ids) == 0 {
			return out
		}

		said, errs, err := c.run(t, time.Minute, "docker", append([]string{"inspect"}, ids...)...)
		if err == nil {
			err = json.Unmarshal([]byte(said), &list)
		}
		if err == nil {
			break
		}
		// One that was listed may be gone: the engine removes a command's container a moment after it.
		if tries == 10 || !strings.Contains(strings.ToLower(errs), "no such") {
			t.Fatalf("docker inspect: %v: %s", err, errs)
		}
	}

	for _, x := range list {
		out[x.service()] = append(out[x.service()], x)
	}

	return out
}

// noneLeft wants no container of the stack to be left of what was done. The engine removes that of a
// command a moment after the command.
func (c *checkout) noneLeft(t *testing.T, stack, of string) {
	t.Helper()
	var left map[string][]container
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if left = c.containers(t, stack); len(left) == 0 {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Errorf("containers are left of %s: %v", of, left)
}

// remove takes everything of the stack off the engine: what an earlier run left that was killed,
// and when the test ends, whatever state it is in.
func (c *checkout) remove(t *testing.T, stack string) {
	sweep(t, stack)
	t.Cleanup(func() { sweep(t, stack) })
}

func sweep(t *testing.T, stack string) {
	filter := "label=" + stacks.LabelStack + "=" + stack
	for _, kind := range []struct{ list, rm []string }{
		{[]string{"ps", "-aq"}, []string{"rm", "-fv"}},
		{[]string{"network", "ls", "-q"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm", "-f"}},
	} {
		out, err := exec.Command("docker", append(kind.list, "--filter", filter)...).Output()
		if err != nil || len(bytes.TrimSpace(out)) == 0 {
			continue
		}

		if b, err := exec.Command("docker",
			append(kind.rm, strings.Fields(string(out))...)...).CombinedOutput(); err != nil {
			t.Logf("clean-up of stack %s: %v: %s", stack, err, b)
		}
	}
}
