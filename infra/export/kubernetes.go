package export

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ManifestsFile is the name of the manifests in an export.
const ManifestsFile = "stack.yaml"

// Kubernetes exports a stack planned for the target kubernetes as manifests: stack.yaml for `kubectl apply -f`, and
// secrets.sh, which makes the Secrets that it names. Objects that Pulumi would give a random name have the name of their
// resource.
func Kubernetes(s Source) ([]File, error) {
	m := manifests{Source: s}
	for _, o := range s.Rendered.Kubernetes.Objects {
		switch kind := o.GetObjectKind().GroupVersionKind().Kind; {
		case kind == "Namespace":
			m.namespace = o.GetName()
		case o.Files != nil:
			m.secrets = append(m.secrets, o)
		}
	}
	slices.SortFunc(m.secrets, func(a, b *kubernetes.Object) int { return cmp.Compare(a.GetName(), b.GetName()) })
	objects, err := s.Rendered.Kubernetes.Manifests()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Secret" })

	var b strings.Builder
	b.WriteString(m.header())
	if err := kubernetes.YAML(&b, objects); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	for _, secret := range m.secrets {
		b.WriteString("---\n" + template(secret))
	}
	out := []File{{Path: ManifestsFile, Mode: 0o644, Text: b.String()}}
	if len(m.secrets) > 0 {
		out = append(out, File{Path: secretsScriptName, Mode: 0o755, Text: m.script()})
	}
	return out, nil
}

// manifests are what an export says of the objects of a cluster.
type manifests struct {
	Source
	namespace string
	// secrets are the Secrets, which the user makes.
	secrets []*kubernetes.Object
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
