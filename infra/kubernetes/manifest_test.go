package kubernetes_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// TestManifests holds that manifests come in their order, that each has a name of its own, that
// values of Secrets are not in them, and that they say nothing to Pulumi.
func TestManifests(t *testing.T) {
	eachManifest(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		last, seen := 0, map[string]bool{}
		for _, o := range objects {
			if seen[idOf(o)] || o.GetName() == "" {
				t.Errorf("%s has no name of its own", idOf(o))
			}

			seen[idOf(o)] = true
			place := slices.Index(kubernetes.Order, o.GetKind())
			if place < last {
				t.Errorf("%s comes too late", idOf(o))
			}

			last = place
			if o.GetKind() != "Secret" {
				continue
			}

			values, _, _ := unstructured.NestedStringMap(o.Object, "stringData")
			for key, value := range values {
				if value != kubernetes.SecretValue || o.Object["data"] != nil {
					t.Errorf("%s: %s is %q", idOf(o), key, value)
				}
			}

			if len(values) == 0 {
				t.Errorf("%s is empty", idOf(o))
			}
		}

		var first, again bytes.Buffer
		for _, b := range []*bytes.Buffer{&first, &again} {
			if err := kubernetes.YAML(b, objects); err != nil {
				t.Fatal(err)
			}
		}

		if !bytes.Equal(first.Bytes(), again.Bytes()) {
			t.Error("two streams of the same objects differ")
		}

		for _, bad := range []string{"pulumi", plan.Computed, "1e+", ": null", "status: {}", "creationTimestamp"} {
			if strings.Contains(first.String(), bad) {
				t.Errorf("the stream holds %q", bad)
			}
		}

		if got := strings.Count("\n"+first.String(), "\n---\n"); got != len(objects) {
			t.Errorf("%d documents of %d objects", got, len(objects))
		}
	})
}

// TestReferences holds that what an object names is there, under that name: pods' images,
// ConfigMaps, Secrets and claims.
func TestReferences(t *testing.T) {
	stack, root := labStack(t)
	rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}

	there := map[string]bool{}
	for _, o := range rendered.Objects {
		there[o.String()] = true
	}

	for _, svc := range stack.Services {
		there["Image "+svc.Image.Ref] = true
		if svc.Image.Build != nil {
			ref, err := image.Ref(os.DirFS(root), *svc.Image.Build, stack.Platform())
			if err != nil {
				t.Fatal(err)
			}
			there["Image "+path.Join(stack.Registry, ref)] = true
		}
	}

	seen := map[string]bool{}
	look := func(o *kubernetes.Object, kind string, name any) {
		if ref := fmt.Sprint(kind, " ", name); name != nil && !there[ref] {
			t.Errorf("%s names the %s", o, ref)
		}
		seen[kind] = seen[kind] || name != nil
	}

	for _, o := range rendered.Objects {
		fields, err := o.Fields()
		if err != nil {
			t.Fatal(err)
		}

		pod, ok, _ := unstructured.NestedMap(fields, "spec", "template", "spec")
		if !ok {
			continue
		}

		for _, list := range []string{"initContainers", "containers"} {
			for _, c := range items(pod[list]) {
				look(o, "Image", c["image"])
			}
		}

		for _, v := range items(pod["volumes"]) {
			look(o, "ConfigMap", at(v, "configMap", "name"))
			look(o, "PersistentVolumeClaim", at(v, "persistentVolumeClaim", "claimName"))
			projected, _ := v["projected"].(map[string]any)
			for _, source := range items(projected["sources"]) {
				look(o, "ConfigMap", at(source, "configMap", "name"))
				look(o, "Secret", at(source, "secret", "name"))
			}
		}
	}

	if len(seen) != 4 || !seen["Secret"] || !seen["PersistentVolumeClaim"] {
		t.Errorf("only %v are named", seen)
	}
}

func items(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, x := range list {
		out = append(out, x.(map[string]any))
	}
	return out
}

func at(in map[string]any, key, name string) any {
	inner, _ := in[key].(map[string]any)
	return inner[name]
}
