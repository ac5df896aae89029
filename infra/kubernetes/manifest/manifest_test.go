package manifest_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes/manifest"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// recorded is a plan as the monitor records it.
const recorded = `[
  {"type": "pulumi:providers:kubernetes", "name": "cluster", "inputs": {"kind": "Provider"}},
  {"type": "codexcontinue:kubernetes:Service", "name": "web", "component": true},
  {"type": "docker:index/image:Image", "name": "web", "inputs": {"imageName": "registry.example.com/web:1"}},
  {"type": "docker:index/image:Image", "name": "helper", "inputs": {"imageName": "registry.example.com/helper:2"}},
  {"type": "kubernetes:core/v1:Namespace", "name": "namespace", "inputs": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}}},
  {"type": "kubernetes:core/v1:Service", "name": "web", "inputs": {"apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "web", "namespace": "lab", "annotations": {"pulumi.com/skipAwait": "true"}, "labels": {"app.kubernetes.io/managed-by": "pulumi"}},
    "spec": {"ports": [{"port": 80}]}}},
  {"type": "kubernetes:core/v1:Secret", "name": "web-files", "inputs": {"apiVersion": "v1", "kind": "Secret", "immutable": true, "data": "[secret]",
    "metadata": {"namespace": "lab"}}},
  {"type": "kubernetes:apps/v1:Deployment", "name": "web", "inputs": {"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "lab", "annotations": {"pulumi.com/skipAwait": "true", "example.com/kept": "yes"}},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b", "app.kubernetes.io/managed-by": "pulumi"}}, "spec": {
      "initContainers": [{"name": "helper", "image": "[computed]"}],
      "containers": [{"name": "web", "image": "[computed]"}],
      "volumes": [{"name": "files", "projected": {"sources": [{"secret": {"items": [{"key": "b", "path": "b"}, {"key": "a", "path": "a"}]}}]}}]}}}},
    "options": {"dependsOn": ["docker:index/image:Image web", "docker:index/image:Image helper", "kubernetes:core/v1:Secret web-files"]}},
  {"type": "kubernetes:batch/v1:Job", "name": "job", "inputs": {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job-1", "namespace": "lab"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "any", "image": "[computed]"}],
      "volumes": [{"name": "files", "secret": {"secretName": "[computed]"}}]}}}},
    "options": {"dependsOn": ["docker:index/image:Image web", "kubernetes:core/v1:Secret web-files"]}}
]`

func resources(t *testing.T, edit func(list []plan.Resource)) []plan.Resource {
	t.Helper()
	var out []plan.Resource
	if err := json.Unmarshal([]byte(recorded), &out); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(out)
	}
	return out
}

func mustRead(t *testing.T, list []plan.Resource) []*unstructured.Unstructured {
	t.Helper()
	objects, err := manifest.Objects(list)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// typed is the object of that kind and name.
func typed[T any](t *testing.T, objects []*unstructured.Unstructured, name string) T {
	t.Helper()
	for _, o := range objects {
		got, err := manifest.Typed(o)
		if err != nil {
			t.Fatal(err)
		}
		if x, ok := got.(T); ok && o.GetName() == name {
			return x
		}
	}
	var none T
	t.Fatalf("there is no %T %s", none, name)
	return none
}

func TestObjects(t *testing.T) {
	objects := mustRead(t, resources(t, nil))
	var names []string
	for _, o := range objects {
		names = append(names, o.GetKind()+"/"+o.GetName())
	}
	if got, want := strings.Join(names, " "), "Namespace/lab Secret/web-files Service/web Job/job-1 Deployment/web"; got != want {
		t.Errorf("objects %s, want %s", got, want)
	}
	web := typed[*appsv1.Deployment](t, objects, "web")
	pod := web.Spec.Template.Spec
	if got := pod.Containers[0].Image + " " + pod.InitContainers[0].Image; got != "registry.example.com/web:1 registry.example.com/helper:2" {
		t.Errorf("images %s", got)
	}
	if got := pod.Volumes[0].Projected.Sources[0].Secret.Name; got != "web-files" {
		t.Errorf("the pods mount the Secret %q", got)
	}
	if job := typed[*batchv1.Job](t, objects, "job-1").Spec.Template.Spec; job.Containers[0].Image != "registry.example.com/web:1" || job.Volumes[0].Secret.SecretName != "web-files" {
		t.Errorf("the Job's pods: %+v", job)
	}
	secret := typed[*corev1.Secret](t, objects, "web-files")
	if len(secret.Data) > 0 || len(secret.StringData) != 2 || secret.StringData["a"] != manifest.SecretValue || secret.StringData["b"] != manifest.SecretValue {
		t.Errorf("the Secret holds %v and %v", secret.Data, secret.StringData)
	}
	if web.Annotations["example.com/kept"] != "yes" || web.Spec.Template.Labels["app.kubernetes.io/managed-by"] != manifest.Manager {
		t.Errorf("metadata %v, pods' %v", web.ObjectMeta, web.Spec.Template.Labels)
	}
}

// TestYAML holds that the stream is the same each time and says nothing to Pulumi.
func TestYAML(t *testing.T) {
	var first, again bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &again} {
		if err := manifest.YAML(b, mustRead(t, resources(t, nil))); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("two streams of one plan differ")
	}
	for _, bad := range []string{"pulumi", plan.Computed, "1e+", ": null"} {
		if strings.Contains(first.String(), bad) {
			t.Errorf("the stream holds %q:\n%s", bad, &first)
		}
	}
	if got := strings.Count(first.String(), "\n---\n") + 1; got != 5 {
		t.Errorf("%d documents, want 5", got)
	}
}

