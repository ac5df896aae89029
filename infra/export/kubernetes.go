package export

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"sigs.k8s.io/yaml"
)

// ManifestsFile is the name of the manifests in an export.
const ManifestsFile = "stack.yaml"

// kubectl is what the labels of an export say manages its objects, in Pulumi's place.
const kubectl = "kubectl"

// kindOrder is the order in which `kubectl apply -f` makes the objects: each after those that it names. Secrets are the
// user's to make.
var kindOrder = []string{"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ServiceAccount", "ConfigMap",
	"PersistentVolumeClaim", "Service", "StatefulSet", "Job", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget",
	"Gateway", "HTTPRoute", "Ingress"}

// Kubernetes exports a stack planned for the target kubernetes as manifests: stack.yaml for `kubectl apply -f`, and
// secrets.sh, which makes the Secrets that it names. Objects that Pulumi would give a random name have the name of their
// resource.
func Kubernetes(s Source) ([]File, error) {
	m := manifests{Source: s, images: map[string]string{}}
	if err := m.read(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	var b strings.Builder
	b.WriteString(m.header())
	for _, o := range m.objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	for _, secret := range m.secrets {
		b.WriteString("---\n" + secret.template(m.namespace))
	}
	out := []File{{Path: ManifestsFile, Mode: 0o644, Text: b.String()}}
	if len(m.secrets) > 0 {
		out = append(out, File{Path: secretsScriptName, Mode: 0o755, Text: m.script()})
	}
	return out, nil
}

// manifests are the objects of a plan.
type manifests struct {
	Source
	namespace string
	objects   []map[string]any
	// images are what is built, by the component that it belongs to.
	images  map[string]string
	secrets []secretObject
}

// secretObject is a Secret that the user makes.
type secretObject struct {
	name string
	// keys hold the file of each key.
	keys map[string]stacks.File
}

func (m *manifests) read() error {
	named := map[string]string{} // the Secret of each component
	for _, r := range m.Resources {
		switch {
		case r.Type == "docker:index/image:Image":
			m.images[r.Parent], _ = r.Inputs["imageName"].(string)
		case r.Inputs["kind"] == "Secret":
			if named[r.Parent] != "" {
				return fmt.Errorf("%s has two Secrets: it is not known which one its pods mount", r.Parent)
			}
			named[r.Parent] = cmp.Or(nameOf(r.Inputs), r.Name)
		case r.Inputs["kind"] == "Namespace":
			m.namespace = nameOf(r.Inputs)
		}
	}
	for _, r := range m.Resources {
		kind, _ := r.Inputs["kind"].(string)
		if !strings.HasPrefix(r.Type, "kubernetes:") || kind == "" || kind == "Secret" {
			continue
		}
		if !slices.Contains(kindOrder, kind) {
			return fmt.Errorf("%s %s: its place among the others is not known: add it to the order of the export", kind, r.Name)
		}
		o, err := m.object(r, named[r.Parent])
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, r.Name, err)
		}
		m.objects = append(m.objects, o)
	}
	slices.SortFunc(m.objects, func(a, b map[string]any) int {
		place := func(o map[string]any) int { return slices.Index(kindOrder, o["kind"].(string)) }
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(nameOf(a), nameOf(b)))
	})
	slices.SortFunc(m.secrets, func(a, b secretObject) int { return cmp.Compare(a.name, b.name) })
	m.secrets = slices.CompactFunc(m.secrets, func(a, b secretObject) bool { return a.name == b.name })
	return nil
}

// object is the resource as a manifest. secret is the name of its component's Secret.
func (m *manifests) object(r plan.Resource, secret string) (map[string]any, error) {
	text, err := json.Marshal(r.Inputs)
	if err != nil {
		return nil, err
	}
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	meta, _ := o["metadata"].(map[string]any)
	if meta == nil {
		return nil, fmt.Errorf("it has no metadata")
	}
	if nameOf(o) == "" {
		meta["name"] = r.Name
	}
	if pod := podOf(o); pod != nil {
		if err := m.resolve(r.Parent, pod, secret); err != nil {
			return nil, err
		}
	}
	relabel(o)
	if at := unknown("", o); at != "" {
		return nil, fmt.Errorf("%s is not known before it is provisioned, or a secret", at)
	}
	return o, nil
}

