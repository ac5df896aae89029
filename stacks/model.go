package stacks

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/modelfiles"
)

// ModelFile is a file that ml makes the model of.
type ModelFile struct {
	// Source is the file's path relative to the project's root, Path the one below the target of a
	// MountModel.
	Source, Path string

	// Digest is the model's, or that of its evals: it changes when the file says something else,
	// and stays when only a comment does.
	Digest string
}

// MountsModel reports whether a service of the stack mounts the files of the model.
func (s Stack) MountsModel() bool {
	return slices.ContainsFunc(s.Services, func(svc Service) bool {
		return slices.ContainsFunc(svc.Mounts, func(m Mount) bool { return m.Kind == MountModel })
	})
}

// Sources returns the paths of the Modelfile, the files that it names, and the evals, below the
// project's root. The model is one of a loaded stack, so nothing is read.
func (m Model) Sources() []string {
	dir, list := path.Dir(m.Modelfile), []string{m.Modelfile}
	for _, name := range slices.Sorted(maps.Keys(m.Weights)) {
		list = append(list, path.Join(dir, name))
	}
	if m.Evals != "" {
		list = append(list, path.Join(dir, modelfiles.EvalsFile))
	}
	return list
}

// Files returns the model's Modelfile, the files that this names, and the evals that a version has
// to pass. What else lies in the folder is not the stack's.
func (m Model) Files(root fs.FS) ([]ModelFile, error) {
	loaded, err := modelfiles.Load(root, m.Modelfile, m.Base)
	if err != nil {
		return nil, fmt.Errorf("model.modelfile: %w", err)
	}

	dir := path.Dir(m.Modelfile)
	list := []ModelFile{{Source: m.Modelfile, Digest: m.Digest}}
	for _, name := range loaded.Files {
		list = append(list, ModelFile{Source: path.Join(dir, name), Digest: m.Digest})
	}
	if m.Evals != "" {
		evals := path.Join(dir, modelfiles.EvalsFile)
		list = append(list, ModelFile{Source: evals, Digest: m.Evals})
	}

	for i, f := range list {
		inside, ok := strings.CutPrefix(f.Source, modelfilesRoot+"/")
		if !ok {
			return nil, fmt.Errorf("model.modelfile: %q does not lie in %s/, which is what ml can "+
				"read", f.Source, modelfilesRoot)
		}
		list[i].Path = inside
	}

	return list, nil
}
