package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"gopkg.in/yaml.v3"
)

// values are the stack's config in the project's namespace, by key without it: text, or JSON of a structure. Secrets
// are left out of the map and named in the second result: what they hold goes from the config to the engine only.
//
// The engine hands the program values but no list of keys, and strictness needs the list: a misspelt key must be an
// error. So the keys come from the files that hold them.
func values(ctx *pulumi.Context, root string) (plain map[string]string, secret []string, err error) {
	keys, err := configKeys(root, ctx.Stack())
	if err != nil {
		return nil, nil, err
	}
	plain = map[string]string{}
	for _, key := range keys {
		full := stacks.Project + ":" + key
		value, ok := ctx.GetConfig(full)
		switch {
		case !ok:
		case ctx.IsConfigSecret(full):
			secret = append(secret, key)
		default:
			plain[key] = value
		}
	}
	return plain, secret, nil
}

// configKeys are the keys that Pulumi.yaml declares and Pulumi.<stack>.yaml sets.
func configKeys(root, stack string) ([]string, error) {
	var project struct {
		StackConfigDir string               `yaml:"stackConfigDir"`
		Config         map[string]yaml.Node `yaml:"config"`
	}
	if err := readYAML(filepath.Join(root, "Pulumi.yaml"), &project); err != nil {
		return nil, err
	}
	var own struct {
		Config map[string]yaml.Node `yaml:"config"`
	}
	path := filepath.Join(root, project.StackConfigDir, "Pulumi."+stack+".yaml")
	if err := readYAML(path, &own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	seen := map[string]bool{}
	var out []string
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	for key := range project.Config { // bare keys are the project's
		if name, ok := strings.CutPrefix(key, stacks.Project+":"); ok {
			add(name)
		} else if !strings.Contains(key, ":") {
			add(key)
		}
	}
	for key := range own.Config {
		if name, ok := strings.CutPrefix(key, stacks.Project+":"); ok {
			add(name)
		}
	}
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
