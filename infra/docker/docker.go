// Package docker provisions a stacks.Stack on a Docker engine with pulumi-docker. One file holds one idea: network,
// volume, image, service (the component), container (its arguments), file, gpu, engine (what the provider cannot do).
//
// Three rules run through it. Every argument that Docker would fill in is set explicitly, so that a preview right
// after `up` is clean and drift still shows; ignoreChanges stands only where a comment says why. Whatever Docker
// cannot express is an error. Secrets are Pulumi secrets from the config to the engine.
package docker

import (
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Outputs are what a stack on Docker tells about itself.
type Outputs struct {
	// URLs of the published ports, by service; a service without one is absent. The edge's is where people go.
	URLs map[string][]string
	// Images are the image references, by service.
	Images map[string]string
	// ImageIDs are the engine's image IDs (sha256:...), by service.
	ImageIDs pulumi.StringMap
	// Containers are the containers' physical names, by service. The program exports them: they are known
	// when all are healthy, and fail the program when one is not.
	Containers pulumi.StringArrayMap
}

// Deploy provisions the stack. root is the absolute path of the project's root: what build contexts and binds are
// relative to. It reports every part of the stack that Docker cannot express before it registers anything.
func Deploy(ctx *pulumi.Context, stack stacks.Stack, root string) (Outputs, error) {
	d := &deployment{
		ctx: ctx, stack: stack, root: root,
		networks: map[string]pulumi.StringOutput{}, volumes: map[string]pulumi.StringOutput{},
		services: map[string]*service{},
	}
	d.gate = newGate(d.ctx, stack)
	plans, err := d.plan()
	if err != nil {
		return Outputs{}, err
	}
	if d.secrets, err = secret.Values(ctx, stack); err != nil {
		return Outputs{}, err
	}
	for _, step := range []func() error{d.addHook, d.addNetworks, d.addVolumes} {
		if err := step(); err != nil {
			return Outputs{}, err
		}
	}
	out := Outputs{URLs: map[string][]string{}, Images: map[string]string{}, ImageIDs: pulumi.StringMap{}}
	containers := pulumi.StringArrayMap{}
	for _, p := range plans {
		if err := d.addService(p); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", p.Name, err)
		}
	}
	for _, p := range plans {
		s := d.services[p.Name]
		if err := d.startService(p, s); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", p.Name, err)
		}
		out.Images[p.Name], out.ImageIDs[p.Name], containers[p.Name] = p.image.ref, s.image.id, s.containerNames
		if len(p.urls) > 0 {
			out.URLs[p.Name] = p.urls
		}
	}
	out.Containers = d.gate.pass(containers)
	return out, nil
}

// deployment is one run of Deploy.
type deployment struct {
	ctx   *pulumi.Context
	stack stacks.Stack
	root  string

	secrets           map[string]pulumi.StringOutput // by Secret.Name
	hook              *pulumi.ResourceHook
	gate              *gate
	networks, volumes map[string]pulumi.StringOutput // physical names by name
	services          map[string]*service
}

// plan renders every service's arguments, in start order. All problems are reported at once.
func (d *deployment) plan() ([]plan, error) {
	ordered, err := d.stack.StartOrder()
	if err != nil {
		return nil, err
	}
	var plans []plan
	errs := []error{refuseStack(d.stack)}
	for _, svc := range ordered {
		p, err := planService(d.stack, svc, d.root)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plans = append(plans, p)
	}
	return plans, errors.Join(errs...)
}
