package export

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
	"gopkg.in/yaml.v3"
)

// ComposeFile is the name of the compose file in an export.
const ComposeFile = "compose.yaml"

// Compose exports a stack rendered for the target docker as a project of docker compose 2.24 or
// later: compose.yaml, the files that containers mount, and secrets.sh, which makes those that hold
// secrets. What compose cannot do stands at the top of the file: a replica is not created and
// healthy before the one it replaces goes.
func Compose(s Source) ([]File, error) {
	if err := s.refuse(); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}

	out, err := s.project()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return out, nil
}

func (s Source) project() ([]File, error) {
	var mounted []File
	var secrets []secretFile
	for _, svc := range s.Stack.Services {
		for _, f := range svc.Files {
			path := docker.FilePath(svc.Name, f)
			if f.Secret == "" {
				mounted = append(mounted, File{Path: path, Mode: 0o644, Text: f.Content})
			} else {
				secrets = append(secrets, secretFile{path, f.Secret, printf(f)})
			}
		}
	}

	text := newText(s.Stack, secrets)

	head, err := write("compose.yaml", text)
	if err != nil {
		return nil, err
	}

	body, err := s.compose()
	if err != nil {
		return nil, err
	}

	out := []File{{Path: ComposeFile, Mode: 0o644, Text: head + body}}
	if len(text.Secrets) > 0 {
		script, err := write("compose.sh", text)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: secretsScriptName, Mode: 0o755, Text: script})
	}

	return append(out, mounted...), nil
}

// compose returns the project with its folders named from the export's.
func (s Source) compose() (string, error) {
	project := *s.Docker.Project
	project.Services = maps.Clone(project.Services)
	for name, svc := range project.Services {
		var err error
		if svc.Build != nil {
			build := *svc.Build
			if build.Context, err = s.fromRoot(build.Context); err != nil {
				return "", fmt.Errorf("services.%s: %w", name, err)
			}
			svc.Build = &build
		}

		svc.Volumes = slices.Clone(svc.Volumes)
		for i := range svc.Volumes {
			m := &svc.Volumes[i]
			if m.Type != types.VolumeTypeBind || path.IsAbs(m.Source) {
				continue
			}
			if m.Source, err = s.fromRoot(m.Source); err != nil {
				return "", fmt.Errorf("services.%s: %w", name, err)
			}
		}

		project.Services[name] = svc
	}

	// The files of the model stay in the checkout, as what images are built from does.
	project.Configs = maps.Clone(project.Configs)
	for name, c := range project.Configs {
		if !docker.IsModelFile(name) {
			continue
		}

		var err error
		if c.File, err = s.fromRoot(c.File); err != nil {
			return "", fmt.Errorf("configs.%s: %w", name, err)
		}
		project.Configs[name] = c
	}

	text, err := project.MarshalYAML()
	if err != nil {
		return "", err
	}

	return readable(text, s.Stack)
}

// readable writes the file as people read it: services in the order of the stack's description, and
// short lists in one line. Compose replaces variables in every value, so a dollar sign is doubled.
func readable(text []byte, stack stacks.Stack) (string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return "", err
	}

	var edit func(n *yaml.Node)
	edit = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			n.Value = strings.ReplaceAll(n.Value, "$", "$$")
		}

		nested := slices.ContainsFunc(n.Content, func(e *yaml.Node) bool {
			return e.Kind != yaml.ScalarNode
		})
		if n.Kind == yaml.SequenceNode && !nested {
			n.Style = yaml.FlowStyle
		}

		for _, c := range n.Content {
			edit(c)
		}
	}

	edit(&doc)
	top := doc.Content[0].Content
	for i := 0; i < len(top); i += 2 {
		if top[i].Value == "services" {
			top[i+1].Content = inOrder(top[i+1].Content, stack)
		}
	}

	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return "", err
	}

	return out.String(), nil
}

// inOrder returns the entries of the mapping of services, keys and values by turns.
func inOrder(entries []*yaml.Node, stack stacks.Stack) []*yaml.Node {
	var out []*yaml.Node
	for _, svc := range stack.Services {
		for i := 0; i < len(entries); i += 2 {
			if entries[i].Value == svc.Name {
				out = append(out, entries[i], entries[i+1])
			}
		}
	}

	return out
}
