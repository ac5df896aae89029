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
		add("registry", "images run on the engine that builds them; remove the key, or set the target kubernetes")
	}
	if s.Route != nil {
		add("route.host", "an engine has no gateway; remove edge.host and set edge.address and edge.port")
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

// refuseService reports what of a service one Docker engine cannot express, each with the field below the service.
func refuseService(s stacks.Stack, svc stacks.Service) []error {
	var errs []error
	add := func(path, why string) {
		errs = append(errs, fmt.Errorf("%s: the docker target cannot express it: %s", path, why))
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
	for _, m := range svc.Mounts {
		i := slices.IndexFunc(s.Volumes, func(v stacks.Volume) bool { return m.Kind == stacks.MountVolume && v.Name == m.Source })
		if i >= 0 && s.Volumes[i].PerReplica && svc.Replicas > 1 {
			add("replicas", fmt.Sprintf("%d containers would share the volume %s, of which each needs its own; set 1", svc.Replicas, m.Source))
		}
	}
	internal := !slices.ContainsFunc(s.Networks, func(n stacks.Network) bool { return !n.Internal && slices.Contains(svc.Networks, n.Name) })
	for _, o := range svc.Outside {
		if internal {
			add("outside", fmt.Sprintf("the service is on internal networks only, and cannot reach %s port %d (%s)", orAny(o.Host), o.Port, o.Reason))
		}
	}
	return errs
}

func orAny(host string) string {
	if host == "" {
		return "any host,"
	}
	return host
}
