package plan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Targets are those that every stack is planned for.
var Targets = []stacks.Target{stacks.Docker, stacks.Kubernetes}

// OfOptions say how a stack is planned.
type OfOptions struct {
	// Target replaces the one that the settings name; empty keeps it.
	Target stacks.Target
	// Key fingerprints secrets; nil leaves them without.
	Key []byte
	// File has the settings in the place of Pulumi.<stack>.yaml; empty keeps that.
	File string
}

// Plan is a stack with its recorded plan.
type Plan struct {
	Document Document
	Settings stacks.Settings
	Stack    stacks.Stack
	Rendered program.Rendered
}

// Of plans a stack of the project at root from its files alone: no engine, login, passphrase,
// plugin or network. A stack that its target refuses is an error.
func Of(ctx context.Context, root, stack string, o OfOptions) (Plan, error) {
	config, err := program.ReadConfigFrom(root, stack, o.File)
	if err != nil {
		return Plan{}, err
	}
	return OfConfig(ctx, root, stack, config, o)
}

// OfConfig is Of with the config in the place of what the files have, which it may change.
func OfConfig(
	ctx context.Context, root, stack string, config program.Config, o OfOptions,
) (Plan, error) {
	var err error
	if o.Target != "" {
		config.Plain[stacks.Project+":target"] = string(o.Target)
	}

	plain, secrets := config.Own()
	p := Plan{}
	p.Settings, p.Stack, err = program.LoadOffline(root, stack, plain, secrets)
	if err != nil {
		return Plan{}, err
	}

	run := recorder.Stack{
		Project: stacks.Project, Name: stack, Config: config.Plain, Key: o.Key,
	}
	values := map[string]string{}
	for _, key := range p.Stack.SecretKeys() { // those that are not set count as set
		values[stacks.Project+":"+key] = secret.Placeholder + key
	}

	for key, ciphertext := range config.Secret {
		_, name, _ := strings.Cut(key, ":")
		hash := sha256.Sum256([]byte(ciphertext))
		values[key] = secret.Placeholder + name + "-" + hex.EncodeToString(hash[:8])
	}

	for key, value := range values {
		object, _, nested := strings.Cut(key, ".")
		if nested {
			if value, err = program.PutSecret(run.Config[object], key, value); err != nil {
				return Plan{}, err
			}
			key = object
		}
		run.Config[key] = value
		run.Secrets = append(run.Secrets, key)
	}

	if p.Rendered, err = program.Render(p.Settings, p.Stack, root); err != nil {
		return Plan{}, err
	}

	resources, err := program.Record(ctx, run, p.Stack, p.Rendered, Root)
	if err != nil {
		return Plan{}, err
	}

	text, err := fs.ReadFile(os.DirFS(root), p.Stack.Model.Modelfile)
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}

	model := p.Stack.Model
	var evals []byte
	if model.Evals != "" {
		evals, err = fs.ReadFile(os.DirFS(root),
			path.Join(path.Dir(model.Modelfile), modelfiles.EvalsFile))
		if err != nil {
			return Plan{}, fmt.Errorf("plan: %w", err)
		}
	}

	p.Document = Document{
		Version: Version, Project: stacks.Project, Stack: stack,
		Target: p.Settings.Target, Plugins: plugins(resources),
		Model: &Model{
			Name: model.Name, Modelfile: model.Modelfile, Base: model.Base, Digest: model.Digest,
			Evals: model.Evals, Text: string(text), EvalsText: string(evals),
		},
		Docker: p.Rendered.Docker, Resources: resources,
	}

	chosen, err := chosenTarget(root, stack)
	p.Document.Chosen = err == nil && chosen == p.Settings.Target
	return p, nil
}

// plugins returns the versions of the provider plugins that the resources ask for, by package.
func plugins(resources []Resource) map[string]string {
	out := map[string]string{}
	for _, r := range resources {
		if pkg, _, _ := strings.Cut(r.Type, ":"); !r.Component && r.Options.Version != "" {
			out[pkg] = r.Options.Version
		}
	}
	return out
}

// Documents plans the named stacks of the project at root for every target, in the order of
// their names; without names, every stack that has a file. A plan that is refused is a
// document that says so.
func Documents(ctx context.Context, root string, names []string, key []byte) ([]Document, error) {
	if len(names) == 0 {
		var err error
		if names, err = program.Stacks(root); err != nil {
			return nil, err
		}
	}

	var out []Document
	for _, name := range names {
		chosen, err := chosenTarget(root, name)
		if err != nil {
			// Settings that cannot even be read say nothing about a target.
			chosen = Targets[0]
		}

		for _, target := range Targets {
			var p Plan
			failed := err
			if failed == nil {
				p, failed = Of(ctx, root, name, OfOptions{Target: target, Key: key})
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}

			if failed != nil {
				p.Document = Document{
					Version: Version,
					Project: stacks.Project,
					Stack:   name,
					Target:  target,
					Refused: refusal(failed, root),
				}
			}

			p.Document.Chosen = target == chosen
			out = append(out, p.Document)
		}
	}

	return out, nil
}

// refusal returns the text of the error, which is the same on every machine.
func refusal(err error, root string) string {
	text := strings.ReplaceAll(err.Error(), root+string(filepath.Separator), "")
	return strings.ReplaceAll(text, root, Root)
}

// chosenTarget returns the target that the stack's settings name, whatever else is wrong with them.
func chosenTarget(root, stack string) (stacks.Target, error) {
	config, err := program.ReadConfig(root, stack)
	if err != nil {
		return "", err
	}

	plain := map[string]string{}
	if v, ok := config.Plain[stacks.Project+":target"]; ok {
		plain["target"] = v
	}

	settings, err := stacks.DecodeSettings(plain, nil)
	if err != nil {
		return "", fmt.Errorf("stack %q: %w", stack, err)
	}

	return settings.Target, nil
}
