package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// cannot returns the error of a field that no object of a cluster can express, and what to do.
func cannot(path, format string, args ...any) error {
	todo := fmt.Sprintf(format, args...)
	return fmt.Errorf("%s: the kubernetes target cannot express it: %s", path, todo)
}

// refusals are the errors of a stack that does not run on a cluster.
type refusals []error

func (r *refusals) cannot(path, format string, args ...any) {
	*r = append(*r, cannot(path, format, args...))
}

func (r *refusals) wrong(format string, args ...any) {
	*r = append(*r, fmt.Errorf(format, args...))
}

var (
	// labelRule is RFC 1123's label, which names of namespaces are.
	labelRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

	// serviceRule is RFC 1035's label, which names of Services are.
	serviceRule = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

	// domainRule is what names of hosts are made of.
	domainRule = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*` +
		`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

	// portRule is RFC 6335's service name, which names of ports are.
	portRule = regexp.MustCompile(`^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
)

// maxPortName is the length of RFC 6335's service names.
const maxPortName = 15

// refuseStack reports what of the stack itself a cluster cannot express.
func refuseStack(s stacks.Stack, opts Options) error {
	var r refusals
	switch ns := opts.Namespace; {
	case !labelRule.MatchString(ns):
		r.wrong("kubernetes.namespace: %q is no DNS label: use at most 63 lower-case letters, "+
			"digits and dashes", ns)
	case ns == "default", strings.HasPrefix(ns, "kube-"):
		r.wrong("kubernetes.namespace: %q is the cluster's own: the stack fences its namespace "+
			"and limits it, so it needs one of its own", ns)
	}

	if !domainRule.MatchString(opts.Domain) {
		r.wrong("kubernetes.domain: %q is no domain: write it like cluster.local", opts.Domain)
	}

	for _, v := range s.Volumes {
		var users []string
		for _, svc := range s.Services {
			if slices.ContainsFunc(svc.Mounts, func(m stacks.Mount) bool {
				return m.Kind == stacks.MountVolume && m.Source == v.Name
			}) {
				users = append(users, svc.Name)
			}
		}

		if len(users) > 1 {
			r.cannot("volumes."+v.Name, "%s mount it, and a claim belongs to one of them: give "+
				"each a volume of its own", strings.Join(users, " and "))
		}
		if v.SingleWriter && v.Shared {
			r.wrong("volumes.%s: it has a single writer, and is shared by replicas that only "+
				"read: set one of the two", v.Name)
		}
		if v.Size <= 0 && len(users) > 0 {
			r.cannot("volumes."+v.Name+".size", "a claim asks for an amount of storage: set it")
		}
	}

	if s.TLS != nil {
		r.cannot("edge.tls", "a gateway or an ingress ends TLS before the edge: set secret, issuer or "+
			"clusterIssuer in the place of acme, certificate and internal")
	}
	if s.Route != nil {
		if e := s.Service(stacks.Edge); e == nil || len(e.Ports) == 0 {
			r.cannot("route", "it leads to the edge, which the stack has not")
		}
	}
	return errors.Join(r...)
}

// refuseService reports what of a service a cluster cannot express, each with the field below the
// service.
func refuseService(s stacks.Stack, svc stacks.Service) []error {
	var r refusals
	if !serviceRule.MatchString(svc.Name) || svc.Name == stacks.ModelJob {
		r.cannot("name", "a Service's name begins with a letter, and %s is that of the Job which "+
			"makes the model: rename the service", stacks.ModelJob)
	}
	if len(svc.Health.Command) == 0 && svc.Health.LivePath == "" {
		r.wrong("health.command: is empty: what depends on the service waits for its health check")
	}
	for _, c := range slices.Sorted(maps.Keys(svc.Security.KeepCapabilities)) {
		if c != "NET_BIND_SERVICE" {
			r.cannot("security.keepCapabilities."+c, "the namespace holds pods to the Pod Security "+
				"Standard %s, which allows NET_BIND_SERVICE alone; remove it", podSecurity)
		}
	}

	r.ports(svc)
	r.gpu(svc.GPU)
	r.mounts(s, svc)
	for _, f := range svc.Files {
		if !keyRule.MatchString(fileKey(f.Path)) {
			r.cannot("files."+f.Path, "rename the file: "+keyRuleText)
		}
	}

	_, wayOut := s.WayOut(svc)
	for _, o := range svc.Outside {
		if _, err := netip.ParseAddr(o.Host); err != nil && !wayOut {
			r.cannot("outside", "the service is on internal networks only, and %s is no single "+
				"address: name the IP address, or put the service on a network with a way out", o)
		}
	}
	for _, c := range svc.Calls {
		if callee := s.Service(c); callee == nil || len(callee.Ports) == 0 {
			r.cannot("calls", "%q is no service with a port: correct the name", c)
		}
	}
	return r
}

func (r *refusals) ports(svc stacks.Service) {
	for _, port := range svc.Ports {
		at := "ports." + port.Name
		if len(port.Name) > maxPortName || !portRule.MatchString(port.Name) {
			r.cannot(at+".name", "a port's name has at most %d lower-case letters, digits and "+
				"dashes, with a letter among them: rename it", maxPortName)
		}

		address, err := netip.ParseAddr(port.Address)
		switch {
		case port.Host == 0:
		case svc.Name != stacks.Edge:
			r.cannot(at+".host",
				"only the edge is published: publish nothing, and use `kubectl port-forward`")
		case err != nil, !address.IsLoopback() && !address.IsUnspecified():
			r.cannot(at+".address", "a cluster has no address %q of its own: set edge.address to "+
				"127.0.0.1, to be reached by a route or a forwarded port, or to 0.0.0.0 for a "+
				"load balancer", port.Address)
		}
	}
}

func (r *refusals) gpu(g *stacks.GPU) {
	switch {
	case g == nil:
	case len(g.Devices) > 0:
		r.cannot("gpu.devices", "the cluster's device plugin chooses the devices: set gpu.count, "+
			"and gpu.resource or gpu.nodeSelector for their kind")
	case g.Count == stacks.AllGPUs:
		r.cannot("gpu.count", "a pod asks for a number of devices: set it instead of all")
	case g.Count < 1:
		r.wrong("gpu: asks for no device: set count, or leave gpu out")
	}
}

func (r *refusals) mounts(s stacks.Stack, svc stacks.Service) {
	for _, m := range svc.Mounts {
		at := "mounts." + m.Target
		switch m.Kind {
		case stacks.MountVolume:
			v, ok := s.Volume(m.Source)
			switch {
			case !ok:
				r.wrong("%s: there is no volume %q", at, m.Source)
			case svc.Autoscale != nil && !v.Shared, svc.MaxReplicas() > 1 && !v.Shared && !v.PerReplica:
				r.cannot("replicas", "each of %d pods would have a claim %s of its own, and the "+
					"data belong to one: set 1", svc.MaxReplicas(), m.Source)
			}
		case stacks.MountBind:
			r.cannot(at, "pods do not see the checkout: build %q into the image", m.Source)
		case stacks.MountTmpfs, stacks.MountModel:
		default:
			r.cannot(at, "there is no mount of kind %q: use volume or tmpfs", m.Kind)
		}
	}
}
