package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// changedSecret gives Redis another password: those that hold it come again with
// it, nobody else does.
func changedSecret(t *testing.T, c *checkout, n *namespace, stack, url string) {
	const password = "close-sesame-in-the-cluster"
	before := n.uids(t)
	c.secret(t, stack, "codexcontinue:redisPassword", password)
	said := upServes(t, c, n, stack)
	if strings.Contains(said, password) {
		t.Error("up shows the secret")
	}

	modelReady(t, url)
	replacedOnly(t, before, n.uids(t), stacks.Redis, stacks.Gate, stacks.Backend,
		stacks.ML)
	noChanges(t, c, stack)
}

// autoscaled gives the backend an autoscaler, which adds a pod, and takes it away again. The pods
// that were there stay, and no later `up` counts for the autoscaler.
func autoscaled(
	t *testing.T, c *checkout, n *namespace, stack string, settings func(more string),
) {
	before := n.uids(t)
	settings("services: {backend: {memory: 512Mi, autoscale: {min: 2, max: 4}}}")
	upServes(t, c, n, stack)
	replacedOnly(t, before, n.uids(t))

	// As the autoscaler of a busy service does. This cluster's has no metrics.
	backends := n.AppsV1().Deployments(n.name)
	scale, err := backends.GetScale(t.Context(), stacks.Backend, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	scale.Spec.Replicas = 3
	_, err = backends.UpdateScale(t.Context(), stacks.Backend, scale,
		metav1.UpdateOptions{FieldManager: "kube-controller-manager"})
	if err != nil {
		t.Fatal(err)
	}

	noChanges(t, c, stack)
	settings("services: {backend: {memory: 576Mi, autoscale: {min: 2, max: 4}}}")
	upServes(t, c, n, stack)
	if got := len(n.pods(t, stacks.Backend)); got != 3 {
		t.Errorf("after an up there are %d backends, want the autoscaler's 3", got)
	}

	// It goes in two steps: the number is its own as long as it differs from the stack's.
	settings("services: {backend: {memory: 576Mi, autoscale: {min: 2, max: 2}}}")
	upServes(t, c, n, stack)
	for start := time.Now(); len(n.pods(t, stacks.Backend)) != 2; time.Sleep(time.Second) {
		if time.Since(start) > 3*time.Minute {
			t.Fatalf("the autoscaler keeps %d backends, of 2 at most", len(n.pods(t, stacks.Backend)))
		}
	}

	settings("services: {backend: {memory: 576Mi}}")
	upServes(t, c, n, stack)
	if got := len(n.pods(t, stacks.Backend)); got != 2 {
		t.Errorf("without the autoscaler there are %d backends, want 2", got)
	}
	noChanges(t, c, stack)
}

// moreReplicas has two Ollama for a while, each with the model on a claim of its own.
func moreReplicas(t *testing.T, c *checkout, n *namespace, stack string, as *person) {
	before := n.uids(t)
	people := startLoad(t, as, 4)
	c.must(t, 5*time.Minute, "bin/codexctl", "scale", "--stack", stack, stacks.Ollama, "2")
	want := n.system(t, "ollama-0", "codexcontinue")
	if got := n.system(t, "ollama-1", "codexcontinue"); got != want {
		t.Errorf("the second has the prompt %q, the first %q", got, want)
	}

	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) { // ml looks for replicas every few seconds
		if n.loaded(t, "ollama-0") && n.loaded(t, "ollama-1") {
			break
		}
		if time.Since(start) > 3*time.Minute {
			t.Error("one of the two is never asked")
			break
		}
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "scale", "--stack", stack, stacks.Ollama, "1")
	people.noneFailed(t)
	replacedOnly(t, before, n.uids(t))
	claims, err := n.CoreV1().PersistentVolumeClaims(n.name).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, claim := range claims.Items {
		if claim.Name == "ollama-data-ollama-1" && claim.DeletionTimestamp == nil {
			t.Error("the claim of the replica that went is still there: what it holds can be made again")
		}
	}
}

// loaded reports whether the Ollama of that pod has a model in memory, as it was asked something.
func (n *namespace) loaded(t *testing.T, pod string) bool {
	t.Helper()
	answer, err := n.CoreV1().RESTClient().Get().Namespace(n.name).Resource("pods").Name(pod +
		":11434").SubResource("proxy").Suffix("api/ps").DoRaw(t.Context())
	var ps struct{ Models []json.RawMessage }
	if err == nil {
		err = json.Unmarshal(answer, &ps)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", pod, err, answer)
	}

	return len(ps.Models) > 0
}
