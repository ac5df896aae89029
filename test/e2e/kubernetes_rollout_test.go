package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// upServes runs `codexctl up`, and wants every pod of the newest revisions to be ready when it
// returns.
func upServes(t *testing.T, c *checkout, n *namespace, stack string, flags ...string) string {
	t.Helper()
	said := c.must(t, 10*time.Minute, "bin/codexctl",
		slices.Concat([]string{"up"}, flags, []string{stack})...)
	n.allServe(t)
	return said
}

// allServe wants all workloads to be complete right now, with no pod of an older revision but those
// that are leaving.
func (n *namespace) allServe(t *testing.T) {
	t.Helper()
	of := metav1.ListOptions{LabelSelector: stacks.LabelStack}
	pods := map[string]int{}
	for _, p := range n.pods(t, "") {
		if p.OwnerReferences[0].Kind == "Job" {
			continue
		}
		pods[p.Labels[stacks.LabelService]]++
		if !isReady(p) {
			t.Errorf("up returned, and %s is not ready: %s", p.Name, p.Status.Phase)
		}
	}

	deployments, err := n.AppsV1().Deployments(n.name).List(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}

	for _, d := range deployments.Items {
		s, want := d.Status, *d.Spec.Replicas
		if s.ObservedGeneration != d.Generation || s.UpdatedReplicas != want ||
			s.Replicas != want || s.AvailableReplicas != want || pods[d.Name] != int(want) {
			t.Errorf("up returned, and %s has %d pods of %d, %d of the new revision, %d "+
				"available (generation %d, seen %d)",
				d.Name, s.Replicas, want, s.UpdatedReplicas, s.AvailableReplicas, d.Generation,
				s.ObservedGeneration)
		}
	}

	sets, err := n.AppsV1().StatefulSets(n.name).List(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}

	for _, x := range sets.Items {
		s, want := x.Status, *x.Spec.Replicas
		if s.ObservedGeneration != x.Generation || s.Replicas != want ||
			s.AvailableReplicas != want || s.UpdatedReplicas != want || pods[x.Name] != int(want) {
			t.Errorf("up returned, and %s has %d pods of %d, %d of the new revision, %d "+
				"available (generation %d, seen %d)",
				x.Name, s.Replicas, want, s.UpdatedReplicas, s.AvailableReplicas, x.Generation,
				s.ObservedGeneration)
		}
	}

	if len(deployments.Items)+len(sets.Items) != len(allServices)+len(n.more) {
		t.Errorf("there are %d Deployments and %d StatefulSets, of %d services and %q",
			len(deployments.Items), len(sets.Items), len(allServices), n.more)
	}
}

// plainUp has the same promise of the CLI without codexctl, where its Go language host is there.
func plainUp(t *testing.T, c *checkout, n *namespace, stack string, settings func(string)) {
	if _, err := exec.LookPath("pulumi-language-go"); err != nil {
		t.Skip("there is no pulumi-language-go")
	}

	settings("services: {backend: {memory: 640Mi}}")
	c.must(t, 5*time.Minute, "pulumi",
		"up", "--yes", "--skip-preview", "-s", stack, "--non-interactive")
	n.allServe(t)
	settings("services: {backend: {memory: 512Mi}}")
	upServes(t, c, n, stack)
}

// oneWriter changes what Redis may use, and then the size of its claim, for which its StatefulSet
// is replaced. There are never two of it, and what was acknowledged meanwhile is there afterwards.
func oneWriter(
	t *testing.T, c *checkout, n *namespace, stack string, as *person, settings func(string),
) {
	const fewer = "services: {backend: {memory: 512Mi}"
	seen, stop := n.watchPods(t, stacks.Redis)
	writer := startWriter(t, as)
	settings(fewer + ", redis: {memory: 640Mi}}")
	upServes(t, c, n, stack)
	set := n.uid(t, stacks.Redis)
	file := c.path("Pulumi." + stack + ".yaml")
	edit(t, c, "Pulumi."+stack+".yaml", "redis-data: {size: 1Gi}", "redis-data: {size: 2Gi}")
	upServes(t, c, n, stack)
	if n.uid(t, stacks.Redis) == set {
		t.Errorf("%s: the StatefulSet was not replaced, so that this test shows nothing", file)
	}

	writer.allThere(t)
	stop()
	if len(seen.uids) < 3 {
		t.Errorf("%d pods of Redis were seen, want three", len(seen.uids))
	}

	for _, two := range seen.twice {
		t.Errorf("two pods of Redis at once: %s", two)
	}

	settings(fewer + "}")
	upServes(t, c, n, stack)
}

