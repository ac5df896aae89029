package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// plan is a service with everything about it that is known before anything is provisioned.
type plan struct {
	stacks.Service
	image imagePlan
	env   map[string]string
	// kind is that of the workload.
	kind string
	// most is the greatest number of replicas.
	most int
}

// planService reports every part of the service that a cluster cannot express.
func planService(stack stacks.Stack, svc stacks.Service, root string) (plan, error) {
	if c, ok := svc.Contract.(contract.ML); ok {
		c.ApplyModel = false // the Job does (model.go)
		svc.Contract = c
	}
	p := plan{Service: svc, kind: kindDeployment, most: most(svc)}
	p.Files = sortedFiles(svc.Files)
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
	p.image, err = planImage(stack, svc.Image, root)
	collect(err)
	p.env, err = svc.Environment(nil)
	collect(err)
	collect(p.moveHome(stack))
	return p, errors.Join(errs...)
}

// moveHome gives a service that cannot write to its home, as that lies on a shared volume, a home on its first tmpfs.
// Ollama keeps a key of its own there.
func (p *plan) moveHome(stack stacks.Stack) error {
	v, shared := sharedVolume(stack, p.Service)
	if !shared {
		return nil
	}
	i := slices.IndexFunc(p.Mounts, func(m stacks.Mount) bool { return m.Kind == stacks.MountVolume && m.Source == v.Name })
	if home := p.env["HOME"]; home != p.Mounts[i].Target && !strings.HasPrefix(home, p.Mounts[i].Target+"/") {
		return nil
	}
	i = slices.IndexFunc(p.Mounts, func(m stacks.Mount) bool { return m.Kind == stacks.MountTmpfs && !m.ReadOnly })
	if i < 0 {
		return cannot("env.HOME", fmt.Sprintf("it lies on the volume %s, which is shared and read-only: give the service a tmpfs", v.Name))
	}
	p.env = maps.Clone(p.env)
	p.env["HOME"] = p.Mounts[i].Target
	return nil
}

// most is the greatest number of the service's replicas.
func most(svc stacks.Service) int {
	if svc.Autoscale != nil {
		return svc.Autoscale.Max
	}
	return svc.Replicas
}

// service is the component of one service: everything that runs it.
type service struct {
	pulumi.ResourceState

	image pulumi.StringOutput
	// object is the Service, nil for a service without ports.
	object *corev1.Service
	// workload makes the pods.
	workload pulumi.Resource
	// parts are what those that depend on the service are made after, and removed before.
	parts []pulumi.Resource
}

// serviceType is the component's type token.
const serviceType = "codexcontinue:kubernetes:Service"

// addService adds the service's component and its image.
func (d *deployment) addService(p plan) error {
	s := &service{}
	if err := d.ctx.RegisterComponentResource(serviceType, p.Name, s); err != nil {
		return err
	}
	var err error
	if s.image, err = d.addImage(p.Name, p.image, s); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	d.services[p.Name] = s
	return nil
}

// startService adds what runs the service, after what it depends on.
func (d *deployment) startService(p plan, s *service) error {
	labels := workloadLabels(d.stack, p.Name)
	account, err := d.addAccount(p.Name, labels, s)
	if err != nil {
		return err
	}
	policy, err := d.addServicePolicy(p.Service, s)
	if err != nil {
		return err
	}
	mounted := volumes{}
	d.mountVolumes(p, &mounted, false)
	if err := d.addFiles(p, &mounted, s); err != nil {
		return err
	}
	after := append(slices.Clone(d.fences), account, policy)
	// A name is there before the pods that ask for it: name servers remember for a while that one was not. A load balancer's
	// address is waited for, which not every cluster gives before there are pods behind it.
	balanced := loadBalanced(p.Service)
	if !balanced && len(p.Ports) > 0 {
		if s.object, err = d.addServiceObject(p, s, nil); err != nil {
			return err
		}
		after = append(after, s.object)
	}
	s.workload, err = d.addWorkload(p, d.podTemplate(p, s.image, mounted), mounted.templates, s, append(after, d.earlier(p)...))
	if err != nil {
		return err
	}
	s.parts = append(s.parts, s.workload)
	if balanced {
		if s.object, err = d.addServiceObject(p, s, []pulumi.Resource{s.workload}); err != nil {
			return err
		}
	}
	if s.object != nil {
		s.parts = append(s.parts, s.object)
	}
	if err := d.addAutoscaler(p, s, s.workload); err != nil {
		return err
	}
	if err := d.addDisruptionBudget(p, s); err != nil {
		return err
	}
	if p.Name == stacks.Edge {
		if err := d.addRoute(p, s); err != nil {
			return fmt.Errorf("route: %w", err)
		}
	}
	return d.ctx.RegisterResourceOutputs(s, pulumi.Map{
		"image": s.image, "workload": pulumi.String(p.kind + "/" + p.Name), "namespace": d.namespace,
	})
}

