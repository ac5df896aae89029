package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// Rendering is a stack as an engine runs it: a project of docker compose and, beside it, what
// compose has no word for. It holds no secret's value, and nothing that only provisioning knows.
type Rendering struct {
	// Project is what runs. Its folders are relative to the project's root.
	Project *types.Project `json:"project"`

	// StopsFirst are the services whose container stops before its successor starts.
	StopsFirst []string `json:"stopsFirst,omitempty"`

	// Retained are the volumes that outlive the stack.
	Retained []string `json:"retained,omitempty"`

	// stack has what is in no container: files with their secrets, and how long a start may take.
	stack stacks.Stack

	// order are the services in start order.
	order []string

	// model are the files of the model, its Modelfile first; none if no service mounts them.
	model []stacks.ModelFile
}

// Render renders the stack of the project at root. It reports every part of the stack that Docker
// cannot express.
func Render(root fs.FS, stack stacks.Stack) (*Rendering, error) {
	ordered, err := stack.StartOrder()
	if err != nil {
		return nil, err
	}

	r := &Rendering{stack: stack, Project: &types.Project{
		Name:     stacks.Project + "-" + stack.Name,
		Services: types.Services{}, Networks: types.Networks{}, Volumes: types.Volumes{},
		Configs: types.Configs{}, Secrets: types.Secrets{},
	}}

	for _, n := range stack.Networks {
		// People and tools attach to networks by name.
		r.Project.Networks[n.Name] = types.NetworkConfig{
			Name:       n.Name + "-" + stack.Name,
			Driver:     "bridge",
			DriverOpts: fence(n, stack.Name),
			Internal:   n.Internal,
			Labels:     r.labels(),
		}
	}

	for _, v := range stack.Volumes {
		r.Project.Volumes[v.Name] = types.VolumeConfig{
			Name:   stacks.Project + "-" + v.Name + "-" + stack.Name,
			Driver: "local", Labels: r.labels(),
		}
		r.Retained = append(r.Retained, v.Name)
	}

	errs := []error{refuseStack(stack), r.addModelFiles(root)}
	for _, svc := range ordered {
		r.order = append(r.order, svc.Name)
		if r.stopsFirst(svc) {
			r.StopsFirst = append(r.StopsFirst, svc.Name)
		}

		r.addFiles(svc)
		c, err := r.service(root, svc)
		errs = append(errs, err)
		r.Project.Services[svc.Name] = c
	}

	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	return r, nil
}

// labels returns the labels of everything that the stack owns.
func (r *Rendering) labels() types.Labels {
	return types.Labels{stacks.LabelProject: stacks.Project, stacks.LabelStack: r.stack.Name}
}

// stopsFirst reports whether a container of the service holds what two cannot have at once: a
// published port, or a volume that takes one writer.
func (r *Rendering) stopsFirst(svc stacks.Service) bool {
	return len(published(svc.Ports)) > 0 ||
		slices.ContainsFunc(svc.Mounts, func(m stacks.Mount) bool {
			v, _ := r.stack.Volume(m.Source)
			return m.Kind == stacks.MountVolume && v.SingleWriter
		})
}

// addFiles adds the service's files to the project.
func (r *Rendering) addFiles(svc stacks.Service) {
	for _, f := range svc.Files {
		file := "./" + FilePath(svc.Name, f)
		if f.Secret != "" {
			r.Project.Secrets[fileID(svc.Name, f)] = types.SecretConfig{File: file}
		} else {
			r.Project.Configs[fileID(svc.Name, f)] = types.ConfigObjConfig{File: file}
		}
	}
}

// FilePath returns where the project has a file of the service, relative to compose.yaml.
func FilePath(service string, f stacks.File) string {
	kind := "configs"
	if f.Secret != "" {
		kind = "secrets"
	}
	return path.Join(kind, service, path.Base(f.Path))
}

// fileID returns the project's name of a file of the service.
func fileID(service string, f stacks.File) string {
	base := strings.TrimPrefix(path.Base(f.Path), ".")
	return service + "-" + strings.ReplaceAll(base, ".", "-")
}

// ContainerName returns the name of a replica, counted from 0, of the service. It is that of the
// resource: the engine adds a random suffix, so that a replacement can stand beside its
// predecessor.
func (r *Rendering) ContainerName(service string, replica int) string {
	name := r.Project.Name + "-" + service
	if replica > 0 {
		name += fmt.Sprintf("-%d", replica+1)
	}
	return name
}
