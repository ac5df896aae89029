package kubernetes

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// manager is the manager of the objects in the labels of manifests, in Pulumi's place.
const manager = "kubectl"

// Order is that in which the kinds are made: each after those that it names.
var Order = []string{"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ServiceAccount",
	"ConfigMap", "Secret", "ExternalSecret",
	"PersistentVolumeClaim", "Service", "StatefulSet", "Job", "Deployment",
	"HorizontalPodAutoscaler", "PodDisruptionBudget",
	"Gateway", "HTTPRoute", "Ingress"}

// Manifests returns the objects as others than Pulumi make them, in Order, and
// by name within a kind.
func (r *Rendering) Manifests() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range r.Objects {
		if !slices.Contains(Order, o.kind()) {
			return nil, fmt.Errorf("%s: the kind's place among the others is not known: add it to Order",
				o)
		}

		fields, err := o.Fields()
		if err != nil {
			return nil, err
		}

		// Whoever applies manifests again would set these anew.
		for _, path := range o.Begins {
			unstructured.RemoveNestedField(fields, strings.Split(path, ".")...)
		}

		manage(fields)
		out = append(out, &unstructured.Unstructured{Object: fields})
	}

	place := func(u *unstructured.Unstructured) int { return slices.Index(Order, u.GetKind()) }
	slices.SortFunc(out, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out, nil
}

// manage sets the manager in the labels of the objects to the one of manifests.
func manage(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v[labelManager]; ok {
			v[labelManager] = manager
		}
		for _, x := range v {
			manage(x)
		}
	case []any:
		for _, x := range v {
			manage(x)
		}
	}
}

// YAML writes the manifests as a stream of documents. The same ones are the same bytes.
func YAML(w io.Writer, manifests []*unstructured.Unstructured) error {
	for _, o := range manifests {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}

	return nil
}
