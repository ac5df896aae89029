package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A secret of the backend's own, and the files that it and one which stays in the cluster have.
const (
	ownSecret = "codexcontinue:services.backend.secrets.API_KEY"
	ownFile   = "/run/secrets/api-key"
	keptFile  = "/run/secrets/token"
)

// hasSecret gives the backend a secret of its own, and then another one: its containers have it as a
// file, nobody else's do, it shows nowhere, and they alone are replaced.
func hasSecret(t *testing.T, c *checkout, stack string) {
	t.Helper()
	for _, value := range []string{"first-key-of-the-backend", "second-key-of-the-backend"} {
		before := c.containers(t, stack)
		c.secret(t, stack, ownSecret, value)
		said := c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
		after := c.containers(t, stack)
		for _, s := range allServices {
			if same := ids(before[s]) == ids(after[s]); same == (s == stacks.Backend) {
				t.Errorf("%s: %s, then %s", s, ids(before[s]), ids(after[s]))
			}
			for _, x := range after[s] {
				holdsFile(t, x.Name, x.ID, ownFile, value, s == stacks.Backend)
			}
		}

		if env := after[stacks.Backend][0].Config.Env; !slices.Contains(env, "API_KEY_FILE="+ownFile) {
			t.Errorf("the backend's variables are %q", env)
		}
		showsNowhere(t, c, stack, value, map[string]string{
			"up":      said,
			"preview": c.preview(t, stack, "--diff"),
			"plan":    c.must(t, time.Minute, "bin/codexctl", "plan", "--json", stack),
			"state":   c.must(t, time.Minute, "pulumi", "stack", "export", "-s", stack),
			"file":    c.must(t, time.Minute, "cat", "Pulumi."+stack+".yaml"),
		})
		noChanges(t, c, stack)
	}
}

// hasSecrets gives the backend a secret of its own and one that stays in the cluster: its pods have
// both as files, nobody else's do, they show nowhere but in Secrets, and they alone are replaced.
// The settings are without them when it returns, and the stack is with them until the next `up`.
func hasSecrets(t *testing.T, c *checkout, n *namespace, stack string) {
	t.Helper()
	const own, kept = "own-key-of-the-backend", "kept-token-of-the-backend"
	_, err := n.CoreV1().Secrets(n.name).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "tokens"}, StringData: map[string]string{"backend": kept},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	const token = "codexcontinue:services.backend.secrets.TOKEN"
	before := n.uids(t)
	c.secret(t, stack, ownSecret, own)
	for key, value := range map[string]string{"secret": "tokens", "key": "backend"} {
		c.must(t, time.Minute, "pulumi", "config", "set", "--path", "-s", stack, token+"."+key, value)
	}
	said := upServes(t, c, n, stack)
	replacedOnly(t, before, n.uids(t), stacks.Backend)
	for _, p := range n.pods(t, "") {
		_, id, running := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
		if !running || p.Status.Phase != corev1.PodRunning {
			continue
		}
		has := p.Labels[stacks.LabelService] == stacks.Backend
		holdsFile(t, p.Name, id, ownFile, own, has)
		holdsFile(t, p.Name, id, keptFile, kept, has)
	}

	looked := map[string]string{
		"up":        said,
		"preview":   c.preview(t, stack, "--diff"),
		"plan":      c.must(t, time.Minute, "bin/codexctl", "plan", "--json", stack),
		"logs":      n.logs(t),
		"processes": c.must(t, time.Minute, "ps", "axeww"),
		"state":     c.must(t, time.Minute, "pulumi", "stack", "export", "-s", stack),
	}
	for name, text := range n.objects(t) {
		if !strings.HasPrefix(name, "Secret/") {
			looked[name] = text
		}
	}
	for where, text := range looked {
		if shows(text, own) || shows(text, kept) {
			t.Errorf("%s shows a secret", where)
		}
	}

	noChanges(t, c, stack)
	c.must(t, time.Minute, "pulumi", "config", "rm", "--path", "-s", stack,
		"codexcontinue:services.backend.secrets")
}

// holdsFile checks that the container has the file, with that text and to be read only, or has none.
// It looks from outside, as the kernel shows it, since images have no shell.
func holdsFile(t *testing.T, name, id, path, text string, has bool) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}

	for _, p := range processes {
		of, err := os.ReadFile(filepath.Join(p, "cgroup"))
		if err != nil || !strings.Contains(string(of), id) {
			continue
		}

		at := filepath.Join(p, "root", path)
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) {
			if has {
				t.Errorf("%s has no file %s", name, path)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}

		got, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if !has || string(got) != text || info.Mode() != 0o444 {
			t.Errorf("%s has the file %s, as %s, of %d bytes", name, path, info.Mode(), len(got))
		}
		return
	}
	t.Errorf("%s has no process", name)
}
