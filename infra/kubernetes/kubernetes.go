// Package kubernetes provisions a stacks.Stack in a namespace of a cluster with pulumi-kubernetes. One file holds one
// idea: namespace, quota, network (policies), account, service (the component), workload, pod, container, probe, file,
// volume, model (the Job), edge (the route), autoscale, disruption, gpu, image, refuse.
//
// Three rules run through it. Names inside the namespace are the stack's own (Service `backend`, StatefulSet `redis`), so
// the environment contract is the same as on Docker; what is immutable (files, the model's Job) has a hash in its name, so
// a preview shows a replacement. Whatever a cluster cannot express is an error, with all others, before anything is
// registered. Secrets are Pulumi secrets from the config to the API server.
package kubernetes

import (
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Options say where the stack goes.
type Options struct {
	// Root is the absolute path of the project's root: what build contexts and the Modelfiles are relative to.
	Root string
	// Context is the kubeconfig's context; empty is its current one.
	Context string
	// Namespace is made by the stack; empty is Namespace(stack).
	Namespace string
}

// Namespace is where a stack goes unless it says otherwise.
func Namespace(stack string) string { return stacks.Project + "-" + stack }

// Outputs are what a stack on a cluster tells about itself.
type Outputs struct {
	// URL is where people go: the route's, or the load balancer's. Neither is set when the edge is reached by forwarding a
	// port, which Forward says how to do.
	URL     pulumi.StringInput
	Forward string
	// Images are the image references, by service.
	Images pulumi.StringMap
	// Namespace and Context are where the stack is.
	Namespace pulumi.StringInput
	Context   string
}

// Deploy provisions the stack. It reports every part of the stack that the target cannot express before it registers
// anything.
func Deploy(ctx *pulumi.Context, stack stacks.Stack, opts Options) (Outputs, error) {
	if opts.Namespace == "" {
		opts.Namespace = Namespace(stack.Name)
	}
	d := &deployment{ctx: ctx, stack: stack, opts: opts, services: map[string]*service{}}
	plans, err := d.plan()
	if err != nil {
		return Outputs{}, err
	}
	if d.secrets, err = secret.Values(ctx, stack); err != nil {
		return Outputs{}, err
	}
	for _, step := range []func() error{
		d.addProviders, d.addNamespace,
		func() error { return d.addQuota(plans) },
		d.addDefaultDeny, d.addSharedVolumes, d.addModel,
	} {
		if err := step(); err != nil {
			return Outputs{}, err
		}
	}
	d.waiting = newWaiting(plans, d.model)
	// The model's Job runs the images of services that start after it.
	var names []string
	for _, p := range plans {
		names = append(names, p.Name)
		if err := d.addService(p); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", p.Name, err)
		}
	}
	out := Outputs{Images: pulumi.StringMap{}, Namespace: d.namespace.Elem(), Context: opts.Context}
	for _, p := range plans {
		if d.model != nil && d.model.before(p.Name) {
			if err := d.addJob(); err != nil {
				return Outputs{}, fmt.Errorf("model: %w", err)
			}
		}
		s := d.services[p.Name]
		if err := d.startService(p, s); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: %w", p.Name, err)
		}
		out.Images[p.Name] = s.image
		if p.Name == stacks.Edge && s.object != nil {
			out.URL, out.Forward = d.edgeURL(p, s)
		}
	}
	if d.model != nil && d.job == nil {
		// Pulumi waits for the Job, for hours where it downloads: an Ollama that does not come up is said before.
		if d.model.server != nil {
			if err := d.await(d.model.server.Name); err != nil {
				return Outputs{}, err
			}
		}
		if err := d.addJob(); err != nil {
			return Outputs{}, fmt.Errorf("model: %w", err)
		}
	}
	return out, d.await(names...)
}

// deployment is one run of Deploy.
type deployment struct {
	ctx   *pulumi.Context
	stack stacks.Stack
	opts  Options
	model *modelPlan // nil for a stack without a service that needs a model

	secrets map[string]pulumi.StringOutput // by Secret.Name
	// cluster makes everything but what destroying the stack keeps, which is kept's.
	cluster, kept *kubernetes.Provider
	home          *home
	namespace     pulumi.StringPtrOutput
	// fences are what has to be in force before the first pod.
	fences []pulumi.Resource
	shared map[string]*corev1.PersistentVolumeClaim // by Volume.Name
	files  *modelFiles                              // nil for a stack without mounts of them
	// maker is the component of what makes the model, job what the client waits for.
	maker    *maker
	job      pulumi.Resource
	services map[string]*service
	waiting  *waiting
}

// plan renders every service's arguments, in start order. All problems are reported at once.
func (d *deployment) plan() ([]plan, error) {
	ordered, err := d.stack.StartOrder()
	if err != nil {
		return nil, err
	}
	errs := []error{refuseStack(d.stack, d.opts)}
	var plans []plan
	for _, svc := range ordered {
		p, err := planService(d.stack, svc, d.opts.Root)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plans = append(plans, p)
	}
	if errors.Join(errs...) == nil {
		d.model, d.files, err = planModel(d.stack, plans, d.opts.Root)
		errs = append(errs, err)
	}
	return plans, errors.Join(errs...)
}

// addProviders makes the connections to the cluster of the kubeconfig that kubectl would use.
func (d *deployment) addProviders() error {
	connection := func() *kubernetes.ProviderArgs {
		args := &kubernetes.ProviderArgs{
			EnableServerSideApply: pulumi.Bool(true),
			// Never a new cluster because the kubeconfig or the context's name changed: everything would be replaced, also in
			// the same cluster. A stack moves by `down` and `up`.
			ClusterIdentifier: pulumi.String(stacks.Project + "-" + d.stack.Name),
			// Nothing, which the plugin takes from KUBECONFIG or the home directory as kubectl does. Left out, this machine's
			// KUBECONFIG would be part of the plan and of the state.
			Kubeconfig: pulumi.String("").ToStringOutput().ApplyT(func(string) *string { return nil }).(pulumi.StringPtrOutput),
		}
		if d.opts.Context != "" {
			args.Context = pulumi.String(d.opts.Context)
		}
		return args
	}
	var err error
	if d.cluster, err = kubernetes.NewProvider(d.ctx, "cluster", connection()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	// What destroying a stack keeps is there already when the stack comes back: it is taken over, with the fields that the
	// stack wrote when it was last there. Nothing else is, so that an object of somebody else's is an error.
	kept := connection()
	kept.UpsertExistingObjects, kept.EnablePatchForce = pulumi.Bool(true), pulumi.Bool(true)
	if d.kept, err = kubernetes.NewProvider(d.ctx, "cluster-kept", kept); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}
