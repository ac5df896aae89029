package targets_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestObjectsAreRegistered checks that what is registered for a cluster is what was rendered, for
// every stack and every change of a field: each object under its type, with all of its fields and
// none besides, and with the options that stand beside it.
func TestObjectsAreRegistered(t *testing.T) {
	eachStack(t, func(t *testing.T, s described) { holdRegistered(t, s.Stack, s.root) })
	root := labRoot(t)
	t.Run("pushed and shared", func(t *testing.T) {
		holdRegistered(t, changed(t, root, func(s *stacks.Stack) {
			s.Registry = "registry.example.com/team"
			s.Volumes[1].Shared, s.Volumes[1].PerReplica = true, false
			ollama, build := s.Service("ollama"), *s.Service("ml").Image.Build
			build.Repository = "codexcontinue/ollama"
			ollama.Mounts[0].ReadOnly, ollama.Replicas, ollama.Image = true, 2, stacks.Image{Build: &build}
		}), root)
	})

	for i, e := range edits {
		fate, _ := e.expected(t, stacks.Kubernetes)
		if fate == fateRefused || e.err != "" || e.only == stacks.Docker {
			continue
		}
		t.Run(fmt.Sprintf("%d %s", i, e.field), func(t *testing.T) {
			holdRegistered(t, changed(t, root, e.before, e.change), root)
		})
	}
}

// holdRegistered compares the stack's rendering with its recorded plan.
func holdRegistered(t *testing.T, stack stacks.Stack, root string) {
	t.Helper()
	rendering, err := kubernetes.Render(stack, kubernetes.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}

	recorded := byRef(mustRecord(t, stack, stacks.Kubernetes, root))
	objects := 0
	for ref := range recorded {
		if strings.HasPrefix(ref, "kubernetes:") {
			objects++
		}
	}

	if objects != len(rendering.Objects) {
		t.Errorf("%d objects are registered of %d that are rendered", objects,
			len(rendering.Objects))
	}

	for _, o := range rendering.Objects {
		r, ok := recorded[refOf(o)]
		if !ok {
			t.Errorf("%s is not registered as %s", o, refOf(o))
			continue
		}

		// An empty list is registered where the stack that is up has one; the
		// API knows no difference.
		if d := cmp.Diff(rendered(t, o), typed(t, r, recorded), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-rendered +registered):\n%s", o, d)
		}

		holdOptions(t, o, rendering.Objects, r)
	}
}

// refOf returns "type name" of the object's resource.
func refOf(o *kubernetes.Object) string {
	gvk := o.GetObjectKind().GroupVersionKind()
	group := gvk.Group
	if group == "" {
		group = "core"
	}
	return fmt.Sprintf("kubernetes:%s/%s:%s %s", group, gvk.Version, gvk.Kind, o.Resource)
}

// byRef holds the resources by "type name".
func byRef(resources []plan.Resource) map[string]plan.Resource {
	out := map[string]plan.Resource{}
	for _, r := range resources {
		out[r.Type+" "+r.Name] = r
	}
	return out
}

// rendered returns the object as it is registered: with what is for Pulumi, and of a Secret without
// the values, which a plan hides as a whole, and the name, which Pulumi chooses.
func rendered(t *testing.T, o *kubernetes.Object) runtime.Object {
	t.Helper()
	out := o.DeepCopyObject().(kubernetes.API)
	if s, ok := out.(*corev1.Secret); ok {
		s.Name, s.StringData = "", nil
	}

	annotations := maps.Clone(out.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}

	maps.Copy(annotations, o.Annotations)
	if len(annotations) > 0 {
		out.SetAnnotations(annotations)
	}

	return out
}

// typed returns the resource as a Go type of its API, strictly: a field that the type has not is an
// error. Kinds of the Gateway API have none.
func typed(t *testing.T, r plan.Resource, all map[string]plan.Resource) runtime.Object {
	t.Helper()
	text, err := json.Marshal(r.Inputs)
	if err != nil {
		t.Fatal(err)
	}

	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	if !kubernetes.Scheme().Recognizes(u.GroupVersionKind()) {
		return u
	}

	claims, _, _ := unstructured.NestedSlice(u.Object, "spec", "volumeClaimTemplates")
	for _, o := range append(claims, u.Object) {
		if status := o.(map[string]any)["status"]; status != nil {
			t.Errorf("%s: its status is registered: %v", r.URN, status)
		}
	}

	if u.GetKind() == "Secret" {
		if u.Object["data"] != plan.Secret {
			t.Errorf("%s: its data are %v", r.URN, u.Object["data"])
		}
		delete(u.Object, "data")
	}

	resolve(t, u.Object, r, all)
	if text, err = u.MarshalJSON(); err != nil {
		t.Fatal(err)
	}

	codecs := serializer.NewCodecFactory(kubernetes.Scheme(), serializer.EnableStrict)
	out, _, err := codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		t.Fatalf("%s: %v", r.URN, err)
	}

	out.GetObjectKind().SetGroupVersionKind(u.GroupVersionKind())
	return out
}

