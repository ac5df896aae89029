package kubernetes

import (
	"net/netip"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Where a rule says "anywhere" it leaves out link-local addresses: on most clouds they hold the
// machine's credentials. Private addresses are in: a registry or a Redis may well be there, and
// what it may reach is only the one port.
var (
	anywhere  = []string{"0.0.0.0/0", "::/0"}
	linkLocal = map[string][]string{
		"0.0.0.0/0": {"169.254.0.0/16"},
		"::/0":      {"fe80::/10", "fd00:ec2::254/128"},
	}
	nodeDNS  = "169.254.20.10/32" // NodeLocal DNSCache's documented address
	dnsApps  = []string{"kube-dns", "node-local-dns"}
	bothWays = []networkingv1.PolicyType{
		networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress,
	}
	solverPort = 8089 // of cert-manager's pods that answer HTTP-01 challenges
)

// addDefaultDeny closes the namespace both ways. What the stack's services may do
// is in a policy of each.
func (r *renderer) addDefaultDeny() {
	fence := func(name string, pods map[string]string, ingress []ingressRule, egress []egressRule) {
		policy := r.addPolicy(name, "", metav1.LabelSelector{MatchLabels: pods}, ingress, egress)
		r.fences = append(r.fences, policy)
	}

	fence("default-deny", nil, nil, nil)
	if ownGateway(r.stack) {
		// Pods that a gateway's controller runs in this namespace, labelled as the Gateway API says
		// (GEP-1762). Where they are configured from is the controller's, so nothing is known of
		// whom they talk to; the edge is all that takes their connections here.
		fence("gateway", map[string]string{gatewayGroup + "/gateway-name": stacks.Edge},
			[]ingressRule{{}}, []egressRule{{}})
	}

	if t := r.stack.Route; t != nil && t.TLS != nil && t.TLS.Secret == "" {
		// cert-manager proves the host's name with a pod of its own in this namespace.
		fence("certificate", map[string]string{"acme.cert-manager.io/http01-solver": "true"},
			[]ingressRule{{Ports: ports(corev1.ProtocolTCP, solverPort)}}, nil)
	}
}

type (
	ingressRule = networkingv1.NetworkPolicyIngressRule
	egressRule  = networkingv1.NetworkPolicyEgressRule
	peer        = networkingv1.NetworkPolicyPeer
)

// addServicePolicy lets through exactly what the stack says: who calls the service, whom it
// calls, and what it reaches outside. Kubelets reach the pods of their node, for probes,
// whatever the policies.
func (r *renderer) addServicePolicy(svc stacks.Service) *Object {
	var ingress []ingressRule
	if svc.Name == stacks.Resolver {
		ingress = append(ingress, r.askers())
	} else if len(svc.Ports) > 0 {
		rule, open := ingressRule{Ports: listens(svc)}, r.anyoneComes(svc)
		if !open {
			for _, caller := range r.callers(svc.Name) {
				rule.From = append(rule.From, r.podsOf(caller))
			}
		}

		if open || len(rule.From) > 0 {
			ingress = append(ingress, rule)
		}
	}

	egress := []egressRule{r.toNames(svc)}
	for _, callee := range svc.Calls {
		egress = append(egress, r.toService(callee))
	}

	egress = append(egress, outside(svc.Outside)...)
	return r.addPolicy(svc.Name, svc.Name, *r.selector(svc.Name), ingress, egress)
}

// anyoneComes reports whether the service is reached from outside the stack: people, gateways and load
// balancers are anywhere. Where nobody signs in people come by a forwarded port alone, which ends
// inside the edge's pod.
func (r *renderer) anyoneComes(svc stacks.Service) bool {
	return svc.Name == stacks.Edge && r.stack.SignIn() != gateenv.None
}

// callers returns the services, and the Job, that connect to the service, in the stack's order.
func (r *renderer) callers(name string) []string {
	var out []string
	for _, svc := range r.stack.Services {
		if slices.Contains(svc.Calls, name) {
			out = append(out, svc.Name)
		}
	}

	if r.model != nil && r.model.calls(name) {
		out = append(out, stacks.ModelJob)
	}

	return out
}

func (r *renderer) podsOf(name string) peer { return peer{PodSelector: r.selector(name)} }

func (r *renderer) toService(name string) egressRule {
	return egressRule{
		To:    []peer{r.podsOf(name)},
		Ports: listens(*r.stack.Service(name)),
	}
}

// toDNS reaches the cluster's name servers: the pods that every distribution labels
// k8s-app=kube-dns, and the cache on each node where there is one.
func toDNS() egressRule {
	return egressRule{
		To: []peer{{
			NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: "kube-system"},
			},
			PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "k8s-app", Operator: metav1.LabelSelectorOpIn, Values: dnsApps},
			}},
		}, {
			IPBlock: &networkingv1.IPBlock{CIDR: nodeDNS},
		}},
		Ports: append(ports(corev1.ProtocolUDP, dnsPort), ports(corev1.ProtocolTCP, dnsPort)...),
	}
}

// outside returns the rules for destinations beyond the stack. A policy knows addresses and no
// names: a name, like any host, is its port anywhere.
func outside(list []stacks.Outside) []egressRule {
	var out []egressRule
	for _, o := range list {
		var to []peer
		if a, err := netip.ParseAddr(o.Host); err == nil {
			block := netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()).String()
			to = append(to, peer{IPBlock: &networkingv1.IPBlock{CIDR: block}})
		} else {
			for _, block := range anywhere {
				to = append(to,
					peer{IPBlock: &networkingv1.IPBlock{CIDR: block, Except: linkLocal[block]}})
			}
		}

		out = append(out, egressRule{To: to, Ports: ports(corev1.ProtocolTCP, o.Port)})
	}

	return out
}

func ports(protocol corev1.Protocol, port int) []networkingv1.NetworkPolicyPort {
	return []networkingv1.NetworkPolicyPort{{Protocol: &protocol, Port: new(intstr.FromInt(port))}}
}

// listens returns the first port of a service, to which its callers connect.
func listens(svc stacks.Service) []networkingv1.NetworkPolicyPort {
	return ports(protocol(svc.Ports[0]), svc.Ports[0].Container)
}

// addPolicy makes a policy for both directions: one without rules for a direction lets
// nothing through there.
func (r *renderer) addPolicy(
	name, component string, pods metav1.LabelSelector, ingress []ingressRule, egress []egressRule,
) *Object {
	labels := r.labels()
	if component != "" {
		labels = r.labelsOf(component)
	}

	return r.add(&Object{Resource: name, Component: component, API: &networkingv1.NetworkPolicy{
		ObjectMeta: r.meta(name, labels),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: pods, PolicyTypes: bothWays, Ingress: ingress, Egress: egress,
		},
	}})
}
