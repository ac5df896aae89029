package kubernetes

import (
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
	byPath, dirs := map[string]stacks.File{}, []string{}
	for _, f := range p.Files {
		byPath[f.Path], dirs = f, append(dirs, path.Dir(f.Path))
		if f.Secret == "" {
			plain[fileKey(f.Path)] = f.Content
			continue
		}

		if !slices.ContainsFunc(r.stack.Secrets, func(s stacks.Secret) bool {
			return s.Name == f.Secret
		}) {
			return fmt.Errorf("files.%s: there is no secret %q", f.Path, f.Secret)
		}

		hidden[fileKey(f.Path)] = f
	}

	config, secret := corev1.LocalObjectReference{}, corev1.LocalObjectReference{}
	if len(plain) > 0 {
		m, err := r.addConfigMap(p.Name+"-files", p.Name, plain, nil)
		if err != nil {
			return err
		}
		config.Name = m.GetName()
	}

	if len(hidden) > 0 {
		secret.Name = r.addSecret(p.Name+"-files", p.Name, hidden).GetName()
	}

	slices.Sort(dirs)
	for i, dir := range slices.Compact(dirs) {
		items := map[bool][]corev1.KeyToPath{} // by whether they are secret
		for _, at := range slices.Sorted(maps.Keys(byPath)) {
			if path.Dir(at) == dir {
				item := corev1.KeyToPath{Key: fileKey(at), Path: path.Base(at)}
				isSecret := byPath[at].Secret != ""
				items[isSecret] = append(items[isSecret], item)
			}
		}

		projected := &corev1.ProjectedVolumeSource{DefaultMode: new(int32(fileMode))}
		if list := items[false]; list != nil {
			projected.Sources = append(projected.Sources, corev1.VolumeProjection{
				ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: config, Items: list},
			})
		}

		if list := items[true]; list != nil {
			projected.Sources = append(projected.Sources, corev1.VolumeProjection{
				Secret: &corev1.SecretProjection{LocalObjectReference: secret, Items: list},
			})
		}

		v.add(fmt.Sprintf("files-%d", i), corev1.VolumeSource{Projected: projected}, dir, true)
	}

	return nil
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
