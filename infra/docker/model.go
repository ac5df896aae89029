package docker

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// modelFile is a file of the model in a container.
type modelFile struct {
	stacks.ModelFile

	// target is the file's path in the container. dir is the folder of the Modelfile there, which
	// has them all.
	target, dir string
}

// modelFiles returns the files where the service mounts them.
func modelFiles(svc stacks.Service, files []stacks.ModelFile) []modelFile {
	i := slices.IndexFunc(svc.Mounts, func(m stacks.Mount) bool {
		return m.Kind == stacks.MountModel
	})
	if i < 0 {
		return nil
	}

	var out []modelFile
	for _, f := range files {
		out = append(out, modelFile{
			ModelFile: f,
			target:    path.Join(svc.Mounts[i].Target, f.Path),
			// The Modelfile is the first.
			dir: path.Join(svc.Mounts[i].Target, path.Dir(files[0].Path)),
		})
	}
	return out
}

// addModelFiles adds the files of the model to the project, if a service mounts them.
func (r *Rendering) addModelFiles(root fs.FS) error {
	if !r.stack.MountsModel() {
		return nil
	}

	var err error
	r.model, err = r.stack.Model.Files(root)
	for _, f := range r.model {
		r.Project.Configs[modelFileID(f)] = types.ConfigObjConfig{File: "./" + f.Source}
	}
	return err
}

// modelPrefix begins the project's name of each file of the model. No service is called so, and
// the other files begin with the name of theirs.
const modelPrefix = stacks.ModelJob + "-"

// modelFileID returns the project's name of a file of the model.
func modelFileID(f stacks.ModelFile) string {
	return modelPrefix + strings.ReplaceAll(f.Path, "/", ".")
}

// IsModelFile reports whether the project's config of that name is a file of the model: its path is
// one of the checkout.
func IsModelFile(config string) bool { return strings.HasPrefix(config, modelPrefix) }