func TestRefused(t *testing.T) {
	inputs := func(list []plan.Resource, ref string) map[string]any {
		for _, r := range list {
			if r.Type+" "+r.Name == ref {
				return r.Inputs
			}
		}
		t.Fatalf("no %s", ref)
		return nil
	}
	for name, tc := range map[string]struct {
		edit func([]plan.Resource)
		want string
	}{
		"unknown value": {func(l []plan.Resource) {
			inputs(l, "kubernetes:core/v1:Service web")["spec"] = map[string]any{"type": plan.Computed}
		}, "Service web: spec.type is not known"},
		"secret value": {func(l []plan.Resource) {
			inputs(l, "kubernetes:core/v1:Service web")["spec"] = map[string]any{"ports": []any{plan.Secret}}
		}, "Service web: spec.ports[0] is not known"},
		"unplaced kind": {func(l []plan.Resource) { inputs(l, "kubernetes:core/v1:Service web")["kind"] = "DaemonSet" }, "add it to manifest.Order"},
		"no metadata":   {func(l []plan.Resource) { delete(inputs(l, "kubernetes:core/v1:Service web"), "metadata") }, "no metadata"},
		"same name": {func(l []plan.Resource) {
			l[4] = plan.Resource{Type: "kubernetes:core/v1:Service", Name: "other", Inputs: inputs(l, "kubernetes:core/v1:Service web")}
		}, "two objects are the Service lab/web"},
		"no image":  {func(l []plan.Resource) { l[7].Options.DependsOn = l[7].Options.DependsOn[2:] }, "image of the container helper"},
		"no secret": {func(l []plan.Resource) { l[7].Options.DependsOn = l[7].Options.DependsOn[:2] }, "depends on 0 Secrets"},
		"two secrets": {func(l []plan.Resource) {
			l[0] = plan.Resource{Type: "kubernetes:core/v1:Secret", Name: "other"}
			l[7].Options.DependsOn = append(l[7].Options.DependsOn, "kubernetes:core/v1:Secret other")
		}, "depends on 2 Secrets"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Objects(resources(t, tc.edit))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
		})
	}
}

// TestTyped holds that a field which the API does not have is found.
func TestTyped(t *testing.T) {
	objects := mustRead(t, resources(t, func(l []plan.Resource) { l[5].Inputs["spec"].(map[string]any)["prots"] = 1 }))
	var found bool
	for _, o := range objects {
		if _, err := manifest.Typed(o); err != nil {
			found = true
			if !strings.Contains(err.Error(), `unknown field "spec.prots"`) {
				t.Error(err)
			}
		}
	}
	if !found {
		t.Error("an unknown field is read")
	}
	route := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}}
	if got, err := manifest.Typed(route); err != nil || got != route {
		t.Errorf("a kind without a Go type: %v, %v", got, err)
	}
}
