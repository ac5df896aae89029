// Package manifest reads the objects of a cluster out of a recorded plan: what the API server would be sent, with nothing in
// it that only Pulumi understands. Linters, exports and tests that ask what a stack becomes on a cluster read these.
package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// SecretValue stands in the place of every value of a Secret: no plan holds one.
const SecretValue = plan.Secret

// Manager is what the labels say manages the objects, in Pulumi's place.
const Manager = "kubectl"

// Order is that in which the kinds are made: each after those that it names.
var Order = []string{"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ServiceAccount", "ConfigMap", "Secret",
	"PersistentVolumeClaim", "Service", "StatefulSet", "Job", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget",
	"Gateway", "HTTPRoute", "Ingress"}

const imageType = "docker:index/image:Image"

// Objects are those of the plan in Order, and by name within a kind.
//
// What Pulumi would fill in while it provisions is named here: an object without a name gets that of its resource, which is
// what pods that mount it then say; an image that is built and pushed is its tag, which is the digest of what it is made of.
// A Secret holds SecretValue under each key that a pod asks for. Any other value that is not known is an error.
func Objects(resources []plan.Resource) ([]*unstructured.Unstructured, error) {
	r := reader{index: indexOf(resources), keys: map[string]map[string]bool{}}
	var objects, secrets []*unstructured.Unstructured
	taken := map[string]bool{}
	for _, res := range resources {
		kind, _ := res.Inputs["kind"].(string)
		if !strings.HasPrefix(res.Type, "kubernetes:") || kind == "" {
			continue // a component, a provider, an image
		}
		o, err := r.object(res)
		if err != nil {
			return nil, fmt.Errorf("manifest: %s %s: %w", kind, res.Name, err)
		}
		id := kind + " " + o.GetNamespace() + "/" + o.GetName()
		if taken[id] {
			return nil, fmt.Errorf("manifest: two objects are the %s", id)
		}
		taken[id] = true
		objects = append(objects, o)
		if kind == "Secret" {
			secrets = append(secrets, o)
		}
	}
	for _, s := range secrets {
		delete(s.Object, "data")
		values := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(r.keys[s.GetName()])) {
			values[key] = SecretValue
		}
		s.Object["stringData"] = values
	}
	for _, o := range objects {
		if at := unknown("", o.Object, o.GetKind() == "Secret"); at != "" {
			return nil, fmt.Errorf("manifest: %s %s: %s is not known before it is provisioned, or a secret", o.GetKind(), o.GetName(), at)
		}
	}
	slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.GetName(), b.GetName()))
	})
	return objects, nil
}

// YAML writes the objects as a stream of documents. The same objects are the same bytes.
func YAML(w io.Writer, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("manifest: %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
	}
	return nil
}

func place(o *unstructured.Unstructured) int { return slices.Index(Order, o.GetKind()) }

// reader is one reading of a plan.
type reader struct {
	index
	// keys are those that pods ask for, by the Secret's name.
	keys map[string]map[string]bool
}

// object is the resource without what only Pulumi understands, and with the references of its pods resolved.
func (r reader) object(res plan.Resource) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(res.Inputs)
	if err != nil {
		return nil, err
	}
	o := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(text, &o.Object); err != nil { // whole numbers as int64, as the API's own readers have them
		return nil, err
	}
	if place(o) < 0 {
		return nil, errors.New("the kind's place among the others is not known: add it to manifest.Order")
	}
	if _, ok := o.Object["metadata"].(map[string]any); !ok {
		return nil, errors.New("it has no metadata")
	}
	o.SetName(nameOf(res))
	if pod, ok, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec"); ok {
		if err := r.resolve(res, pod); err != nil {
			return nil, err
		}
		if err := unstructured.SetNestedMap(o.Object, pod, "spec", "template", "spec"); err != nil {
			return nil, err
		}
	}
	neutral(o.Object)
	return o, nil
}

// nameOf is the object's name, or the resource's where Pulumi chooses one.
func nameOf(res plan.Resource) string {
	meta, _ := res.Inputs["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	if name == "" || name == plan.Computed {
		return res.Name
	}
	return name
}