// leaving deletes a pod of frontend: it is out of rotation at once, and for some seconds serves
// those who have not heard.
func leaving(t *testing.T, n *namespace) {
	p := n.pods(t, stacks.Frontend)[0]
	port, path := p.Spec.Containers[0].Ports[0].ContainerPort, p.Spec.Containers[0].LivenessProbe.HTTPGet.Path
	if err := n.CoreV1().Pods(n.name).Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		Timeout:   2 * time.Second,
	}

	out, served := time.Duration(0), 0
	for start := time.Now(); time.Since(start) < 4*time.Second; time.Sleep(100 * time.Millisecond) {
		resp, err := client.Get(fmt.Sprintf("http://%s:%d%s", p.Status.PodIP, port, path))
		if err != nil {
			t.Fatalf("a new connection after %s: %v", time.Since(start), err)
		}

		resp.Body.Close()
		served++
		if out == 0 && !n.inRotation(t, stacks.Frontend, p.Status.PodIP) {
			out = time.Since(start)
		}
	}

	t.Logf("%d new connections served, out of rotation after %s", served,
		out.Round(time.Millisecond))
	if out == 0 || out > 2*time.Second {
		t.Errorf("the pod was out of rotation after %s", out)
	}

	for start := time.Now(); len(n.pods(t, stacks.Frontend)) < 2 ||
		!allReady(n.pods(t, stacks.Frontend)); time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("no pod took its place")
		}
	}
}

// inRotation reports whether the Service sends new connections to the address.
func (n *namespace) inRotation(t *testing.T, service, address string) bool {
	t.Helper()
	list, err := n.DiscoveryV1().EndpointSlices(n.name).List(t.Context(),
		metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		t.Fatal(err)
	}

	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if slices.Contains(e.Addresses, address) && e.Conditions.Ready != nil &&
				*e.Conditions.Ready {
				return true
			}
		}
	}

	return false
}

func allReady(pods []corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !isReady(p) })
}

// uid is that of the service's StatefulSet.
func (n *namespace) uid(t *testing.T, service string) string {
	t.Helper()
	x, err := n.AppsV1().StatefulSets(n.name).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(x.UID)
}

// seenPods are the pods of a service that were there, and those that were there at the same time.
type seenPods struct {
	uids  map[string]bool
	twice []string
}

// watchPods looks at every change of a service's pods, until stop: only then may what was seen be
// read.
func (n *namespace) watchPods(t *testing.T, service string) (seen *seenPods, stop func()) {
	t.Helper()
	seen = &seenPods{uids: map[string]bool{}}
	w, err := n.CoreV1().Pods(n.name).Watch(t.Context(),
		metav1.ListOptions{LabelSelector: stacks.LabelService + "=" + service})
	if err != nil {
		t.Fatal(err)
	}

	var following sync.WaitGroup
	following.Go(func() {
		// A pod that is there has, or may have, a process that writes, until its last container has
		// ended.
		there := map[string]string{}
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}

			id := string(p.UID)
			seen.uids[id] = true
			delete(there, id)
			if e.Type != "DELETED" && p.Status.Phase != corev1.PodSucceeded &&
				p.Status.Phase != corev1.PodFailed {
				there[id] = fmt.Sprintf("%s (%s, %s)", p.Name, id, p.Status.Phase)
			}

			if len(there) > 1 {
				var names []string
				for _, text := range there {
					names = append(names, text)
				}
				seen.twice = append(seen.twice, strings.Join(names, ", "))
			}
		}
	})

	return seen, func() {
		w.Stop()
		following.Wait()
	}
}

// writer sends messages, one after the other, and remembers those that were acknowledged.
type writer struct {
	client  *http.Client
	url     string
	stopped chan struct{}
	ended   sync.WaitGroup

	// acknowledged are the conversations of the messages, refused how many were not taken.
	acknowledged []string
	refused      int
}

func startWriter(t *testing.T, as *person) *writer {
	t.Helper()
	w := &writer{
		client:  as.client(),
		url:     as.site,
		stopped: make(chan struct{}),
	}

	w.ended.Go(func() {
		for {
			select {
			case <-w.stopped:
				return
			case <-time.After(100 * time.Millisecond):
			}

			id, err := w.send()
			if err != nil {
				w.refused++
				continue
			}

			w.acknowledged = append(w.acknowledged, id)
		}
	})

	return w
}

// send returns the conversation of a message that was taken.
func (w *writer) send() (string, error) {
	resp, err := w.client.Post(w.url+"/api/chat", "application/json",
		strings.NewReader(`{"message": "What is a bounded queue?"}`))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()

	var taken struct {
		ConversationID string `json:"conversation_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&taken); err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 || taken.ConversationID == "" {
		return "", fmt.Errorf("%s", resp.Status)
	}

	return taken.ConversationID, nil
}

// allThere ends the writing, and wants every acknowledged message.
func (w *writer) allThere(t *testing.T) {
	t.Helper()
	close(w.stopped)
	w.ended.Wait()
	t.Logf("%d messages were acknowledged, %d refused", len(w.acknowledged), w.refused)
	if len(w.acknowledged) < 20 {
		t.Error("that is too little to tell anything")
	}

	lost := 0
	for _, id := range w.acknowledged {
		body, err := ask(t.Context(), w.client, http.MethodGet, w.url+"/api/conversations/"+id, nil)
		if err != nil || !strings.Contains(string(body), "What is a bounded queue?") {
			lost++
			t.Logf("%s: %v", id, err)
		}
	}

	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, len(w.acknowledged))
	}
}
