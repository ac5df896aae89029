package kubernetes

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// defaultDomain is what the names of a cluster's Services end in unless it was made otherwise.
const defaultDomain = "cluster.local"

// ResolverAddress stands in the place of the address of the resolver's Service, which the cluster
// chooses when it makes the Service.
const ResolverAddress = "RESOLVER_ADDRESS"

// dnsPort is the port of name servers.
const dnsPort = 53

// corefile has CoreDNS ask the cluster's name servers, which are those of its own pod, for names of
// the stack's namespace, and no server for any other: that one does not exist, whoever has it.
// Whether the cluster's work is found out by a name of the stack, too.
const corefile = `%[1]s:%[2]d {
	errors
	health :%[3]d
	forward . /etc/resolv.conf {
		health_check 1s domain %[1]s
	}
}

.:%[2]d {
	template ANY ANY {
		rcode NXDOMAIN
	}
}
`

// zone returns what the names of the namespace's Services end in.
func (o Options) zone() string { return o.Namespace + ".svc." + o.Domain }

// writeCorefile tells the resolver what it answers.
func (p *plan) writeCorefile(opts Options) {
	if p.Name == stacks.Resolver {
		p.Files = append(slices.Clone(p.Files), stacks.File{
			Path: stacks.ResolverConfig,
			Content: fmt.Sprintf(corefile, opts.zone(), stacks.ResolverPort,
				p.Ports[0].Container),
		})
	}
}

// asksResolver reports whether the service asks the stack's resolver for names, and not the
// cluster's: it has no way out.
func (r *renderer) asksResolver(svc stacks.Service) bool {
	_, wayOut := r.stack.WayOut(svc)
	return !wayOut && svc.Name != stacks.Resolver && r.stack.Service(stacks.Resolver) != nil
}

// askResolver has the pod ask the resolver alone. Names mean what they mean in any pod of the
// namespace.
func (r *renderer) askResolver(spec *corev1.PodSpec) {
	spec.DNSPolicy = corev1.DNSNone
	spec.DNSConfig = &corev1.PodDNSConfig{
		Nameservers: []string{ResolverAddress},
		Searches:    []string{r.opts.zone(), "svc." + r.opts.Domain, r.opts.Domain},
		Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("5")}},
	}
}

// resolverPorts are those at which the resolver is asked.
func resolverPorts() []networkingv1.NetworkPolicyPort {
	return append(ports(corev1.ProtocolUDP, stacks.ResolverPort),
		ports(corev1.ProtocolTCP, stacks.ResolverPort)...)
}

// toNames reaches whom the service asks for names.
func (r *renderer) toNames(svc stacks.Service) egressRule {
	if r.asksResolver(svc) {
		return egressRule{To: []peer{r.podsOf(stacks.Resolver)}, Ports: resolverPorts()}
	}
	return toDNS()
}

// askers lets in those that ask the resolver.
func (r *renderer) askers() ingressRule {
	rule := ingressRule{Ports: resolverPorts()}
	for _, svc := range r.stack.Services {
		if r.asksResolver(svc) {
			rule.From = append(rule.From, r.podsOf(svc.Name))
		}
	}

	if r.model != nil && r.asksResolver(r.model.asker()) {
		rule.From = append(rule.From, r.podsOf(stacks.ModelJob))
	}
	return rule
}

// servicePort returns the number at which the Service has the port, and reports whether it has it:
// a resolver is asked where name servers are, and for its health by kubelets alone.
func (p plan) servicePort(port stacks.Port, headless bool) (number int, ok bool) {
	switch {
	case p.Name == stacks.Resolver:
		return dnsPort, port.Container == stacks.ResolverPort
	case headless: // it has the pods' own ports
		return port.Container, true
	}
	return cmp.Or(port.Host, port.Container), true
}
