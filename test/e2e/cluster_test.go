package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// namespace is one stack's place in the test cluster, read past codexctl.
type namespace struct {
	kubernetes.Interface
	config *rest.Config
	name   string

	more []string // services besides those of every stack
}

// inCluster removes the namespace that an earlier run left, and the test's own when it ends,
// whatever state it is in.
func inCluster(t *testing.T, kubeconfig, name string) *namespace {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}

	config.QPS, config.Burst = 50, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	n := &namespace{Interface: client, config: config, name: name}
	n.remove(t)
	t.Cleanup(func() { n.remove(t) })
	return n
}

// remove takes the namespace off the cluster and waits until it is gone. Its pods go first, at
// once: a namespace that is removed with pods in it takes half of the longest time that they may
// take to stop, whether they do or not.
func (n *namespace) remove(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	now, background := int64(0), metav1.DeletePropagationBackground
	for ; ; time.Sleep(200 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Errorf("clean-up: the namespace %s is still there", n.name)
			return
		}

		owners := metav1.DeleteOptions{PropagationPolicy: &background}
		err := errors.Join(
			n.AppsV1().Deployments(n.name).DeleteCollection(ctx, owners, metav1.ListOptions{}),
			n.AppsV1().StatefulSets(n.name).DeleteCollection(ctx, owners, metav1.ListOptions{}),
			n.BatchV1().Jobs(n.name).DeleteCollection(ctx, owners, metav1.ListOptions{}),
			n.CoreV1().Pods(n.name).DeleteCollection(ctx,
				metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}))
		if err != nil {
			continue
		}

		if pods, err := n.CoreV1().Pods(n.name).List(ctx, metav1.ListOptions{}); err != nil ||
			len(pods.Items) > 0 {
			continue
		}

		if err := n.CoreV1().Namespaces().Delete(ctx, n.name, metav1.DeleteOptions{}); apierrors.IsNotFound(err) {
			return
		}
	}
}

// pods are those of a service that are not on their way out, or of all services.
func (n *namespace) pods(t *testing.T, service string) []corev1.Pod {
	t.Helper()
	selector := stacks.LabelStack
	if service != "" {
		selector = stacks.LabelService + "=" + service
	}

	list, err := n.CoreV1().Pods(n.name).List(t.Context(),
		metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}

	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil
	})
}

func isReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// uids tells the pods of every service apart from those that took their place. The model's
// Job has none that stay.
func (n *namespace) uids(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range allServices {
		var ids []string
		for _, p := range n.pods(t, s) {
			if p.OwnerReferences[0].Kind != "Job" {
				ids = append(ids, string(p.UID))
			}
		}

		slices.Sort(ids)
		out[s] = strings.Join(ids, " ")
	}

	return out
}

// replacedOnly wants the pods of the services to be others, and those of all other
// services to be the same.
func replacedOnly(t *testing.T, before, after map[string]string, services ...string) {
	t.Helper()
	for s := range before {
		if same, want := before[s] == after[s], !slices.Contains(services, s); same != want {
			t.Errorf("pods of %s: %s, then %s", s, before[s], after[s])
		}
	}
}

// kill deletes a pod and waits until as many are ready again without it.
func (n *namespace) kill(t *testing.T, service string) {
	t.Helper()
	before := n.pods(t, service)
	if err := n.CoreV1().Pods(n.name).Delete(t.Context(), before[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	for {
		ready := 0
		for _, p := range n.pods(t, service) {
			if p.UID != before[0].UID && isReady(p) {
				ready++
			}
		}

		if ready == len(before) {
			t.Logf("%s is back after %.1f s", before[0].Name, time.Since(start).Seconds())
			return
		}

		if time.Since(start) > 3*time.Minute {
			t.Fatalf("%d of %d pods of %s are ready after %s",
				ready, len(before), service, time.Since(start))
		}

		time.Sleep(200 * time.Millisecond)
	}
}

// objects are all objects of the namespace by "kind/name", but events and what Kubernetes
// puts into each namespace.
func (n *namespace) objects(t *testing.T) map[string]string {
	t.Helper()
	lists, err := n.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		t.Fatal(err)
	}

	client, err := dynamic.NewForConfig(n.config)
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]string{}
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}

		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Kind == "Event" {
				continue
			}

			found, err := client.Resource(group.WithResource(r.Name)).Namespace(n.name).List(t.Context(),
				metav1.ListOptions{})
			if err != nil {
				t.Fatalf("%s: %v", r.Name, err)
			}

			for _, o := range found.Items {
				name := r.Kind + "/" + o.GetName()
				if name == "ConfigMap/kube-root-ca.crt" || name == "ServiceAccount/default" {
					continue
				}

				text, err := json.Marshal(o.Object)
				if err != nil {
					t.Fatal(err)
				}

				out[name] = string(text)
			}
		}
	}

	return out
}

