package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// speaksTLS asks the services of a stack from inside its containers, by plain HTTP and by TLS. It has
// more services than the usual ones.
func (c *checkout) speaksTLS(t *testing.T, stack string, more ...string) {
	t.Helper()
	inside := func(service string, words ...string) (string, error) {
		args := append([]string{"exec", "-s", stack, service, "--"}, words...)
		out, said, err := c.run(t, time.Minute, "bin/codexctl", args...)
		return out + said, err
	}

	// Each is asked by who calls it, as network policies let nobody else in.
	callers := map[string]string{
		"frontend:8501/healthz": stacks.Gate, "backend:8000/health": stacks.Frontend,
		"ml:5000/health": stacks.Backend,
	}
	if slices.Contains(more, stacks.Knowledge) {
		callers["knowledge:7000/health"] = stacks.Backend
	}

	// What asks in the clear is refused.
	for at, caller := range callers {
		if out, err := inside(caller, "/"+caller, "healthcheck", "https://"+at); err != nil {
			t.Errorf("%s: %v: %s", at, err, out)
		}
		out, err := inside(caller, "/"+caller, "healthcheck", "http://"+at)
		if err == nil || !strings.Contains(out, "HTTP request to an HTTPS server") {
			t.Errorf("%s in the clear: %v: %s", at, err, out)
		}
	}

	// A stranger in the edge's container, who shows no certificate.
	for _, at := range []string{"https://gate:8003/", "http://gate:8003/"} {
		if out, err := inside(stacks.Edge, "wget", "-O", "-", "--no-check-certificate",
			at); err == nil || strings.HasPrefix(at, "http:") && !strings.Contains(out, "400") {
			t.Errorf("%s answers a stranger: %v: %s", at, err, out)
		}
	}

	// Ollama lets in ml alone, also where no network policy keeps others from it, and Redis nobody
	// without a certificate.
	if out, err := inside(stacks.Backend, "/backend", "healthcheck",
		"https://ollama:11434/api/version"); err == nil ||
		!strings.Contains(out, "remote error: tls") && !strings.Contains(out, "connection refused") {
		t.Errorf("Ollama answers the backend: %v: %s", err, out)
	}
	if out, err := inside(stacks.ML, "/ml", "healthcheck",
		"http://ollama:11434/api/version"); err == nil {
		t.Errorf("Ollama answers ml in the clear: %s", out)
	}
	if out, err := inside(stacks.Redis, "redis-cli", "-e", "ping"); err == nil {
		t.Errorf("Redis answers in the clear: %s", out)
	}

	for _, command := range []string{"status", "doctor"} {
		_, said, _ := c.run(t, time.Minute, "bin/codexctl", command, stack)
		if strings.Contains(said, "expire") {
			t.Errorf("%s: %s", command, said)
		}
	}
	out, _, _ := c.run(t, time.Minute, "bin/codexctl", "doctor", stack)
	if !strings.Contains(out, "those inside the stack are good until ") {
		t.Errorf("doctor does not tell until when certificates are good:\n%s", out)
	}
}

// TestRotation replaces every certificate of a healthcare stack and the password of Redis at once,
// while people chat and have fifty answers open: no answer is lost or cut, and the audit
// can be checked from its first record on.
func TestRotation(t *testing.T) {
	enabled(t)
	const stack = "e2e-rotation"
	sweep(t, stack)
	l := newLoaded(t, stack, "overlay: healthcare\ninternalTLS: true\nportOffset: 30000\n"+
		"model: {base: tiny, parallel: 64}", func(c *checkout) { c.remove(t, stack) })
	l.refused = 10 * time.Second // the edge is replaced among all others
	noChanges(t, l.checkout, stack)
	l.checkout.keepsIn(t, stack)
	l.many()
	l.start(dockerURL, l.members(t, stack, dockerURL, lookers+l.answers)...)
	l.run.EdgeAway(true) // an engine has one
	l.rotates("staple-battery-horse-correct")
	l.rotates("battery-correct-staple")
	time.Sleep(l.long + 2*time.Second) // until the answers have ended that were open
	l.ended(500, 2*l.answers)
	l.down()
}

// TestKubernetesRotation does so on a cluster, whose services speak TLS with each other.
func TestKubernetesRotation(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-rotation"
	inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	l := newLoadedCluster(t, stack, "internalTLS: true\n", 64, containerd)
	l.refused = 10 * time.Second
	l.silent = 30 * time.Second // Redis and Ollama are replaced, one after the other

	url := l.url(t, stack)
	l.many()
	l.start(url, l.members(t, stack, url, lookers+l.answers)...)
	l.rotates("staple-battery-horse-correct")
	time.Sleep(l.long + 2*time.Second)
	l.ended(500, 2*l.answers)
	l.down()
}

// rotates replaces every certificate and the password of Redis at once.
func (l *loaded) rotates(password string) {
	t := l.t
	t.Helper()
	l.must(t, time.Minute, "bin/codexctl", "certificates", "rotate", l.stack)
	l.password(password)
	l.mark("certificates and password of Redis")
	l.up()
	l.done()
	said := l.must(t, time.Minute, "bin/codexctl", "audit", l.stack, "--verify")
	if !strings.Contains(said, "are as they were written") ||
		!strings.Contains(said, "redisPassword was changed") {
		t.Errorf("the audit after a rotation: %s", said)
	}
}

// keepsIn keeps what is for a container of the private network on the machine: while an edge starts
// or stops, an engine may send there who comes to its port. See docs/isolation.md.
func (c *checkout) keepsIn(t *testing.T, stack string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}

	subnet := strings.TrimSpace(c.must(t, time.Minute, "docker", "network", "inspect",
		"codexcontinue-private-"+stack, "-f", "{{(index .IPAM.Config 0).Subnet}}"))
	c.must(t, time.Minute, "ip", "route", "replace", "unreachable", subnet)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "route", "del", "unreachable", subnet).CombinedOutput(); err != nil {
			t.Errorf("the route of %s: %v: %s", subnet, err, out)
		}
	})
}
