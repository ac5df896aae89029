// Package project finds the project's folder, the place of its Pulumi state and
// what opens its secrets.
package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Project is a checkout of this repository.
type Project struct {
	// Root is the absolute path of the folder that holds Pulumi.yaml.
	Root string
	file projectFile
}

type projectFile struct {
	Name    string
	Backend struct{ URL string }
}

// Find looks for the project in dir and the folders above it.
func Find(dir string) (Project, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Project{}, fmt.Errorf("project: %w", err)
	}

	for root := abs; ; root = filepath.Dir(root) {
		p := Project{Root: root}
		err := readYAML(filepath.Join(root, "Pulumi.yaml"), &p.file)
		switch {
		case err == nil && p.file.Name == stacks.Project:
			return p, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return Project{}, fmt.Errorf("project: %w", err)
		}

		if root == filepath.Dir(root) {
			return Project{}, fmt.Errorf("project: no Pulumi.yaml of %s in %s or above it: "+
				"change into the checkout, or name it with --cwd",
				stacks.Project, abs)
		}
	}
}

// StackFile is the content of Pulumi.<stack>.yaml.
type StackFile struct {
	// Name is the stack's name, without an organisation or project before it.
	Name string `yaml:"-"`

	// Path is the path of the file.
	Path            string `yaml:"-"`
	SecretsProvider string `yaml:"secretsprovider"`
	EncryptionSalt  string `yaml:"encryptionsalt"`

	// Config is the stack's config over the project's defaults.
	Config program.Config `yaml:"-"`
}

// Stack reads the settings file of a stack. The name may have an organisation and the project
// before it, as in Pulumi.
func (p Project) Stack(name string) (StackFile, error) {
	short := name[strings.LastIndex(name, "/")+1:]
	s := StackFile{Name: short, Path: filepath.Join(p.Root, "Pulumi."+short+".yaml")}
	err := readYAML(s.Path, &s)
	if errors.Is(err, fs.ErrNotExist) {
		known, _ := p.Stacks()
		return StackFile{}, fmt.Errorf("stack %q: there is no %s: the stacks here are %s; to "+
			"make another, write that file",
			name, filepath.Base(s.Path), strings.Join(known, ", "))
	}

	if err == nil {
		s.Config, err = program.ReadConfig(p.Root, short)
	}
	if err != nil {
		return StackFile{}, fmt.Errorf("stack %q: %w", name, err)
	}

	return s, nil
}

// Stacks lists the stacks that have a settings file, sorted.
func (p Project) Stacks() ([]string, error) { return program.Stacks(p.Root) }

func readYAML(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}

	return nil
}