// logs are those of all containers that run or have run.
func (n *namespace) logs(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, p := range n.pods(t, "") {
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			text, err := n.CoreV1().Pods(n.name).GetLogs(p.Name,
				&corev1.PodLogOptions{Container: c.Name}).DoRaw(t.Context())
			if err != nil {
				t.Logf("log of %s: %v", p.Name, err)
			}
			out.Write(text)
		}
	}

	return out.String()
}

// system is the SYSTEM prompt of a model, as the Ollama of that pod knows it.
func (n *namespace) system(t *testing.T, pod, model string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"model": model})
	if err != nil {
		t.Fatal(err)
	}

	answer, err := n.CoreV1().RESTClient().Post().Namespace(n.name).Resource("pods").Name(pod +
		":11434").SubResource("proxy").Suffix("api/show").
		Body(body).DoRaw(t.Context())
	var show struct{ System string }
	if err == nil {
		err = json.Unmarshal(answer, &show)
	}
	if err != nil {
		t.Fatalf("model %s: %v: %s", model, err, answer)
	}

	return show.System
}

// crowd asks the stack without a pause, as several people do at once, until stop is called: pages,
// and whole answers. All are signed in as the same person.
type crowd struct {
	stopped chan struct{}
	people  sync.WaitGroup

	mu      sync.Mutex
	done    map[string]int
	failed  []string
	slowest time.Duration
}

func startLoad(t *testing.T, as *person, people int) *crowd {
	l := &crowd{stopped: make(chan struct{}), done: map[string]int{}}
	// Each its own connections, as from different browsers: half of them kept, half
	// of them new each time.
	for i := range people {
		client := &http.Client{
			Transport: &http.Transport{DisableKeepAlives: i%2 == 0},
			Jar:       as.jar,
			Timeout:   time.Minute,
		}

		l.people.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stopped:
					return
				default:
				}

				what, ask := "page", func() error { return page(t.Context(), client, as.site) }
				if n%4 == i%4 {
					what, ask = "answer", func() error {
						return fullAnswer(t.Context(), client, as.site)
					}
				}

				start := time.Now()
				err := ask()
				l.mu.Lock()
				l.done[what]++
				l.slowest = max(l.slowest, time.Since(start))
				if err != nil {
					l.failed = append(l.failed,
						fmt.Sprintf("%s: %s after %s: %v", start.Format("15:04:05.000"), what,
							time.Since(start).Round(time.Millisecond), err))
				}

				l.mu.Unlock()
			}
		})
	}

	return l
}

// noneFailed ends the load.
func (l *crowd) noneFailed(t *testing.T) {
	t.Helper()
	close(l.stopped)
	l.people.Wait()
	t.Logf("asked meanwhile: %v, the slowest took %s", l.done, l.slowest.Round(time.Millisecond))
	if l.done["page"] < 20 || l.done["answer"] < 5 {
		t.Errorf("that is too little to tell anything")
	}

	if len(l.failed) > 0 {
		t.Errorf("%d failed:\n%s", len(l.failed),
			strings.Join(l.failed[:min(10, len(l.failed))], "\n"))
	}
}

func page(ctx context.Context, client *http.Client, url string) error {
	_, err := ask(ctx, client, http.MethodGet, url+"/api/conversations", nil)
	return err
}

// conversationID finds the conversation in the events of an answer.
var conversationID = regexp.MustCompile(`"conversation_id":"([^"]+)"`)

// fullAnswer wants an answer to its end. It deletes the conversation, as a person has a thousand of
// them at most.
func fullAnswer(ctx context.Context, client *http.Client, url string) error {
	body, err := ask(ctx, client, http.MethodPost, url+"/api/chat",
		[]byte(`{"message": "What is a bounded queue?"}`))
	if err != nil {
		return err
	}

	id := conversationID.FindSubmatch(body)
	if id == nil || !bytes.Contains(body, []byte("event: done")) {
		return fmt.Errorf("an answer without its end: %s", tail(string(body), 6))
	}

	_, err = ask(ctx, client, http.MethodDelete, url+"/api/conversations/"+string(id[1]), nil)

	return err
}

func ask(
	ctx context.Context, client *http.Client, method, url string, body []byte,
) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "text/event-stream")
	}

	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	// A request to delete that is sent again, because the first one's answer was lost, finds nothing.
	deleted := method == http.MethodDelete &&
		(resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotFound)
	if err == nil && resp.StatusCode != http.StatusOK && !deleted {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}

	return text, err
}
