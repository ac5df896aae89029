package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestKubernetesHealthcare brings the domain that has no way out to a cluster in a bundle, from a home
// that has neither Go nor Pulumi: its images into the node, and its base model into the volumes of two
// replicas of Ollama before there are any, through the API server. People sign in and chat there, and
// find their conversation again when the stack was down. Its pods find each other by name and ask for
// no others.
func TestKubernetesHealthcare(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-model"
	made := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	n.more = []string{stacks.Resolver}
	made.settings(t, stack, "overlay: healthcare\ntarget: kubernetes\n"+behindGateway+
		"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}}\n"+
		"services: {ollama: {replicas: 2, cpu: 300m, memory: 1Gi}}")
	made.usePulumi(t, stack)
	made.must(t, time.Minute, "pulumi", "stack", "init", stack)
	made.secret(t, stack, "codexcontinue:redisPassword", "no-way-out-of-here")
	made.must(t, time.Minute, "bin/codexctl", "certificates", "new", stack)

	made.refused(t, stack, lookTime,
		append(missingModel(stack), "Nothing was made or changed.")...)

	c := newHome(t, "KUBECONFIG="+kubeconfig)
	load := append(made.carry(t, stack, c), "--into", "containerd="+containerd)
	emptyNode(t, containerd)
	said := loads(t, c, load)
	if strings.Count(said, "llama3:latest is there") != 2 || len(n.pods(t, "")) > 0 ||
		!strings.Contains(said, ", 0 were there") {
		t.Fatalf("before up, %d pods are left, and load says %s", len(n.pods(t, "")), said)
	}
	c.usePulumi(t, stack)
	c.hasNot(t, "go", "pulumi-language-go", "pulumi-resource-kubernetes")

	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	said = loads(t, c, load)
	if strings.Count(said, "llama3:latest is there") != len(n.pods(t, stacks.Ollama)) ||
		!strings.Contains(said, "0 images put into") {
		t.Fatalf("beside an Ollama that runs, load says %s", said)
	}

	nothingChanges := func() {
		t.Helper()
		c.must(t, time.Minute, "bin/codexctl", "preview", "--expect-no-changes", stack)
	}
	nothingChanges()

	url := c.url(t, stack)
	b := newBrowser(t)
	b.signIn(t, c.invite(t, stack, url, "ada", "--admin"), url)
	chat(t, b, url+"/")
	t.Run("its own names", func(t *testing.T) { ownNames(t, c, n, kubeconfig, stack) })
	t.Run("TLS inside", func(t *testing.T) { c.speaksTLS(t, stack) })
	t.Run("no way out", func(t *testing.T) { reachNobody(t, n, kubeconfig, containerd) })

	t.Run("a replica that is added", func(t *testing.T) { bringsReplica(t, c, n, stack) })

	c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
	nothingChanges()
	n.deploysAlone(t, c, stack)
	c.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
	c.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
	conversationIsThere(t, b, c.url(t, stack))
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// loads loads a bundle, and returns what it says.
func loads(t *testing.T, c *checkout, load []string) string {
	t.Helper()
	_, said, err := c.run(t, 5*time.Minute, "bin/codexctl", load...)
	if err != nil {
		t.Fatalf("load says %s, %v", said, err)
	}
	return said
}

// emptyNode removes the images that earlier tests left on the node, but that of each pod's sandbox.
func emptyNode(t *testing.T, socket string) {
	t.Helper()
	ctr := func(args ...string) string {
		args = append([]string{"-a", socket, "-n", "k8s.io", "images"}, args...)
		out, err := exec.Command("ctr", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}

	for _, name := range strings.Fields(ctr("ls", "-q")) {
		if !strings.Contains(name, "pause") {
			ctr("rm", name)
		}
	}
}

// bringsReplica adds a replica of Ollama, whose volume is empty: it gets the base model from another
// one, and makes the stack's own of it.
func bringsReplica(t *testing.T, c *checkout, n *namespace, stack string) {
	_, said, err := c.run(t, 15*time.Minute, "bin/codexctl", "scale", stacks.Ollama, "3", "-s", stack)
	if err != nil || strings.Count(said, "llama3:latest is there") != 1 {
		t.Fatalf("scale says\n%s\n%v", tail(said, 40), err)
	}

	pods := n.pods(t, stacks.Ollama)
	if len(pods) != 3 {
		t.Errorf("there are %d pods of Ollama, want 3", len(pods))
	}
	for _, p := range pods {
		list := c.must(t, time.Minute, "bin/codexctl", "exec", "-s", stack, "--replica", p.Name,
			stacks.Ollama, "--", "ollama", "list")
		if !strings.Contains(list, "llama3:latest") || strings.Count(list, ":latest") < 2 {
			t.Errorf("%s has\n%s", p.Name, list)
		}
	}
	c.must(t, time.Minute, "bin/codexctl", "preview", "--expect-no-changes", stack)
}
