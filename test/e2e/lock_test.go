package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deploysAlone checks that a stack which another machine changes is left alone until that is done,
// or somebody frees it, and that a deploy leaves no lock.
func deploysAlone(t *testing.T, c *checkout, stack string) {
	t.Helper()
	noLock := func() {
		t.Helper()
		if left := c.must(t, time.Minute, "docker", "volume", "ls", "-q", "--filter",
			"name=codexcontinue-lock-"+stack, "--filter", "name=codexcontinue-unlock-"+stack); left != "" {
			t.Errorf("up has left its lock: %s", left)
		}
	}
	noLock()

	c.must(t, time.Minute, "docker", "volume", "create", "--label",
		"dev.codexcontinue.lock="+elsewhere(stack), "codexcontinue-lock-"+stack)
	waitsForUnlock(t, c, stack)
	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	noLock()
}

// deploysAlone is the same on a cluster, without the last up.
func (n *namespace) deploysAlone(t *testing.T, c *checkout, stack string) {
	t.Helper()
	const name = "codexcontinue-lock"
	locks := n.CoreV1().ConfigMaps(n.name)
	if _, err := locks.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("up has left its lock: %v", err)
	}

	_, err := locks.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Data:       map[string]string{"holder": elsewhere(stack)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitsForUnlock(t, c, stack)
}

// elsewhere is the lock of an up on another machine.
func elsewhere(stack string) string {
	return fmt.Sprintf(`{"id":"x","user":"ada","host":"elsewhere","pid":7,`+
		`"command":"codexctl up %s","since":"2026-01-02T03:04:00Z"}`, stack)
}

// waitsForUnlock has nobody change the stack while it is locked elsewhere, and frees it.
func waitsForUnlock(t *testing.T, c *checkout, stack string) {
	t.Helper()
	for _, command := range []string{"up", "down"} {
		_, errOut, err := c.run(t, time.Minute, "bin/codexctl", command, stack)
		if err == nil || !strings.Contains(errOut, "of ada@elsewhere (process 7), since 2026-01-02") ||
			!strings.Contains(errOut, "codexctl unlock "+stack) {
			t.Errorf("%s of a locked stack: %v, %s", command, err, errOut)
		}
	}
	c.must(t, time.Minute, "bin/codexctl", "unlock", stack)
}
