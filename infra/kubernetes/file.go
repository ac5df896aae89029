package kubernetes

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fileMode lets anyone in the container read: only its own pods mount the volume.
const fileMode = 0o444

// keyRule is what a ConfigMap and a Secret take as a key.
var keyRule = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

// keyRuleText is keyRule in an error.
const keyRuleText = "its path may have letters, digits, dots, dashes and underscores"

// fileKey returns the key of the file at an absolute path: the path with dots, which keeps
// files of one name apart.
func fileKey(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")
}

// addFiles puts a service's files into a ConfigMap and a Secret and mounts them, directory by
// directory. Both are immutable, and a changed one is a new one: the pods that mount it are
// replaced, and those that are not yet keep theirs.
func (r *renderer) addFiles(p plan, v *volumes) error {
	plain, hidden := map[string]string{}, map[string]stacks.File{}
	byPath, dirs := map[string]heldFile{}, []string{}
	for _, f := range p.Files {
		dirs = append(dirs, path.Dir(f.Path))
		if f.Secret == "" {
			plain[fileKey(f.Path)] = f.Content
			byPath[f.Path] = heldFile{key: fileKey(f.Path)}
			continue
		}

		i := slices.IndexFunc(r.stack.Secrets, func(s stacks.Secret) bool {
			return s.Name == f.Secret
		})
		if i < 0 {
			return fmt.Errorf("files.%s: there is no secret %q", f.Path, f.Secret)
		}

		secret := r.stack.Secrets[i]
		elsewhere := secret.Existing != nil || secret.External != nil
		switch {
		case elsewhere && f.Content != "":
			return fmt.Errorf("files.%s: the value of %q is the cluster's, and cannot be put into a text",
				f.Path, f.Secret)
		case secret.Existing != nil:
			byPath[f.Path] = heldFile{true, secret.Existing.Name, secret.Existing.Key}
		case secret.External != nil:
			r.addExternalSecret(p.Name, secret)
			byPath[f.Path] = heldFile{true, secret.Name, externalKey}
		default:
			hidden[fileKey(f.Path)] = f
			byPath[f.Path] = heldFile{secret: true, key: fileKey(f.Path)}
		}
	}

	own := map[bool]string{} // the objects of the service's own files, by whether they are secret
	if len(plain) > 0 {
		m, err := r.addConfigMap(p.Name+"-files", p.Name, plain, nil)
		if err != nil {
			return err
		}
		own[false] = m.GetName()
	}

	if len(hidden) > 0 {
		own[true] = r.addSecret(p.Name+"-files", p.Name, hidden).GetName()
	}

	slices.Sort(dirs)
	for i, dir := range slices.Compact(dirs) {
		items := map[heldFile][]corev1.KeyToPath{} // by object
		for _, at := range slices.Sorted(maps.Keys(byPath)) {
			if path.Dir(at) == dir {
				held := byPath[at]
				item := corev1.KeyToPath{Key: held.key, Path: path.Base(at)}
				held.key = ""
				items[held] = append(items[held], item)
			}
		}

		projected := &corev1.ProjectedVolumeSource{DefaultMode: new(int32(fileMode))}
		for _, in := range slices.SortedFunc(maps.Keys(items), heldFile.compare) {
			object := corev1.LocalObjectReference{Name: cmp.Or(in.object, own[in.secret])}
			source := corev1.VolumeProjection{
				Secret: &corev1.SecretProjection{LocalObjectReference: object, Items: items[in]},
			}
			if !in.secret {
				source = corev1.VolumeProjection{
					ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: object, Items: items[in]},
				}
			}
			projected.Sources = append(projected.Sources, source)
		}

		v.add(fmt.Sprintf("files-%d", i), corev1.VolumeSource{Projected: projected}, dir, true)
	}

	return nil
}

// heldFile is where a file's text is: at a key of a Secret or, where secret is not set, a ConfigMap.
type heldFile struct {
	secret bool

	// object is its name; empty is that of the service's own files.
	object string
	key    string
}

// compare orders the objects: ConfigMaps first, and the service's own before others.
func (h heldFile) compare(other heldFile) int {
	switch {
	case h.secret != other.secret && other.secret:
		return -1
	case h.secret != other.secret:
		return 1
	}
	return cmp.Compare(h.object, other.object)
}

// externalKey is the one key of a Secret that an ExternalSecret makes.
const externalKey = "value"

// addExternalSecret has the External Secrets Operator make a Secret of the secret's name, which it
// keeps as the store has it. Pods wait until it is there.
func (r *renderer) addExternalSecret(component string, secret stacks.Secret) {
	from := map[string]any{"key": secret.External.Key}
	if secret.External.Property != "" {
		from["property"] = secret.External.Property
	}

	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "external-secrets.io/v1",
		"kind":       "ExternalSecret",
		"spec": map[string]any{
			"refreshInterval": "1h0m0s",
			"secretStoreRef": map[string]any{
				"name": secret.External.Store, "kind": secret.External.Kind,
			},
			"target": map[string]any{"name": secret.Name, "creationPolicy": "Owner"},
			"data":   []any{map[string]any{"secretKey": externalKey, "remoteRef": from}},
		},
	}}
	o.SetName(secret.Name)
	o.SetNamespace(r.opts.Namespace)
	o.SetLabels(r.labelsOf(component))
	r.add(&Object{Resource: secret.Name, Component: component, API: o})
}

// addConfigMap makes an immutable ConfigMap whose name ends in the hash of its content.
func (r *renderer) addConfigMap(
	name, component string, text map[string]string, binary map[string][]byte,
) (*Object, error) {
	content, err := json.Marshal([]any{text, binary}) // sorted by key
	if err != nil {
		return nil, err
	}

	return r.add(&Object{Resource: name, Component: component, API: &corev1.ConfigMap{
		ObjectMeta: r.meta(name+"-"+shortHash(content), r.labelsOf(component)),
		Immutable:  new(true), Data: text, BinaryData: binary,
	}}), nil
}

// addSecret makes an immutable Secret. Pulumi gives it a random name: one made of the content's
// hash would let a weak password be guessed.
func (r *renderer) addSecret(name, component string, files map[string]stacks.File) *Object {
	values := map[string]string{}
	for key := range files {
		values[key] = SecretValue
	}

	return r.add(&Object{Resource: name, Component: component, Files: files, API: &corev1.Secret{
		ObjectMeta: r.meta(name, r.labelsOf(component)),
		Immutable:  new(true), Type: corev1.SecretTypeOpaque, StringData: values,
	}})
}

// shortHash tells contents apart in names.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:12]
}
