package docker

import (
	"errors"
	"fmt"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// refuseStack reports what of the stack itself one Docker engine cannot express.
func refuseStack(s stacks.Stack) error {
	var errs []error
	add := func(path, why string) {
		errs = append(errs, fmt.Errorf("%s: the docker target cannot express it: %s", path, why))
	}
	if s.Registry != "" {
		add("registry",
			"images run on the engine that builds them; remove the key, or set the target kubernetes")
	}

	if s.Route != nil {
		add("route.host",
			"an engine has no gateway; remove edge.host and set edge.address and edge.port")
	}

	for _, x := range s.Secrets {
		if x.Existing != nil || x.External != nil {
			add("secrets."+x.Name, "an engine keeps no secrets; set its value with `pulumi config set "+
				"--secret --path "+stacks.Project+":"+x.ConfigKey+"`")
		}
	}

	for _, v := range s.Volumes {
		if v.Class != "" {
			add("volumes."+v.Name+".class", "an engine has no storage classes; remove the key")
		}
		if v.Shared {
			add("volumes."+v.Name+".shared", "one engine runs one Ollama; remove the key")
		}
	}

	return errors.Join(errs...)
}

// minCPU is the kernel's least quota, a millisecond in each period.
const minCPU stacks.MilliCPU = 10

// refuseService reports what of a service one Docker engine cannot express or does not accept, each
// with the field below the service.
func refuseService(s stacks.Stack, svc stacks.Service) []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	add := func(path, why string) {
		wrong("%s: the docker target cannot express it: %s", path, why)
	}
	if svc.Autoscale != nil {
		add("autoscale", "an engine does not watch the load; set replicas")
	}

	if g := svc.GPU; g != nil {
		if g.Resource != "" {
			add("gpu.resource", "name the devices by UUID, slices (MIG-...) among them")
		}
		if g.RuntimeClass != "" {
			add("gpu.runtimeClass", "the engine's runtime is nvidia; remove the key")
		}
		if len(g.NodeSelector) > 0 {
			add("gpu.nodeSelector", "an engine has one node; remove the key")
		}
		if len(g.Tolerations) > 0 {
			add("gpu.tolerations", "an engine has no taints; remove the key")
		}
	}

	if b := svc.Resources.Memory; b <= 0 || b%stacks.MiB != 0 {
		wrong("resources.memory: %d bytes is not a whole number of MiB, the unit of the docker provider",
			b)
	}

	if svc.Resources.CPU < minCPU {
		wrong("resources.cpu: %dm is less than the kernel can limit to: use %dm or more",
			svc.Resources.CPU, minCPU)
	}

	for _, m := range svc.Mounts {
		if m.Kind != stacks.MountVolume {
			continue
		}

		v, ok := s.Volume(m.Source)
		switch {
		case !ok:
			wrong("mounts.%s: there is no volume %q", m.Target, m.Source)
		case v.PerReplica && svc.Replicas > 1:
			add("replicas",
				fmt.Sprintf("%d containers would share the volume %s, of which each needs its own; set 1",
					svc.Replicas, m.Source))
		}
	}

	if len(svc.Health.Command) == 0 {
		wrong("health.command: is empty: what depends on the service waits for its health check")
	}

	for _, name := range svc.Networks {
		if !slices.ContainsFunc(s.Networks, func(n stacks.Network) bool { return n.Name == name }) {
			wrong("networks: there is no network %q", name)
		}
	}

	wayIn := slices.ContainsFunc(s.Networks, func(n stacks.Network) bool {
		return !n.Internal && slices.Contains(svc.Networks, n.Name)
	})
	if ports := published(svc.Ports); len(ports) > 0 {
		if svc.Replicas > 1 {
			wrong("replicas: %d containers cannot share the host port %s: publish none, or run one",
				svc.Replicas, ports[0].Published)
		}

		if !wayIn {
			wrong("ports: the host port %s cannot be published: the service is on internal "+
				"networks only, which nothing outside reaches",
				ports[0].Published)
		}
	}

	_, wayOut := s.WayOut(svc)
	for _, o := range svc.Outside {
		if !wayOut {
			add("outside",
				fmt.Sprintf("no network of the service has a way out, and it cannot reach %s", o))
		}
	}

	return errs
}
