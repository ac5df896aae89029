package docker

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// plan is a service with everything about it that is known before anything is provisioned.
type plan struct {
	stacks.Service
	image        imagePlan
	env          []string
	gpu          gpuPlan
	memoryMiB    int
	mounts       []stacks.Mount
	tmpfs        map[string]string
	capabilities []string
	published    []stacks.Port
	urls         []string
}

// planService reports every part of the service that Docker cannot express.
func planService(stack stacks.Stack, svc stacks.Service, root string) (plan, error) {
	p := plan{Service: svc, capabilities: capabilities(svc.Security.KeepCapabilities), published: publishedPorts(svc.Ports)}
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
	var err error
	p.image, err = planImage(svc.Image, root)
	collect(err)
	p.gpu, err = planGPU(svc.GPU)
	collect(err)
	p.env, err = environment(svc, p.gpu)
	collect(err)
	p.memoryMiB, err = memoryMiB(svc.Resources.Memory)
	collect(err)
	if svc.Resources.CPU < minCPU {
		collect(fmt.Errorf("resources.cpu: %dm is less than the kernel can limit to: use %dm or more", svc.Resources.CPU, minCPU))
	}
	p.mounts, p.tmpfs, err = planMounts(svc.Mounts, root)
	collect(err)
	if len(svc.Health.Command) == 0 {
		collect(errors.New("health.command: is empty: what depends on the service waits for its health check"))
	}
	if len(p.published) > 0 && svc.Replicas > 1 {
		collect(fmt.Errorf("replicas: %d containers cannot share the host port %d: publish none, or run one", svc.Replicas, p.published[0].Host))
	}
	if len(p.published) > 0 && !slices.ContainsFunc(stack.Networks, func(n stacks.Network) bool {
		return !n.Internal && slices.Contains(svc.Networks, n.Name)
	}) {
		collect(fmt.Errorf("ports: the host port %d cannot be published: the service is on internal networks only, which nothing outside reaches", p.published[0].Host))
	}
	for _, n := range svc.Networks {
		if !hasNetwork(stack, n) {
			collect(fmt.Errorf("networks: there is no network %q", n))
		}
	}
	for _, m := range svc.Mounts {
		if m.Kind == stacks.MountVolume && !hasVolume(stack, m.Source) {
			collect(fmt.Errorf("mounts.%s: there is no volume %q", m.Target, m.Source))
		}
	}
	for _, port := range p.published {
		p.urls = append(p.urls, portURL(port))
	}
	return p, errors.Join(errs...)
}

func hasNetwork(stack stacks.Stack, name string) bool {
	return slices.ContainsFunc(stack.Networks, func(n stacks.Network) bool { return n.Name == name })
}

func hasVolume(stack stacks.Stack, name string) bool {
	return slices.ContainsFunc(stack.Volumes, func(v stacks.Volume) bool { return v.Name == name })
}

// stopsFirst reports whether a container of the service is stopped before its successor starts: it holds what two cannot
// have at once, a published port or a volume that takes one writer.
func (p plan) stopsFirst(stack stacks.Stack) bool {
	if len(p.published) > 0 {
		return true
	}

	return slices.ContainsFunc(p.mounts, func(m stacks.Mount) bool {
		v := slices.IndexFunc(stack.Volumes, func(v stacks.Volume) bool { return v.Name == m.Source })
		return m.Kind == stacks.MountVolume && v >= 0 && stack.Volumes[v].SingleWriter
	})
}

func (p plan) user() string { return fmt.Sprintf("%d:%d", p.Security.UID, p.Security.GID) }

// portURL is where a person on this machine reaches a published port.
func portURL(p stacks.Port) string {
	scheme := "tcp"
	if p.Name == "http" || p.Name == "redis" {
		scheme = p.Name
	}
	host := p.Address
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(p.Host))
}

// service is the component of one service: its image, its files and its containers.
type service struct {
	pulumi.ResourceState

	image          madeImage
	containerNames pulumi.StringArray
	containers     []pulumi.Resource
}

// serviceType is the component's type token.
const serviceType = "codexcontinue:docker:Service"

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

// startService adds the service's files and containers.
func (d *deployment) startService(p plan, s *service) error {
	files, err := d.addFiles(p, s.image, s)
	if err != nil {
		return err
	}

	args := d.containerArgs(p, s.image, files)
	after := d.containersOf(p.DependsOn)
	if p.stopsFirst(d.stack) {
		// An image that does not build must not leave the service stopped.
		for _, other := range d.stack.Services {
			after = append(after, d.services[other.Name].image.resource)
		}
	}
	opts := []pulumi.ResourceOption{
		pulumi.Parent(s),
		pulumi.ReplaceOnChanges(replacedBy),
		// The new container is healthy before the old one goes (see gate.go); the provider's own default is the other way
		// round. Two containers cannot hold one host port, though, nor write to a volume that takes one writer.
		pulumi.DeleteBeforeReplace(p.stopsFirst(d.stack)),
		pulumi.DependsOn(after),
		pulumi.ResourceHooks(&pulumi.ResourceHookBinding{
			AfterCreate: []*pulumi.ResourceHook{d.hook},
			AfterUpdate: []*pulumi.ResourceHook{d.hook},
		}),
	}
	for i := range p.Replicas {
		name := d.containerName(p.Name)
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		c, err := docker.NewContainer(d.ctx, name, args, opts...)
		if err != nil {
			return err
		}
		s.containers = append(s.containers, c)
		s.containerNames = append(s.containerNames, c.Name)
		d.gate.add(p.Service, c, p.stopsFirst(d.stack))
	}
	return d.ctx.RegisterResourceOutputs(s, pulumi.Map{
		"urls":       pulumi.ToStringArray(p.urls),
		"image":      pulumi.String(p.image.ref),
		"imageId":    s.image.id,
		"containers": s.containerNames,
	})
}

// containersOf are the containers of the services: what depends on them is made after them and removed before them. It
// does not wait for their health, as the services bear each other's absence: the gate waits once, for all.
func (d *deployment) containersOf(services []string) []pulumi.Resource {
	var out []pulumi.Resource
	for _, name := range services {
		out = append(out, d.services[name].containers...)
	}
	return out
}

// containerName is a container's resource name; the engine adds a random suffix for the physical one, so that a
// replacement can stand beside its predecessor.
func (d *deployment) containerName(service string) string {
	return stacks.Project + "-" + d.stack.Name + "-" + service
}
