// Package docker runs a stacks.Stack on a Docker engine. It renders the stack to a project
// of docker compose, purely, and provisions what is rendered with pulumi-docker. One file
// holds one idea: render and service make the project, container, file, image and network
// translate it for the provider, component puts a service together, gate waits, engine does
// what the provider cannot.
//
// Three rules run through it. Every argument that Docker would fill in is set explicitly, so that a
// preview right after `up` is clean and drift still shows; ignoreChanges stands only where a
// comment says why. Whatever Docker cannot express is an error. Secrets are Pulumi secrets from the
// config to the engine.
package docker

import (
	"fmt"

	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Outputs are what a stack on Docker tells about itself.
type Outputs struct {
	// URLs of the published ports, by service; a service without one is absent. The
	// edge's is where people go.
	URLs map[string][]string

	// Images are the image references, by service.
	Images map[string]string

	// ImageIDs are the engine's image IDs (sha256:...), by service.
	ImageIDs pulumi.StringMap

	// Containers are the containers' physical names, by service. The program exports them: they are
	// known when all are healthy, and fail the program when one is not.
	Containers pulumi.StringArrayMap
}

// Provision provisions the rendered stack. root is the project's root, as binds name it: an
// absolute path, or what stands for one in a plan. It is no method, so that whoever reads a
// rendering does not compile Pulumi's types.
func Provision(ctx *pulumi.Context, r *Rendering, root string) (Outputs, error) {
	d := &deployment{
		Rendering: r, ctx: ctx, root: root, gate: newGate(ctx, r.stack),
		networks: map[string]pulumi.StringOutput{}, volumes: map[string]pulumi.StringOutput{},
		services: map[string]*service{},
	}

	var err error
	d.secrets, err = secret.Values(ctx, stacks.Project, r.stack.Name, r.stack.SecretKeys(),
		r.stack.CheckSecret)
	if err != nil {
		return Outputs{}, err
	}

	for _, step := range []func() error{d.addHook, d.addNetworks, d.addVolumes} {
		if err := step(); err != nil {
			return Outputs{}, err
		}
	}

	out := Outputs{
		URLs:     map[string][]string{},
		Images:   map[string]string{},
		ImageIDs: pulumi.StringMap{},
	}

	containers := pulumi.StringArrayMap{}
	for _, name := range r.order {
		if err := d.addService(name); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", name, err)
		}
	}

	for _, name := range r.order {
		s := d.services[name]
		if err := d.startService(name, s); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", name, err)
		}

		out.Images[name], out.ImageIDs[name] = r.Project.Services[name].Image, s.image.id
		containers[name] = s.containerNames
		if urls := r.urls(name); len(urls) > 0 {
			out.URLs[name] = urls
		}
	}

	out.Containers = d.gate.pass(containers)
	return out, nil
}

// deployment is one run of Provision.
type deployment struct {
	*Rendering
	ctx  *pulumi.Context
	root string

	secrets           map[string]pulumi.StringOutput // by Secret.Name
	hook              *pulumi.ResourceHook
	gate              *gate
	networks, volumes map[string]pulumi.StringOutput // physical names by name
	services          map[string]*service
}
