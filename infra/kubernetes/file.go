package kubernetes

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// fileMode lets anyone in the container read: only its own pods mount the volume.
const fileMode = 0o444

// keyRule is what a ConfigMap and a Secret take as a key.
var keyRule = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

// fileKey is the key of the file at an absolute path: the path with dots, which keeps files of one name apart.
func fileKey(name string) string { return strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".") }

// planFiles wants paths that can be keys.
func planFiles(files []stacks.File) []error {
	var errs []error
	for _, f := range files {
		if !keyRule.MatchString(fileKey(f.Path)) {
			errs = append(errs, cannot("files."+f.Path, "rename the file: its path may have letters, digits, dots, dashes and underscores"))
		}
	}
	return errs
}

// addFiles puts a service's files into a ConfigMap and a Secret and mounts them, directory by directory. Both are
// immutable, and a changed one is a new one: the pods that mount it are replaced, and those that are not yet keep theirs.
func (d *deployment) addFiles(p plan, v *volumes, parent pulumi.Resource) error {
	plain, secret := map[string]string{}, pulumi.StringMap{}
	for _, f := range p.Files {
		if f.Secret == "" {
			plain[fileKey(f.Path)] = f.Content
			continue
		}
		value, ok := d.secrets[f.Secret]
		if !ok {
			return fmt.Errorf("files.%s: there is no secret %q", f.Path, f.Secret)
		}
		secret[fileKey(f.Path)] = value.ApplyT(func(value string) string {
			return base64.StdEncoding.EncodeToString([]byte(f.Text(value)))
		}).(pulumi.StringOutput)
	}
	labels := workloadLabels(d.stack, p.Name)
	var configName, secretName pulumi.StringPtrInput
	if len(plain) > 0 {
		m, err := d.addConfigMap(p.Name+"-files", labels, plain, nil, parent)
		if err != nil {
			return err
		}
		configName = m.Metadata.Name()
	}
	if len(secret) > 0 {
		// Pulumi gives it a random name: one made of the content's hash would let a weak password be guessed.
		s, err := corev1.NewSecret(d.ctx, p.Name+"-files", &corev1.SecretArgs{
			Metadata: d.meta("", labels, nil), Immutable: pulumi.Bool(true), Type: pulumi.String("Opaque"), Data: secret,
		}, pulumi.Parent(parent), pulumi.Provider(d.cluster))
		if err != nil {
			return err
		}
		secretName = s.Metadata.Name()
	}
	for i, dir := range directories(p.Files) {
		var config, hidden corev1.KeyToPathArray
		for _, f := range p.Files {
			if path.Dir(f.Path) != dir {
				continue
			}
			item := corev1.KeyToPathArgs{Key: pulumi.String(fileKey(f.Path)), Path: pulumi.String(path.Base(f.Path))}
			if f.Secret == "" {
				config = append(config, item)
			} else {
				hidden = append(hidden, item)
			}
		}
		var sources corev1.VolumeProjectionArray
		if len(config) > 0 {
			sources = append(sources, corev1.VolumeProjectionArgs{ConfigMap: corev1.ConfigMapProjectionArgs{Name: configName, Items: config}})
		}
		if len(hidden) > 0 {
			sources = append(sources, corev1.VolumeProjectionArgs{Secret: corev1.SecretProjectionArgs{Name: secretName, Items: hidden}})
		}
		v.add(corev1.VolumeArgs{Name: pulumi.Sprintf("files-%d", i), Projected: corev1.ProjectedVolumeSourceArgs{
			DefaultMode: pulumi.Int(fileMode), Sources: sources,
		}}, dir, true)
	}
	return nil
}

// addConfigMap makes an immutable ConfigMap whose name ends in the hash of its content.
func (d *deployment) addConfigMap(name string, labels, text, binary map[string]string, parent pulumi.Resource) (*corev1.ConfigMap, error) {
	content, err := json.Marshal([]map[string]string{text, binary}) // sorted by key
	if err != nil {
		return nil, err
	}
	args := &corev1.ConfigMapArgs{Metadata: d.meta(name+"-"+shortHash(content), labels, nil), Immutable: pulumi.Bool(true)}
	if len(text) > 0 {
		args.Data = pulumi.ToStringMap(text)
	}
	if len(binary) > 0 {
		args.BinaryData = pulumi.ToStringMap(binary)
	}
	return corev1.NewConfigMap(d.ctx, name, args, pulumi.Parent(parent), pulumi.Provider(d.cluster))
}

// shortHash tells contents apart in names.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:12]
}

// directories are those of the files, sorted.
func directories(files []stacks.File) []string {
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, path.Dir(f.Path))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// sortedFiles are the service's files in the order of their paths.
func sortedFiles(files []stacks.File) []stacks.File {
	out := slices.Clone(files)
	slices.SortFunc(out, func(a, b stacks.File) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
