package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// plan is a service with everything about it that is known before anything is provisioned.
type plan struct {
	stacks.Service
	// image is the reference of its image; brought is set if a bundle brought it.
	image   string
	brought bool
	env     map[string]string

	// kind is that of the workload.
	kind string
}

// planService reports every part of the service that a cluster cannot express.
func planService(stack stacks.Stack, svc stacks.Service, opts Options) (plan, error) {
	if c, ok := svc.Contract.(*mlenv.Config); ok {
		waiting := *c
		waiting.ApplyModel = false // the Job does (model.go)
		svc.Contract = &waiting
	}

	p := plan{Service: svc, kind: kindDeployment}
	var errs []error
	collect := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("services.%s.%w", svc.Name, err))
		}
	}

	for _, err := range refuseService(stack, svc) {
		collect(err)
	}

	for _, m := range svc.Mounts {
		if m.Kind == stacks.MountVolume {
			p.kind = kindStatefulSet
		}
	}

	var err error
	p.image, p.brought, err = imageOf(stack, svc, opts)
	collect(err)
	p.env, err = svc.Environment(nil)
	collect(err)
	collect(p.moveHome(stack))
	p.writeCorefile(opts)
	return p, errors.Join(errs...)
}

// moveHome gives a service that cannot write to its home, as that lies on a shared volume, a home
// on its first tmpfs. Ollama keeps a key of its own there.
func (p *plan) moveHome(stack stacks.Stack) error {
	v, shared := sharedVolume(stack, p.Service)
	if !shared {
		return nil
	}

	i := slices.IndexFunc(p.Mounts, func(m stacks.Mount) bool {
		return m.Kind == stacks.MountVolume && m.Source == v.Name
	})
	if home := p.env["HOME"]; home != p.Mounts[i].Target &&
		!strings.HasPrefix(home, p.Mounts[i].Target+"/") {
		return nil
	}

	i = slices.IndexFunc(p.Mounts, func(m stacks.Mount) bool {
		return m.Kind == stacks.MountTmpfs && !m.ReadOnly
	})
	if i < 0 {
		return cannot("env.HOME", "it lies on the volume %s, which is shared and read-only: "+
			"give the service a tmpfs", v.Name)
	}

	p.env = maps.Clone(p.env)
	p.env["HOME"] = p.Mounts[i].Target
	return nil
}

// addService adds what runs the service.
func (r *renderer) addService(p plan) error {
	account, policy := r.addAccount(p.Name), r.addServicePolicy(p.Service)
	mounted := volumes{}
	r.mountVolumes(p, &mounted, false)
	if err := r.addFiles(p, &mounted); err != nil {
		return err
	}

	after := append(slices.Clone(r.fences), account, policy)
	// A name is there before the pods that ask for it: name servers remember for a while that one
	// was not. A load balancer's address is waited for, which not every cluster gives before
	// there are pods behind it.
	balanced := loadBalanced(p.Service)
	var object *Object
	if !balanced && len(p.Ports) > 0 {
		object = r.addServiceObject(p, nil)
		after = append(after, object)
	}

	workload := r.addWorkload(p, mounted, append(after, r.earlier(p)...))
	if balanced {
		object = r.addServiceObject(p, []*Object{workload})
	}

	r.parts[p.Name] = []*Object{workload}
	if object != nil {
		r.parts[p.Name] = append(r.parts[p.Name], object)
	}

	r.addAutoscaler(p, workload)
	r.addDisruptionBudget(p)
	if p.Name == stacks.Edge && r.stack.Route != nil {
		r.addRoute(*r.stack.Route, p, object)
	}

	return nil
}

// earlier returns what is made before the service, and removed after it: the services it depends
// on. Their pods need not be ready, since services bear each other's absence. Replicas that share
// the model start when the Job has filled their volume.
func (r *renderer) earlier(p plan) []*Object {
	var out []*Object
	for _, name := range p.DependsOn {
		out = append(out, r.parts[name]...)
	}

	if r.job != nil && r.model.blocks(p.Name) {
		out = append(out, r.job)
	}

	return out
}

// loadBalanced reports whether the service is published to the network: on a
// cluster, by a load balancer.
func loadBalanced(svc stacks.Service) bool {
	if len(svc.Ports) == 0 || svc.Ports[0].Host == 0 {
		return false
	}
	a, err := netip.ParseAddr(svc.Ports[0].Address)
	return err == nil && a.IsUnspecified()
}

// spreads reports whether the service's clients choose among its replicas by themselves, as ml does
// among those of Ollama: its volumes allow for more than one.
func (r *renderer) spreads(p plan) bool {
	return slices.ContainsFunc(p.Mounts, func(m stacks.Mount) bool {
		v, ok := r.stack.Volume(m.Source)
		return ok && m.Kind == stacks.MountVolume && (v.PerReplica || v.Shared)
	})
}

// addServiceObject makes the Service: a stable address in front of the pods. Where clients spread
// over the replicas it is headless, so that its name resolves to each that is ready. Where they do
// not it never is, not even for the one pod of a StatefulSet: its name would resolve to nothing
// while that pod is replaced, which the cluster's DNS then remembers for up to 30 seconds.
func (r *renderer) addServiceObject(p plan, after []*Object) *Object {
	spec := corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Selector: r.selector(p.Name).MatchLabels,
	}
	// the workload is what is waited for
	annotations := map[string]string{annotationSkipAwait: "true"}
	switch {
	case loadBalanced(p.Service):
		spec.Type = corev1.ServiceTypeLoadBalancer
		// Its address is an output. Left to itself, Pulumi also watches the pods behind it, for
		// ten seconds at least.
		annotations = map[string]string{annotationWaitFor: waitForAddress}
	case r.spreads(p):
		spec.ClusterIP = corev1.ClusterIPNone
	}

	for _, port := range p.Ports {
		number, ok := p.servicePort(port, r.spreads(p))
		if !ok {
			continue
		}

		out := corev1.ServicePort{
			Name:       port.Name,
			Port:       int32(number),
			TargetPort: intstr.FromString(port.Name),
			Protocol:   protocol(port),
		}
		if port.Name == "http" {
			out.AppProtocol = new("http")
			if p.EndsTLS() {
				out.AppProtocol = new("https")
			}
		}

		spec.Ports = append(spec.Ports, out)
	}

	meta := r.meta(p.Name, r.labelsOf(p.Name))
	mark(&meta, r.opts.Pods[p.Name])
	return r.add(&Object{
		Resource:    p.Name,
		Component:   p.Name,
		Annotations: annotations,
		After:       after,
		Timeouts:    p.timeouts(),
		API:         &corev1.Service{ObjectMeta: meta, Spec: spec},
	})
}
