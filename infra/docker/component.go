package docker

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

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
func (d *deployment) addService(name string) error {
	s := &service{}
	if err := d.ctx.RegisterComponentResource(serviceType, name, s); err != nil {
		return err
	}

	var err error
	if s.image, err = d.addImage(name, s); err != nil {
		return fmt.Errorf("image: %w", err)
	}

	d.services[name] = s
	return nil
}

// startService adds the service's files and containers.
func (d *deployment) startService(name string, s *service) error {
	carrier, live, err := d.addFiles(name, s.image, s)
	if err != nil {
		return err
	}

	args, err := d.containerArgs(name, s.image, carrier)
	if err != nil {
		return err
	}

	svc, stopsFirst := d.stack.Service(name), slices.Contains(d.StopsFirst, name)
	// What depends on a container is made after it and removed before it. That does not wait for
	// health, as the services bear each other's absence: the gate waits once, for all.
	var after []pulumi.Resource
	for _, dep := range svc.DependsOn {
		after = append(after, d.services[dep].containers...)
	}
	if live != nil {
		after = append(after, live)
	}

	if stopsFirst {
		// An image that does not build must not leave the service stopped.
		for _, other := range d.stack.Services {
			after = append(after, d.services[other.Name].image.resource)
		}
	}

	opts := []pulumi.ResourceOption{
		pulumi.Parent(s),
		pulumi.ReplaceOnChanges(replacedBy),
		// The new container is healthy before the old one goes (see gate.go); the provider's own
		// default is the other way round. Two containers cannot hold one host port, though, nor
		// write to a volume that takes one writer.
		pulumi.DeleteBeforeReplace(stopsFirst),
		pulumi.DependsOn(after),
		pulumi.ResourceHooks(&pulumi.ResourceHookBinding{
			AfterCreate: []*pulumi.ResourceHook{d.hook},
			AfterUpdate: []*pulumi.ResourceHook{d.hook},
		}),
	}

	c := d.Project.Services[name]
	for i := range c.GetScale() {
		made, err := docker.NewContainer(d.ctx, d.ContainerName(name, i), args, opts...)
		if err != nil {
			return err
		}
		s.containers = append(s.containers, made)
		s.containerNames = append(s.containerNames, made.Name)
		d.gate.add(*svc, made, stopsFirst)
	}

	return d.ctx.RegisterResourceOutputs(s, pulumi.Map{
		"urls":       pulumi.ToStringArray(d.urls(name)),
		"image":      pulumi.String(c.Image),
		"imageId":    s.image.id,
		"containers": s.containerNames,
	})
}

// urls returns where a person on this machine reaches the service's published ports. One that leads
// to HTTPS, or is found by it, is not among them.
func (r *Rendering) urls(service string) []string {
	ports := r.stack.Service(service).Ports
	if t := r.stack.TLS; t != nil && service == stacks.Edge {
		host := cmp.Or(t.Host, reachable(ports[0].Address))
		return []string{stacks.HTTPSURL(host, ports[0].Host)}
	}

	var out []string
	for _, p := range r.Project.Services[service].Ports {
		i := slices.IndexFunc(ports, func(own stacks.Port) bool {
			return strconv.Itoa(own.Host) == p.Published
		})
		scheme := "tcp"
		if name := ports[i].Name; name == "http" || name == "redis" {
			scheme = name
		}

		out = append(out, scheme+"://"+net.JoinHostPort(reachable(p.HostIP), p.Published))
	}

	return out
}

// reachable returns the address that a port is published on, or localhost for every one.
func reachable(address string) string {
	if ip := net.ParseIP(address); ip != nil && ip.IsUnspecified() {
		return "localhost"
	}
	return address
}
