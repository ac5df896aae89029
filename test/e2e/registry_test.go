package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestKubernetesRegistry brings a stack up whose images are pushed to a registry, from where
// the cluster pulls them.
func TestKubernetesRegistry(t *testing.T) {
	kubeconfig, _ := clusterWanted(t)
	peers.DockerPlugin(t)
	const stack = "e2e-registry"
	registry := peers.Registry(t)
	c := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	values := "overlay: dev\ntarget: kubernetes\nmodel: {base: ./tiny.gguf}\n" +
		behindGateway +
		"signIn: {accounts: true}\n" +
		"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}}\n"
	c.ownWeights(t)
	// Images that nobody loads under another name: the kubelet pulls one again that it knows by the
	// name of a registry alone.
	for _, file := range []string{"services/Dockerfile", "services/ollama/Dockerfile"} {
		edit(t, c, file, "LABEL ", "LABEL pushed=\"yes\" ")
	}

	// No registry that the cluster reaches has those of Redis and Caddy.
	c.must(t, 5*time.Minute, "test/cluster/cluster.sh",
		"load", stacks.RedisImage, stacks.CaddyImage)
	c.change(t, stack, values+"registry: "+registry+"/team\n")
	c.usePulumi(t, stack)

	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	site := c.url(t, stack)
	ada := c.invite(t, stack, site, "ada")
	if err := fullAnswer(t.Context(), ada.client(), site); err != nil {
		t.Error(err)
	}

	image := func(service string) string {
		p := n.pods(t, service)
		if len(p) != 1 {
			t.Fatalf("%d pods of %s", len(p), service)
		}
		return p[0].Spec.Containers[0].Image
	}

	for _, s := range []string{stacks.Backend, stacks.Frontend, stacks.Gate, stacks.ML} {
		if want := registry + "/team/codexcontinue/" + s + "@sha256:"; !strings.HasPrefix(image(s), want) {
			t.Errorf("%s runs %s, want %s...", s, image(s), want)
		}
	}

	t.Run("preview is clean", func(t *testing.T) {
		noChanges(t, c, stack)
		c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
		noChanges(t, c, stack)
	})

	t.Run("a changed source is one image and one Deployment", func(t *testing.T) {
		before, old := n.uids(t), image(stacks.Backend)
		edit(t, c, "services/backend/main.go", "func main() {",
			"var _ = \"another digest\"\n\nfunc main() {\n\tprintln(\"another\")")
		c.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
		replacedOnly(t, before, n.uids(t), stacks.Backend)
		if now := image(stacks.Backend); now == old {
			t.Errorf("backend still runs %s", now)
		}
	})

	t.Run("images are pushed without an up", func(t *testing.T) {
		edit(t, c, "services/frontend/main.go", "func main() {",
			"var _ = \"another digest\"\n\nfunc main() {\n\tprintln(\"another\")")
		for _, want := range []string{"1 images pushed to ", "0 images pushed to "} {
			_, said, err := c.run(t, 10*time.Minute, "bin/codexctl", "images", "push", stack)
			if err != nil || !strings.Contains(said, want+registry+"/team, ") {
				t.Errorf("%v, it says not %q:\n%s", err, want, tail(said, 20))
			}
		}

		before, old := n.uids(t), image(stacks.Frontend)
		c.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
		replacedOnly(t, before, n.uids(t), stacks.Frontend)
		if now := image(stacks.Frontend); now == old {
			t.Errorf("frontend still runs %s", now)
		}
	})

	t.Run("tests and linters", func(t *testing.T) {
		c.repository(t)
		before := n.uids(t)
		developed(t, c, "--stack", stack)
		replacedOnly(t, before, n.uids(t))
		if jobs := n.jobs(t); len(jobs) != 1 || !strings.HasPrefix(jobs[0], stacks.ModelJob) {
			t.Errorf("jobs %v, want the model's alone", jobs)
		}
	})

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
	n.gone(t)
}