// resolve names the images and the Secrets of a pod, which a plan leaves open.
func (r reader) resolve(res plan.Resource, pod map[string]any) error {
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range objects(pod[list]) {
			if c["image"] != plan.Computed {
				continue
			}
			name, _ := c["name"].(string)
			image, err := r.image(res, name)
			if err != nil {
				return err
			}
			c["image"] = image
		}
	}
	for _, v := range objects(pod["volumes"]) {
		refs := []map[string]any{}
		if ref, ok := v["secret"].(map[string]any); ok {
			refs = append(refs, ref)
		}
		projected, _ := v["projected"].(map[string]any)
		for _, source := range objects(projected["sources"]) {
			if ref, ok := source["secret"].(map[string]any); ok {
				refs = append(refs, ref)
			}
		}
		for _, ref := range refs {
			field := "name" // of a projected source; a volume of its own says secretName
			if _, own := v["secret"]; own {
				field = "secretName"
			}
			name, _ := ref[field].(string)
			if name == "" || name == plan.Computed {
				secret, err := r.secret(res)
				if err != nil {
					return err
				}
				name = nameOf(secret)
				ref[field] = name
			}
			for _, item := range objects(ref["items"]) {
				if key, _ := item["key"].(string); key != "" {
					if r.keys[name] == nil {
						r.keys[name] = map[string]bool{}
					}
					r.keys[name][key] = true
				}
			}
		}
	}
	return nil
}

// index holds the resources of a plan by "type name", which is how a plan refers to them.
type index map[string]plan.Resource

func indexOf(resources []plan.Resource) index {
	i := index{}
	for _, res := range resources {
		i[res.Type+" "+res.Name] = res
	}
	return i
}

// Images tells what is built for the containers of a plan.
type Images struct{ index index }

// ImagesOf reads the images of the plan.
func ImagesOf(resources []plan.Resource) Images { return Images{indexOf(resources)} }

// Of is the reference of what is built for a container of the resource's pods, whose image the plan does not know: the tag
// under which it is pushed. An image that is none of those that the resource depends on is an error.
func (i Images) Of(res plan.Resource, container string) (string, error) {
	return i.index.image(res, container)
}

// image is the reference of what is built for the container: the one image that the resource depends on, or of several the
// one that has the container's name: a container is named after the service whose image it runs.
func (r index) image(res plan.Resource, container string) (string, error) {
	images := r.dependencies(res, imageType)
	if len(images) > 1 {
		images = slices.DeleteFunc(images, func(i plan.Resource) bool { return i.Name != container })
	}
	if len(images) != 1 {
		return "", fmt.Errorf("the image of the container %s is none of those that it depends on", container)
	}
	name, _ := images[0].Inputs["imageName"].(string)
	return name, nil
}

// secret is the one that the resource's pods mount.
func (r index) secret(res plan.Resource) (plan.Resource, error) {
	secrets := r.dependencies(res, "kubernetes:core/v1:Secret")
	if len(secrets) != 1 {
		return plan.Resource{}, fmt.Errorf("it depends on %d Secrets, of which its pods may mount each: it must be one", len(secrets))
	}
	return secrets[0], nil
}

// dependencies are those of the type.
func (r index) dependencies(res plan.Resource, of string) []plan.Resource {
	if res.Options == nil {
		return nil
	}
	var out []plan.Resource
	for _, ref := range res.Options.DependsOn {
		if d, ok := r[ref]; ok && d.Type == of {
			out = append(out, d)
		}
	}
	return out
}

// neutral says that Pulumi does not manage the object, and takes out what is said to Pulumi alone.
func neutral(v any) {
	const managedBy, own = "app.kubernetes.io/managed-by", "pulumi.com/"
	switch v := v.(type) {
	case map[string]any:
		if labels, ok := v["labels"].(map[string]any); ok && labels[managedBy] != nil {
			labels[managedBy] = Manager
		}
		if annotations, ok := v["annotations"].(map[string]any); ok {
			maps.DeleteFunc(annotations, func(k string, _ any) bool { return strings.HasPrefix(k, own) })
			if len(annotations) == 0 {
				delete(v, "annotations")
			}
		}
		for _, x := range v {
			neutral(x)
		}
	case []any:
		for _, x := range v {
			neutral(x)
		}
	}
}

// unknown is the path of a value that is secret or not known; empty when all are. The values of a Secret may be.
func unknown(at string, v any, secret bool) string {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if secret && at == "" && k == "stringData" {
				continue
			}
			if found := unknown(plan.Path(at, k), v[k], secret); found != "" {
				return found
			}
		}
	case []any:
		for i, x := range v {
			if found := unknown(plan.Path(at, i), x, secret); found != "" {
				return found
			}
		}
	case string:
		if v == plan.Secret || v == plan.Computed {
			return at
		}
	}
	return ""
}

func objects(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, x := range list {
		if o, ok := x.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}
