package export

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ManifestsFile is the name of the manifests in an export.
const ManifestsFile = "stack.yaml"

// Kubernetes exports a stack planned for the target kubernetes as manifests: stack.yaml for
// `kubectl apply -f`, and secrets.sh, which makes the Secrets that it names. Objects that Pulumi
// would give a random name have the name of their resource. The address of a private stack's resolver
// is the cluster's to choose: the head of stack.yaml says how to write it in.
func Kubernetes(s Source) ([]File, error) {
	if err := s.refuse(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}

	out, err := s.manifests()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return out, nil
}

func (s Source) manifests() ([]File, error) {
	namespace := ""
	var secrets []*kubernetes.Object
	for _, o := range s.Rendered.Kubernetes.Objects {
		switch kind := o.GetObjectKind().GroupVersionKind().Kind; {
		case kind == "Namespace":
			namespace = o.GetName()
		case o.Files != nil:
			secrets = append(secrets, o)
		}
	}

	slices.SortFunc(secrets, func(a, b *kubernetes.Object) int {
		return cmp.Compare(a.GetName(), b.GetName())
	})

	var files []secretFile
	for _, o := range secrets {
		for _, key := range slices.Sorted(maps.Keys(o.Files)) {
			f := o.Files[key]
			files = append(files, secretFile{o.GetName() + "/" + key, f.Secret, printf(f)})
		}
	}

	text := newText(s.Stack, files)
	text.Namespace, text.Objects = namespace, secrets
	if s.Stack.Service(stacks.Resolver) != nil {
		text.Resolver, text.Address = stacks.Resolver, kubernetes.ResolverAddress
	}

	objects, err := s.Rendered.Kubernetes.Manifests()
	if err != nil {
		return nil, err
	}

	objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Secret"
	})

	head, err := write("stack.yaml", text)
	if err != nil {
		return nil, err
	}

	var b strings.Builder
	b.WriteString(head)
	if err := kubernetes.YAML(&b, objects); err != nil {
		return nil, err
	}

	for _, o := range secrets {
		comment, err := write("secret.yaml", o)
		if err != nil {
			return nil, err
		}
		b.WriteString("---\n" + comment)
	}

	out := []File{{Path: ManifestsFile, Mode: 0o644, Text: b.String()}}
	if len(secrets) > 0 {
		script, err := write("kubernetes.sh", text)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: secretsScriptName, Mode: 0o755, Text: script})
	}

	return out, nil
}
