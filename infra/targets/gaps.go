package targets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Gap is what a stack says of a service and its target does not hold: the target lets more through.
type Gap struct {
	// Field is the entry of Capabilities, Path where the stack says it: services.web.calls.
	Field, Service, Path string
	// Lets is what is let through.
	Lets string
}

// Gaps are those of the stack on the target, in the order of its services. Whoever reviews a stack should see them: what is
// only said there holds nobody back.
func Gaps(s stacks.Stack, on stacks.Target) []Gap {
	find := dockerGaps
	if on == stacks.Kubernetes {
		find = kubernetesGaps
	}
	var out []Gap
	for _, svc := range s.Services {
		for _, g := range find(s, svc) {
			g.Service, g.Path = svc.Name, "services."+svc.Name+"."+g.Path
			out = append(out, g)
		}
	}
	return out
}

// dockerGaps: an engine isolates networks from each other, and lets all out of those that are not internal.
func dockerGaps(s stacks.Stack, svc stacks.Service) []Gap {
	var out []Gap
	var more []string
	for _, other := range s.Services {
		near := slices.ContainsFunc(other.Networks, func(n string) bool { return slices.Contains(svc.Networks, n) })
		if near && other.Name != svc.Name && len(other.Ports) > 0 && !slices.Contains(svc.Calls, other.Name) {
			more = append(more, other.Name)
		}
	}
	if len(more) > 0 {
		out = append(out, Gap{Field: "Service.Calls", Path: "calls", Lets: fmt.Sprintf("reaches %s too, on the same network", strings.Join(more, ", "))})
	}
	if n, ok := s.WayOut(svc); ok {
		out = append(out, Gap{Field: "Outside.Port", Path: "outside", Lets: fmt.Sprintf("reaches every host and port, as %s is not internal", n.Name)})
	}
	return out
}

// kubernetesGaps: network policies know addresses and no names, and pods no noexec.
func kubernetesGaps(_ stacks.Stack, svc stacks.Service) []Gap {
	var out []Gap
	for _, o := range svc.Outside {
		if _, err := netip.ParseAddr(o.Host); err != nil && o.Host != "" {
			out = append(out, Gap{Field: "Outside.Host", Path: "outside", Lets: fmt.Sprintf("reaches port %d of every host, as policies know no names like %s", o.Port, o.Host)})
		}
	}
	for _, m := range svc.Mounts {
		if m.Kind == stacks.MountTmpfs && !m.Exec && !m.ReadOnly {
			out = append(out, Gap{Field: "Mount.Exec", Path: "mounts." + m.Target, Lets: fmt.Sprintf("can run programs that it writes to %s", m.Target)})
		}
	}
	return out
}
