package kubernetes_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestPlace checks that pods go where the settings say, those with a GPU where the devices are, and
// that the Job is another one where its pod would change.
func TestPlace(t *testing.T) {
	p, err := plan.Of(t.Context(), "../..", "prod", plan.OfOptions{Target: stacks.Kubernetes})
	if err != nil {
		t.Fatal(err)
	}
	stack := p.Stack
	stack.Service(stacks.Ollama).GPU = &stacks.GPU{
		Count: 1, NodeSelector: map[string]string{"gpu": "a100"},
	}

	all := stacks.PodSettings{
		Labels: map[string]string{"team": "chat"}, NodeSelector: map[string]string{"disk": "ssd"},
		Tolerations: []stacks.Toleration{{Key: "data", Value: "yes", Effect: "NoExecute"}},
	}
	redis := all
	redis.PriorityClass, redis.Annotations = "high", map[string]string{"example.com/backup": "yes"}
	pods := map[string]stacks.PodSettings{stacks.Redis: redis, stacks.Ollama: all, stacks.ModelJob: all}

	jobs := map[string]bool{}
	for _, opts := range []kubernetes.Options{
		{Root: "../.."},
		{Root: "../..", Pods: pods, PullSecrets: []string{"team"}},
	} {
		rendered, err := kubernetes.Render(stack, opts)
		if err != nil {
			t.Fatal(err)
		}

		for _, o := range rendered.Objects {
			switch x := o.API.(type) {
			case *batchv1.Job:
				jobs[x.Name] = true
				if opts.Pods != nil {
					checkPlace(t, x.Spec.Template, "", map[string]string{"disk": "ssd"}, "data")
				}
			case *appsv1.StatefulSet:
				if opts.Pods == nil {
					continue
				}
				const evict = "cluster-autoscaler.kubernetes.io/safe-to-evict"
				if x.Spec.Template.Annotations[evict] != "false" {
					t.Errorf("%s is moved to save a node", x.Name)
				}
				if x.Name == stacks.Ollama {
					checkPlace(t, x.Spec.Template, "", map[string]string{"gpu": "a100"}, "nvidia.com/gpu")
					continue
				}
				checkPlace(t, x.Spec.Template, "high", map[string]string{"disk": "ssd"}, "data")
				if x.Spec.Template.Annotations["example.com/backup"] != "yes" ||
					x.Spec.Selector.MatchLabels["team"] != "" || x.Labels["team"] != "" {
					t.Errorf("%s is marked %v and %v", x.Name, x.Spec.Template.Annotations, x.Labels)
				}
			case *corev1.Service:
				if opts.Pods != nil && x.Name == stacks.Redis &&
					(x.Annotations["example.com/backup"] != "yes" || x.Spec.Selector["team"] != "") {
					t.Errorf("the Service has %v and selects %v", x.Annotations, x.Spec.Selector)
				}
			}
		}
	}

	if len(jobs) != 2 {
		t.Errorf("the Jobs are %v, and the pod of one cannot change", jobs)
	}
}

// TestMarkRoutes checks that what the settings say of the edge reaches what leads to it, beside what
// cert-manager reads there.
func TestMarkRoutes(t *testing.T) {
	p, err := plan.Of(t.Context(), "../..", "prod", plan.OfOptions{Target: stacks.Kubernetes})
	if err != nil {
		t.Fatal(err)
	}
	const timeout, issuer = "nginx.ingress.kubernetes.io/proxy-read-timeout", "cert-manager.io/issuer"
	opts := kubernetes.Options{Root: "../..", Pods: map[string]stacks.PodSettings{stacks.Edge: {
		Labels:      map[string]string{"team": "chat"},
		Annotations: map[string]string{timeout: "900"},
	}}}

	for _, test := range []struct {
		route  stacks.Route
		marked map[string]string // kinds with names, and the issuer
	}{
		{stacks.Route{Ingress: &stacks.Ingress{Class: "nginx"}}, map[string]string{"Ingress edge": "ca"}},
		{stacks.Route{Gateway: &stacks.Gateway{Class: "istio"}}, map[string]string{
			"Gateway edge": "ca", "HTTPRoute edge": "", "HTTPRoute edge-https": "",
		}},
	} {
		test.route.Host, test.route.TLS = "chat.example.com", &stacks.TLS{Issuer: "ca"}
		stack := p.Stack
		stack.Route = &test.route
		rendered, err := kubernetes.Render(stack, opts)
		if err != nil {
			t.Fatal(err)
		}

		got := map[string]string{}
		for _, o := range rendered.Objects {
			meta, err := meta.Accessor(o.API)
			if err != nil {
				t.Fatal(err)
			}
			kind := o.API.GetObjectKind().GroupVersionKind().Kind
			if _, ok := test.marked[kind+" "+meta.GetName()]; !ok {
				continue
			}
			a := meta.GetAnnotations()
			if a[timeout] != "900" || meta.GetLabels()["team"] != "chat" ||
				meta.GetLabels()[stacks.LabelService] != stacks.Edge {
				t.Errorf("%s %s is marked %v and %v", kind, meta.GetName(), a, meta.GetLabels())
			}
			got[kind+" "+meta.GetName()] = a[issuer]
		}
		if d := cmp.Diff(test.marked, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

func checkPlace(
	t *testing.T, pod corev1.PodTemplateSpec, class string, nodes map[string]string, taint string,
) {
	t.Helper()
	name := pod.Labels[stacks.LabelService]
	if pod.Labels["team"] != "chat" || pod.Spec.PriorityClassName != class {
		t.Errorf("%s has the labels %v and the class %q", name, pod.Labels, pod.Spec.PriorityClassName)
	}
	if d := cmp.Diff(nodes, pod.Spec.NodeSelector); d != "" {
		t.Errorf("%s goes elsewhere (-want +got):\n%s", name, d)
	}
	if len(pod.Spec.Tolerations) != 1 || pod.Spec.Tolerations[0].Key != taint {
		t.Errorf("%s tolerates %v", name, pod.Spec.Tolerations)
	}
	if len(pod.Spec.ImagePullSecrets) != 1 || pod.Spec.ImagePullSecrets[0].Name != "team" {
		t.Errorf("%s pulls by %v", name, pod.Spec.ImagePullSecrets)
	}
}