// podOf is the pod in a controller's template.
func podOf(o map[string]any) map[string]any {
	spec, _ := o["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	pod, _ := template["spec"].(map[string]any)
	return pod
}

// resolve fills in what Pulumi would know later: the names of Secrets, and the digests of images that it pushes.
func (m *manifests) resolve(component string, pod map[string]any, secret string) error {
	mounts := map[string]string{} // where the volumes are
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range objects(pod[list]) {
			if c["image"] == plan.Computed {
				c["image"] = m.images[component]
			}
			for _, mount := range objects(c["volumeMounts"]) {
				name, _ := mount["name"].(string)
				mounts[name], _ = mount["mountPath"].(string)
			}
		}
	}
	keys := map[string]stacks.File{}
	for _, v := range objects(pod["volumes"]) {
		projected, _ := v["projected"].(map[string]any)
		for _, source := range objects(projected["sources"]) {
			ref, ok := source["secret"].(map[string]any)
			if !ok {
				continue
			}
			if named, _ := ref["name"].(string); named == "" || named == plan.Computed { // Pulumi's to choose
				ref["name"] = secret
			}
			name, _ := v["name"].(string)
			for _, item := range objects(ref["items"]) {
				key, _ := item["key"].(string)
				file, _ := item["path"].(string)
				at := path.Join(mounts[name], file)
				f, ok := m.fileAt(component, at)
				if !ok {
					return fmt.Errorf("%s has no secret file %s", component, at)
				}
				keys[key] = f
			}
		}
	}
	if len(keys) > 0 {
		if secret == "" {
			return fmt.Errorf("the plan has no Secret below %s", component)
		}
		m.secrets = append(m.secrets, secretObject{secret, keys})
	}
	return nil
}

// fileAt finds the secret file of the component's service at the path.
func (m *manifests) fileAt(component, path string) (stacks.File, bool) {
	_, name, _ := strings.Cut(component, " ")
	svc := m.Stack.Service(name)
	if svc == nil {
		return stacks.File{}, false
	}
	i := slices.IndexFunc(svc.Files, func(f stacks.File) bool { return f.Path == path && f.Secret != "" })
	if i < 0 {
		return stacks.File{}, false
	}
	return svc.Files[i], true
}

// relabel says that Pulumi does not manage the object, and takes out what is said to Pulumi alone.
func relabel(v any) {
	const managedBy, own = "app.kubernetes.io/managed-by", "pulumi.com/"
	switch v := v.(type) {
	case map[string]any:
		if labels, ok := v["labels"].(map[string]any); ok && labels[managedBy] != nil {
			labels[managedBy] = kubectl
		}
		if annotations, ok := v["annotations"].(map[string]any); ok {
			maps.DeleteFunc(annotations, func(k string, _ any) bool { return strings.HasPrefix(k, own) })
			if len(annotations) == 0 {
				delete(v, "annotations")
			}
		}
		for _, x := range v {
			relabel(x)
		}
	case []any:
		for _, x := range v {
			relabel(x)
		}
	}
}

// unknown is the path of a value that is secret or not known; empty when all are.
func unknown(at string, v any) string {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if found := unknown(plan.Path(at, k), v[k]); found != "" {
				return found
			}
		}
	case []any:
		for i, x := range v {
			if found := unknown(plan.Path(at, i), x); found != "" {
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

func nameOf(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
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

func (m *manifests) header() string {
	var h comment
	h.line("Stack %s of %s, exported by `codexctl export kubernetes %s`. Do not edit: change the stack and export again.", m.Stack.Name, stacks.Project, m.Stack.Name)
	h.line("")
	if m.Stack.Registry != "" {
		h.line("Push the images that it names first. Their tags are digests of what they are built from.")
	} else {
		h.line("First put the images onto the cluster's nodes: codexctl images load %s", m.Stack.Name)
	}
	h.line("")
	h.line("  kubectl apply --server-side -f %s", ManifestsFile)
	if len(m.secrets) > 0 {
		h.line("  ./%s      # pods wait for their Secrets, whose values no export holds", secretsScriptName)
	}
	h.line("")
	h.line("Unlike `codexctl up`, kubectl waits for nothing, and what an older export made and this one has not stays:")
	h.line("kubectl get all --namespace %s shows both.", m.namespace)
	return h.String()
}
