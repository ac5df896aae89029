// Package kubernetes runs a stacks.Stack in a namespace of a cluster. Render makes its objects,
// which are types of k8s.io/api, and asks nobody; Provision registers these with Pulumi
// (register.go). One file holds one idea: namespace, quota, network (policies), resolver, account,
// service, workload, pod, container, probe, file, volume, model (the Job), edge (the route), autoscale,
// disruption, gpu, image, refuse.
//
// Three rules run through it. Names inside the namespace are the stack's own (Service `backend`,
// StatefulSet `redis`), so the environment contract is the same as on Docker; what is immutable
// (files, the model's Job) has a hash in its name, so a preview shows a replacement. Whatever a
// cluster cannot express is an error, with all others, before anything is registered. Secrets are
// in no object: they go from the config to the API server as Pulumi secrets.
package kubernetes

import (
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Options say where the stack goes.
type Options struct {
	// Root is the absolute path of the project's root: what build contexts and the
	// Modelfiles are relative to.
	Root string

	// Context is the kubeconfig's context; empty is its current one.
	Context string

	// Namespace is made by the stack; empty is Namespace(stack).
	Namespace string

	// Domain is what the names of the cluster's Services end in; empty is cluster.local.
	Domain string

	// Pods are the settings of the pods of each service, and of stacks.ModelJob.
	Pods map[string]stacks.PodSettings

	// PullSecrets are Secrets of the namespace by which the nodes pull images.
	PullSecrets []string
}

// Namespace returns the namespace of a stack whose settings name none.
func Namespace(stack string) string { return stacks.Project + "-" + stack }

// Rendering is a stack as objects of a cluster.
type Rendering struct {
	// Objects are in the order in which they are made.
	Objects []*Object

	stack stacks.Stack
	opts  Options

	// plans are the services in start order.
	plans []plan
	model *modelPlan // nil for a stack without a service that needs a model

	// parts are what those that depend on a service are made after, and removed before: its
	// workload and its Service.
	parts map[string][]*Object
	job   *Object // makes the model
}

// renderer is one run of Render.
type renderer struct {
	*Rendering
	files *modelFiles // nil for a stack without mounts of them

	// fences are what has to be in force before the first pod.
	fences []*Object
}

// Render renders the stack. It reports every part of it that a cluster cannot express.
func Render(stack stacks.Stack, opts Options) (*Rendering, error) {
	if opts.Namespace == "" {
		opts.Namespace = Namespace(stack.Name)
	}
	if opts.Domain == "" {
		opts.Domain = defaultDomain
	}

	r := &renderer{Rendering: &Rendering{stack: stack, opts: opts, parts: map[string][]*Object{}}}
	if err := r.plan(); err != nil {
		return nil, err
	}

	r.addNamespace()
	r.addQuota()
	r.addDefaultDeny()
	r.addSharedVolumes()
	if err := r.addModelFiles(); err != nil {
		return nil, err
	}

	for _, p := range r.plans {
		if r.model != nil && r.model.blocks(p.Name) {
			if err := r.addJob(); err != nil {
				return nil, fmt.Errorf("model: %w", err)
			}
		}

		if err := r.addService(p); err != nil {
			return nil, fmt.Errorf("services.%s: %w", p.Name, err)
		}
	}

	if r.model != nil && r.job == nil {
		if err := r.addJob(); err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
	}

	return r.Rendering, nil
}

// plan plans every service, in start order. All problems are reported at once.
func (r *renderer) plan() error {
	ordered, err := r.stack.StartOrder()
	if err != nil {
		return err
	}

	errs := []error{refuseStack(r.stack, r.opts)}
	for _, svc := range ordered {
		p, err := planService(r.stack, svc, r.opts)
		errs = append(errs, err)
		r.plans = append(r.plans, p)
	}

	if errors.Join(errs...) == nil {
		r.model, r.files, err = planModel(r.stack, r.plans, r.opts.Root)
		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// Outputs are what a stack on a cluster tells about itself.
type Outputs struct {
	// URL is where people go: the route's, or the load balancer's. Neither is set when the edge is
	// reached by forwarding a port, which Forward says how to do.
	URL     pulumi.StringInput
	Forward string

	// Images are the image references, by service.
	Images pulumi.StringMap

	// Namespace and Context are where the stack is.
	Namespace pulumi.StringInput
	Context   string
}
