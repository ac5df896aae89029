// Package targets names what a stack asks for and its target does not enforce. Its tests hold each
// target to the table of docs/targets.md: what becomes of each field of a stack.
package targets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Gap is what a stack says of a service and its target does not enforce: the target lets more
// through.
type Gap struct {
	// Field is Type.Field of package stacks, Path where the stack says it: services.web.calls.
	Field, Service, Path string
	// Lets is what is let through.
	Lets string
}

// Gaps returns those of the stack on the target, in the order of its services. Whoever reviews a
// stack should see them: what is only said there holds nobody back.
func Gaps(s stacks.Stack, on stacks.Target) []Gap {
	var out []Gap
	for _, svc := range s.Services {
		add := func(field, path, format string, args ...any) {
			out = append(out, Gap{
				Field: field, Service: svc.Name, Path: "services." + svc.Name + "." + path,
				Lets: fmt.Sprintf(format, args...),
			})
		}
		if on == stacks.Kubernetes {
			addKubernetes(svc, add)
		} else {
			addDocker(s, svc, add)
		}
	}

	return out
}

// addDocker adds those of an engine, which isolates networks from each other, and lets all out of
// those that are not internal.
func addDocker(
	s stacks.Stack, svc stacks.Service, add func(field, path, format string, args ...any),
) {
	var more []string
	for _, other := range s.Services {
		near := slices.ContainsFunc(other.Networks, func(n string) bool {
			return slices.Contains(svc.Networks, n)
		})
		called := other.Name == svc.Name || slices.Contains(svc.Calls, other.Name)
		if near && !called && len(other.Ports) > 0 {
			more = append(more, other.Name)
		}
	}

	if len(more) > 0 {
		add("Service.Calls", "calls", "reaches %s too, on the same network",
			strings.Join(more, ", "))
	}

	if n, ok := s.WayOut(svc); ok {
		add("Outside.Port", "outside", "reaches every host and port, as %s is not internal", n.Name)
	}
}

// addKubernetes adds those of a cluster, whose network policies have addresses and no names, and
// whose pods have no noexec.
func addKubernetes(svc stacks.Service, add func(field, path, format string, args ...any)) {
	for _, o := range svc.Outside {
		if _, err := netip.ParseAddr(o.Host); err != nil && o.Host != "" {
			add("Outside.Host", "outside",
				"reaches port %d of every host, as policies know no names like %s", o.Port, o.Host)
		}
	}

	for _, m := range svc.Mounts {
		if m.Kind == stacks.MountTmpfs && !m.Exec && !m.ReadOnly {
			add("Mount.Exec", "mounts."+m.Target, "can run programs that it writes to %s", m.Target)
		}
	}
}