// resolve names what the plan leaves open: the images that are pushed, after the containers that
// run them, the Secret of the stack that the pods mount, of which there is one, and the resolver's
// address. A Secret that somebody else makes has its name already.
func resolve(t *testing.T, v any, r plan.Resource, all map[string]plan.Resource) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		pushed, ok := all[fmt.Sprint("docker:index/image:Image ", v["name"])]
		if ok && v["image"] != nil {
			hold(t, r, v["image"])
			v["image"] = pushed.Inputs["imageName"]
		}

		if secret, ok := v["secret"].(map[string]any); ok && secret["name"] == plan.Computed {
			const kind = "kubernetes:core/v1:Secret "
			i := slices.IndexFunc(r.Options.DependsOn, func(d string) bool {
				return strings.HasPrefix(d, kind)
			})
			secret["name"] = strings.TrimPrefix(r.Options.DependsOn[i], kind)
		}

		if names, ok := v["nameservers"].([]any); ok {
			hold(t, r, names[0])
			names[0] = kubernetes.ResolverAddress
		}

		for _, x := range v {
			resolve(t, x, r, all)
		}
	case []any:
		for _, x := range v {
			resolve(t, x, r, all)
		}
	}
}

// hold checks that the value is known after provisioning.
func hold(t *testing.T, r plan.Resource, value any) {
	t.Helper()
	if value != plan.Computed {
		t.Errorf("%s: %v is registered as it is rendered, which is nothing's name", r.URN, value)
	}
}

// namedBy returns the resources, as "type name", of the objects that the object names.
func namedBy(o *kubernetes.Object, all []*kubernetes.Object) []string {
	refs := map[string]string{}
	for _, a := range all {
		refs[a.String()] = refOf(a)
	}

	var out []string
	add := func(kind, name string) { out = append(out, refs[kind+" "+name]) }
	if o.GetNamespace() != "" {
		add("Namespace", o.GetNamespace())
	}

	var pod corev1.PodSpec
	switch x := o.API.(type) {
	case *appsv1.Deployment:
		pod = x.Spec.Template.Spec
	case *appsv1.StatefulSet:
		pod = x.Spec.Template.Spec
	case *batchv1.Job:
		pod = x.Spec.Template.Spec
	}

	if pod.DNSConfig != nil {
		add("Service", stacks.Resolver)
	}

	for _, v := range pod.Volumes {
		if v.ConfigMap != nil {
			add("ConfigMap", v.ConfigMap.Name)
		}
		if v.PersistentVolumeClaim != nil {
			add("PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
		}
		if v.Projected == nil {
			continue
		}

		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil {
				add("ConfigMap", source.ConfigMap.Name)
			}
			if source.Secret != nil && refs["Secret "+source.Secret.Name] != "" {
				add("Secret", source.Secret.Name)
			}
		}
	}

	return out
}

// holdOptions checks that Pulumi is given what stands beside the object.
func holdOptions(t *testing.T, o *kubernetes.Object, all []*kubernetes.Object, r plan.Resource) {
	t.Helper()
	parent := map[string]string{
		"":              "codexcontinue:kubernetes:Namespace namespace",
		stacks.ModelJob: "codexcontinue:kubernetes:Model model",
	}[o.Component]
	if parent == "" {
		parent = "codexcontinue:kubernetes:Service " + o.Component
	}

	provider := "cluster"
	if o.Kept {
		provider = "cluster-kept"
	}

	if r.Parent != parent || r.Provider != provider || r.Options.RetainOnDelete != o.Retained {
		t.Errorf("%s: parent %q, provider %q, retained %v", o, r.Parent, r.Provider,
			r.Options.RetainOnDelete)
	}

	if r.Options.Version == "" {
		t.Errorf("%s asks for no version of the plugin", o)
	}

	before := namedBy(o, all)
	for _, a := range o.After {
		before = append(before, refOf(a))
	}

	for _, ref := range before {
		if !slices.Contains(r.Options.DependsOn, ref) {
			t.Errorf("%s is not made after %q", o, ref)
		}
	}

	var want *plan.Timeouts
	if x := o.Timeouts; x != nil {
		want = &plan.Timeouts{Create: x.Create, Update: x.Update, Delete: x.Delete}
	}
	if d := cmp.Diff(want, r.Options.Timeouts); d != "" {
		t.Errorf("%s: timeouts (-rendered +registered):\n%s", o, d)
	}
	if o.Files != nil && !slices.Equal(r.Options.SecretOutputs, []string{"data", "stringData"}) {
		t.Errorf("%s: the secret outputs are %v", o, r.Options.SecretOutputs)
	}
}
