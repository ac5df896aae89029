package program

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"gopkg.in/yaml.v3"
)

// values returns the stack's config in the project's namespace, by key without it: text, or JSON of
// a structure. Secrets are left out of the map and named in the second result: what they hold goes
// from the config to the engine only.
//
// The engine hands the program values but no list of keys, and strictness needs the list: a
// misspelt key must be an error. So the keys come from the files that hold them.
func values(
	ctx *pulumi.Context, root, file string,
) (plain map[string]string, secret []string, err error) {
	project, own, err := configFiles(root, ctx.Stack(), file)
	if err != nil {
		return nil, nil, err
	}

	keys := slices.Collect(maps.Keys(own))
	for key := range project {
		keys = append(keys, qualified(key))
	}
	slices.Sort(keys)

	plain = map[string]string{}
	for _, full := range slices.Compact(keys) {
		key, ours := strings.CutPrefix(full, stacks.Project+":")
		value, set := ctx.GetConfig(full)
		switch {
		case !ours, !set:
		case ctx.IsConfigSecret(full):
			rest, inside, err := cutSecrets(full, own[full])
			if err != nil {
				return nil, nil, fmt.Errorf("%s: config.%s: %w", stackYAML(ctx.Stack()), full, err)
			}
			if len(inside) == 0 {
				secret = append(secret, key)
				continue
			}
			plain[key] = rest
			secret = append(secret, inside...)
		default:
			plain[key] = value
		}
	}

	return plain, secret, nil
}

// Config is the config of a stack as its files hold it, by full key (codexcontinue:domain): the
// project's defaults under the stack's own values.
type Config struct {
	// Plain holds text as it is and structures as JSON, as the engine hands them to the program.
	Plain map[string]string
	// Secret holds what stands in the file in the place of each secret: its ciphertext.
	Secret map[string]string
}

// ReadConfig reads the config of the stack of the project at root from Pulumi.yaml and
// Pulumi.<stack>.yaml, without opening secrets. A stack without a file has the
// project's defaults only.
func ReadConfig(root, stack string) (Config, error) { return ReadConfigFrom(root, stack, "") }

// ReadConfigFrom is ReadConfig with another file in the place of Pulumi.<stack>.yaml, unless it is
// empty.
func ReadConfigFrom(root, stack, file string) (Config, error) {
	project, own, err := configFiles(root, stack, file)
	if err != nil {
		return Config{}, err
	}

	c := Config{Plain: map[string]string{}, Secret: map[string]string{}}
	for key, node := range project {
		var schema struct {
			Value   yaml.Node `yaml:"value"`
			Default yaml.Node `yaml:"default"`
		}

		if node.Kind == yaml.MappingNode {
			if err := node.Decode(&schema); err != nil {
				return Config{}, fmt.Errorf("%s: config.%s: %w", projectYAML, key, err)
			}
			node = schema.Value
			if node.IsZero() {
				node = schema.Default
			}
		}

		key = qualified(key)
		if err := c.set(key, node); err != nil {
			return Config{}, fmt.Errorf("%s: config.%s: %w", projectYAML, key, err)
		}
	}

	for key, node := range own {
		if err := c.set(key, node); err != nil {
			return Config{}, fmt.Errorf("%s: config.%s: %w", stackYAML(stack), key, err)
		}
	}

	return c, nil
}

// servicesKey is the one key whose value holds secrets beside what is none.
const servicesKey = stacks.Project + ":services"

// cutSecrets returns the object at the node, which the stack's file has at the key, without the
// secrets of services in it, and their keys. There are none where it holds other secrets, so that
// it is secret as a whole.
func cutSecrets(key string, node yaml.Node) (rest string, inside []string, err error) {
	var v any
	if node.IsZero() {
		return "", nil, nil
	}
	if err := node.Decode(&v); err != nil {
		return "", nil, err
	}

	inside = slices.Sorted(maps.Keys(takeSecrets(key, v)))
	if len(inside) == 0 || hasSecret(v) {
		return "", nil, nil
	}

	text, err := json.Marshal(v)
	return string(text), inside, err
}

// takeSecrets takes the secrets of services out of the value of the key, and returns the
// ciphertexts by the keys that stacks knows them by.
func takeSecrets(key string, v any) map[string]string {
	out := map[string]string{}
	services, ok := v.(map[string]any)
	if key != servicesKey || !ok {
		return out
	}

	for service := range services {
		secrets := secretsOf(v, service)
		for name, value := range secrets {
			if hidden, ok := value.(map[string]any); ok && isCiphertext(hidden) {
				out[stacks.ServiceSecretKey(service, name)] = hidden["secure"].(string)
				delete(secrets, name)
			}
		}
	}

	return out
}

// secretsOf returns those of the service in the settings of all; nil if it has none.
func secretsOf(services any, service string) map[string]any {
	all, _ := services.(map[string]any)
	of, _ := all[service].(map[string]any)
	secrets, _ := of["secrets"].(map[string]any)
	return secrets
}

// set replaces the value of the key.
func (c Config) set(key string, node yaml.Node) error {
	if node.IsZero() || node.Tag == "!!null" {
		return nil
	}

	delete(c.Plain, key)
	maps.DeleteFunc(c.Secret, func(k, _ string) bool {
		return k == key || strings.HasPrefix(k, key+".")
	})
	if node.Kind == yaml.ScalarNode {
		c.Plain[key] = node.Value
		return nil
	}

	var v any
	if err := node.Decode(&v); err != nil {
		return err
	}

	for k, ciphertext := range takeSecrets(key, v) {
		c.Secret[qualified(k)] = ciphertext
	}

	text, err := json.Marshal(v)
	if err != nil {
		return err
	}

	if hasSecret(v) { // one secret makes the whole value secret
		c.Secret[key] = string(text)
		return nil
	}

	c.Plain[key] = string(text)
	return nil
}

