package export

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes/manifest"
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
	if err := m.read(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	var b strings.Builder
	b.WriteString(m.header())
	if err := manifest.YAML(&b, m.objects); err != nil {
		return nil, fmt.Errorf("export: %w", err)
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
	// objects are all but the Secrets.
	objects []*unstructured.Unstructured
	secrets []secretObject
}

// secretObject is a Secret that the user makes.
type secretObject struct {
	name string
	// keys hold the file of each key.
	keys map[string]stacks.File
}

func (m *manifests) read() error {
	objects, err := manifest.Objects(m.Resources)
	if err != nil {
		return err
	}
	for _, o := range objects {
		switch o.GetKind() {
		case "Namespace":
			m.namespace = o.GetName()
		case "Secret":
			continue
		}
		m.objects = append(m.objects, o)
		if err := m.readSecrets(o); err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	slices.SortFunc(m.secrets, func(a, b secretObject) int { return cmp.Compare(a.name, b.name) })
	m.secrets = slices.CompactFunc(m.secrets, func(a, b secretObject) bool { return a.name == b.name })
	return nil
}

// template is a controller's, as far as Secrets are mounted.
type template struct {
	Metadata struct{ Labels map[string]string }
	Spec     struct {
		InitContainers, Containers []struct {
			VolumeMounts []struct{ Name, MountPath string }
		}
		Volumes []struct {
			Name      string
			Projected struct {
				Sources []struct {
					Secret struct {
						Name  string
						Items []struct{ Key, Path string }
					}
				}
			}
		}
	}
}

// readSecrets adds the Secrets that the pods of a controller mount, with what the stack says is in them.
func (m *manifests) readSecrets(o *unstructured.Unstructured) error {
	var in struct{ Spec struct{ Template template } }
	text, err := o.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return err
	}
	pod, service := in.Spec.Template.Spec, in.Spec.Template.Metadata.Labels[stacks.LabelService]
	mounts := map[string]string{} // where the volumes are
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, mount := range c.VolumeMounts {
			mounts[mount.Name] = mount.MountPath
		}
	}
	secrets := map[string]map[string]stacks.File{}
	for _, v := range pod.Volumes {
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				at := path.Join(mounts[v.Name], item.Path)
				f, ok := m.fileAt(service, at)
				if !ok {
					return fmt.Errorf("the service %s has no secret file %s", service, at)
				}
				if secrets[source.Secret.Name] == nil {
					secrets[source.Secret.Name] = map[string]stacks.File{}
				}
				secrets[source.Secret.Name][item.Key] = f
			}
		}
	}
	for name, keys := range secrets {
		m.secrets = append(m.secrets, secretObject{name, keys})
	}
	return nil
}

// fileAt finds the secret file of the service at the path.
func (m *manifests) fileAt(service, path string) (stacks.File, bool) {
	svc := m.Stack.Service(service)
	if svc == nil {
		return stacks.File{}, false
	}
	i := slices.IndexFunc(svc.Files, func(f stacks.File) bool { return f.Path == path && f.Secret != "" })
	if i < 0 {
		return stacks.File{}, false
	}
	return svc.Files[i], true
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