// earlier is what is made before the service, and removed after it: the services it depends on. Their pods need not be ready,
// since services bear each other's absence. Replicas that share the model start when the Job has filled their volume.
func (d *deployment) earlier(p plan) []pulumi.Resource {
	var out []pulumi.Resource
	for _, name := range p.DependsOn {
		out = append(out, d.services[name].parts...)
	}
	if d.job != nil && d.model.before(p.Name) {
		out = append(out, d.job)
	}
	return out
}

// loadBalanced says that the service is published to the network: on a cluster, by a load balancer.
func loadBalanced(svc stacks.Service) bool {
	if len(svc.Ports) == 0 || svc.Ports[0].Host == 0 {
		return false
	}
	a, err := netip.ParseAddr(svc.Ports[0].Address)
	return err == nil && a.IsUnspecified()
}

// spreads says that the service's clients choose among its replicas by themselves, as ml does among those of Ollama: its
// volumes allow for more than one.
func (d *deployment) spreads(p plan) bool {
	return slices.ContainsFunc(p.Mounts, func(m stacks.Mount) bool {
		v, ok := volumeOf(d.stack, m.Source)
		return ok && m.Kind == stacks.MountVolume && (v.PerReplica || v.Shared)
	})
}

// addServiceObject makes the Service: a stable address in front of the pods. Where clients spread over the replicas it is
// headless, so that its name resolves to each that is ready. Where they do not it never is, not even for the one pod of a
// StatefulSet: its name would resolve to nothing while that pod is replaced, which the cluster's DNS then remembers for up
// to 30 seconds.
func (d *deployment) addServiceObject(p plan, parent pulumi.Resource, after []pulumi.Resource) (*corev1.Service, error) {
	spec := corev1.ServiceSpecArgs{Type: pulumi.String("ClusterIP"), Selector: pulumi.ToStringMap(selector(d.stack, p.Name))}
	annotations := map[string]string{}
	switch {
	case loadBalanced(p.Service):
		spec.Type = pulumi.String("LoadBalancer")
		// Its address is an output. Left to itself, Pulumi also watches the pods behind it, for ten seconds at least.
		annotations[annotationWaitFor] = waitForAddress
	case d.spreads(p):
		spec.ClusterIP = pulumi.String("None")
		spec.PublishNotReadyAddresses = pulumi.Bool(false)
		fallthrough
	default:
		annotations[annotationSkipAwait] = "true" // the workload is what is waited for
	}
	var list corev1.ServicePortArray
	for _, port := range p.Ports {
		number := port.Container
		if port.Host != 0 && !d.spreads(p) { // a headless Service has the pods' own ports
			number = port.Host
		}
		arg := corev1.ServicePortArgs{Name: pulumi.String(port.Name), Port: pulumi.Int(number), TargetPort: pulumi.String(port.Name), Protocol: pulumi.String("TCP")}
		if port.Name == "http" {
			arg.AppProtocol = pulumi.String("http")
		}
		list = append(list, arg)
	}
	spec.Ports = list
	return corev1.NewService(d.ctx, p.Name, &corev1.ServiceArgs{
		Metadata: d.meta(p.Name, workloadLabels(d.stack, p.Name), annotations), Spec: spec,
	}, pulumi.Parent(parent), pulumi.Provider(d.cluster), pulumi.DependsOn(after), pulumi.Timeouts(p.timeouts()))
}