// hasSecret reports whether the value is, or holds, the ciphertext of a secret.
func hasSecret(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if isCiphertext(v) {
			return true
		}
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), hasSecret)
	case []any:
		return slices.ContainsFunc(v, hasSecret)
	}

	return false
}

// PutSecret returns the value of codexcontinue:services with the secret of a service, whose full
// key in Config.Secret it is, put back.
func PutSecret(services, key, value string) (string, error) {
	return putSecret(services, key, value)
}

func putSecret(services, key string, value any) (string, error) {
	service, name, ok := stacks.CutServiceSecret(strings.TrimPrefix(key, stacks.Project+":"))
	if !ok {
		return "", fmt.Errorf("%s: is no secret of a service", key)
	}

	all := map[string]map[string]any{}
	if services != "" {
		if err := json.Unmarshal([]byte(services), &all); err != nil {
			return "", fmt.Errorf("%s: %w", servicesKey, err)
		}
	}

	if all[service] == nil {
		all[service] = map[string]any{}
	}
	secrets, ok := all[service]["secrets"].(map[string]any)
	if !ok {
		secrets = map[string]any{}
		all[service]["secrets"] = secrets
	}

	secrets[name] = value
	text, err := json.Marshal(all)
	return string(text), err
}

// Services returns the value of codexcontinue:services as the stack's file has it: with the
// ciphertexts of the secrets in it.
func (c Config) Services() (string, error) {
	value := c.Plain[servicesKey]
	for _, key := range slices.Sorted(maps.Keys(c.Secret)) {
		if !strings.HasPrefix(key, servicesKey+".") {
			continue
		}

		var err error
		value, err = putSecret(value, key, map[string]any{"secure": c.Secret[key]})
		if err != nil {
			return "", err
		}
	}

	return value, nil
}

// CutOpened returns the value of codexcontinue:services, in which the secrets are opened, without
// them, and their full keys as of Config.Secret. No error shows what it holds.
func CutOpened(services string) (rest string, secret []string, err error) {
	var all any
	if err := json.Unmarshal([]byte(services), &all); err != nil {
		return "", nil, fmt.Errorf("%s: is no JSON", servicesKey)
	}

	of, _ := all.(map[string]any)
	for _, service := range slices.Sorted(maps.Keys(of)) {
		values := secretsOf(all, service)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			// What is in no config, but in a cluster, is an object that says where.
			if _, elsewhere := values[name].(map[string]any); !elsewhere {
				secret = append(secret, qualified(stacks.ServiceSecretKey(service, name)))
				delete(values, name)
			}
		}
	}

	text, err := json.Marshal(all)
	return string(text), secret, err
}

// isCiphertext reports whether the object is what stands in the place of a secret.
func isCiphertext(v map[string]any) bool {
	text, ok := v["secure"].(string)
	return ok && len(v) == 1 && text != ""
}

// Own returns the keys of the project's namespace without it: plain values and the names of
// secrets, as Load takes them.
func (c Config) Own() (plain map[string]string, secret []string) {
	plain = map[string]string{}
	for key, value := range c.Plain {
		if name, ok := strings.CutPrefix(key, stacks.Project+":"); ok {
			plain[name] = value
		}
	}

	for key := range c.Secret {
		if name, ok := strings.CutPrefix(key, stacks.Project+":"); ok {
			secret = append(secret, name)
		}
	}

	slices.Sort(secret)
	return plain, secret
}

// qualified returns the full key of a key in Pulumi.yaml, where a bare one is the project's.
func qualified(key string) string {
	if strings.Contains(key, ":") {
		return key
	}
	return stacks.Project + ":" + key
}

// projectFile is the part of Pulumi.yaml that is read.
type projectFile struct {
	StackConfigDir string               `yaml:"stackConfigDir"`
	Config         map[string]yaml.Node `yaml:"config"`
}

// configFiles returns the config sections of Pulumi.yaml and of the file, which is
// Pulumi.<stack>.yaml if it is empty; the latter need not be there.
func configFiles(
	root, stack, file string,
) (project, own map[string]yaml.Node, err error) {
	var p projectFile
	if err := readYAML(filepath.Join(root, projectYAML), &p); err != nil {
		return nil, nil, err
	}

	var s struct {
		Config map[string]yaml.Node `yaml:"config"`
	}
	if file == "" {
		file = filepath.Join(root, p.StackConfigDir, stackYAML(stack))
	}
	if err := readYAML(file, &s); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}

	return p.Config, s.Config, nil
}

// Stacks lists the stacks that have a file, sorted.
func Stacks(root string) ([]string, error) {
	var p projectFile
	if err := readYAML(filepath.Join(root, projectYAML), &p); err != nil {
		return nil, err
	}

	entries, err := fs.ReadDir(os.DirFS(root), path.Join(".", filepath.ToSlash(p.StackConfigDir)))
	if err != nil {
		return nil, err
	}

	var out []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "Pulumi.")
		if name, isFile := strings.CutSuffix(name, ".yaml"); ok && isFile && name != "" {
			out = append(out, name)
		}
	}

	slices.Sort(out)
	return out, nil
}

func readYAML(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}

	return nil
}

// projectYAML declares the project's config.
const projectYAML = "Pulumi.yaml"

// stackYAML sets that of one stack.
func stackYAML(stack string) string { return "Pulumi." + stack + ".yaml" }
