package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	networkingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/networking/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Where a rule says "anywhere" it leaves out link-local addresses: on most clouds they hold the machine's credentials.
// Private addresses are in: a registry or a Redis may well be there, and what it may reach is only the one port.
var (
	anywhere   = []string{"0.0.0.0/0", "::/0"}
	linkLocal  = map[string][]string{"0.0.0.0/0": {"169.254.0.0/16"}, "::/0": {"fe80::/10", "fd00:ec2::254/128"}}
	nodeDNS    = "169.254.20.10/32" // NodeLocal DNSCache's documented address
	dnsApps    = []string{"kube-dns", "node-local-dns"}
	bothWays   = []string{"Ingress", "Egress"}
	solverPort = 8089 // of cert-manager's pods that answer HTTP-01 challenges
)

// addDefaultDeny closes the namespace both ways. What the stack's services may do is in a policy of each.
func (d *deployment) addDefaultDeny() error {
	deny, err := d.addPolicy("default-deny", stackLabels(d.stack), metav1.LabelSelectorArgs{}, nil, nil, d.home)
	if err != nil {
		return fmt.Errorf("networks: %w", err)
	}
	d.fences = append(d.fences, deny)
	if ownGateway(d.stack) {
		// Pods that a gateway's controller runs in this namespace, labelled as the Gateway API says (GEP-1762). Where they are
		// configured from is the controller's, so nothing is known of whom they talk to; the edge is all that takes their
		// connections here.
		proxy, err := d.addPolicy("gateway", stackLabels(d.stack), labelSelector(map[string]string{gatewayGroup + "/gateway-name": stacks.Edge}),
			networkingv1.NetworkPolicyIngressRuleArray{networkingv1.NetworkPolicyIngressRuleArgs{}},
			networkingv1.NetworkPolicyEgressRuleArray{networkingv1.NetworkPolicyEgressRuleArgs{}}, d.home)
		if err != nil {
			return fmt.Errorf("route.gateway: %w", err)
		}
		d.fences = append(d.fences, proxy)
	}
	if r := d.stack.Route; r != nil && r.TLS != nil && r.TLS.Secret == "" {
		// cert-manager proves the host's name with a pod of its own in this namespace.
		solver, err := d.addPolicy("certificate", stackLabels(d.stack), labelSelector(map[string]string{"acme.cert-manager.io/http01-solver": "true"}),
			networkingv1.NetworkPolicyIngressRuleArray{networkingv1.NetworkPolicyIngressRuleArgs{Ports: ports("TCP", solverPort)}}, nil, d.home)
		if err != nil {
			return fmt.Errorf("route.tls: %w", err)
		}
		d.fences = append(d.fences, solver)
	}
	return nil
}

// addServicePolicy lets through exactly what the stack says: who calls the service, whom it calls, and what it reaches
// outside. Kubelets reach the pods of their node, for probes, whatever the policies.
func (d *deployment) addServicePolicy(svc stacks.Service, parent pulumi.Resource) (pulumi.Resource, error) {
	var ingress networkingv1.NetworkPolicyIngressRuleArray
	if len(svc.Ports) > 0 {
		port := ports("TCP", svc.Ports[0].Container)
		var from networkingv1.NetworkPolicyPeerArray
		for _, caller := range d.callers(svc.Name) {
			from = append(from, d.podsOf(caller))
		}
		switch {
		case svc.Name == stacks.Edge: // people, gateways and load balancers are anywhere
			ingress = append(ingress, networkingv1.NetworkPolicyIngressRuleArgs{Ports: port})
		case len(from) > 0:
			ingress = append(ingress, networkingv1.NetworkPolicyIngressRuleArgs{From: from, Ports: port})
		}
	}
	egress := networkingv1.NetworkPolicyEgressRuleArray{toDNS()}
	for _, callee := range svc.Calls {
		egress = append(egress, d.toService(callee))
	}
	egress = append(egress, outside(svc.Outside)...)
	return d.addPolicy(svc.Name, workloadLabels(d.stack, svc.Name), labelSelector(selector(d.stack, svc.Name)), ingress, egress, parent)
}

// callers are the services, and the Job, that connect to the service, in the stack's order.
func (d *deployment) callers(name string) []string {
	var out []string
	for _, svc := range d.stack.Services {
		if slices.Contains(svc.Calls, name) {
			out = append(out, svc.Name)
		}
	}
	if d.model != nil && d.model.calls(name) {
		out = append(out, stacks.ModelJob)
	}
	return out
}

func (d *deployment) podsOf(name string) networkingv1.NetworkPolicyPeerArgs {
	return networkingv1.NetworkPolicyPeerArgs{PodSelector: labelSelector(selector(d.stack, name))}
}

func (d *deployment) toService(name string) networkingv1.NetworkPolicyEgressRuleArgs {
	return networkingv1.NetworkPolicyEgressRuleArgs{
		To:    networkingv1.NetworkPolicyPeerArray{d.podsOf(name)},
		Ports: ports("TCP", d.stack.Service(name).Ports[0].Container),
	}
}

// toDNS reaches the cluster's name servers: the pods that every distribution labels k8s-app=kube-dns, and the cache on
// each node where there is one.
func toDNS() networkingv1.NetworkPolicyEgressRuleArgs {
	return networkingv1.NetworkPolicyEgressRuleArgs{
		To: networkingv1.NetworkPolicyPeerArray{
			networkingv1.NetworkPolicyPeerArgs{
				NamespaceSelector: labelSelector(map[string]string{"kubernetes.io/metadata.name": "kube-system"}),
				PodSelector: metav1.LabelSelectorArgs{MatchExpressions: metav1.LabelSelectorRequirementArray{metav1.LabelSelectorRequirementArgs{
					Key: pulumi.String("k8s-app"), Operator: pulumi.String("In"), Values: pulumi.ToStringArray(dnsApps),
				}}},
			},
			networkingv1.NetworkPolicyPeerArgs{IpBlock: networkingv1.IPBlockArgs{Cidr: pulumi.String(nodeDNS)}},
		},
		Ports: append(ports("UDP", 53), ports("TCP", 53)...),
	}
}

// outside are the rules for destinations beyond the stack. A policy knows addresses and no names: a name, like any host,
// is its port anywhere.
func outside(list []stacks.Outside) networkingv1.NetworkPolicyEgressRuleArray {
	var out networkingv1.NetworkPolicyEgressRuleArray
	for _, o := range list {
		var to networkingv1.NetworkPolicyPeerArray
		if a, err := netip.ParseAddr(o.Host); err == nil {
			block := netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()).String()
			to = append(to, networkingv1.NetworkPolicyPeerArgs{IpBlock: networkingv1.IPBlockArgs{Cidr: pulumi.String(block)}})
		} else {
			for _, block := range anywhere {
				to = append(to, networkingv1.NetworkPolicyPeerArgs{IpBlock: networkingv1.IPBlockArgs{
					Cidr: pulumi.String(block), Except: pulumi.ToStringArray(linkLocal[block]),
				}})
			}
		}
		out = append(out, networkingv1.NetworkPolicyEgressRuleArgs{To: to, Ports: ports("TCP", o.Port)})
	}
	return out
}

func ports(protocol string, port int) networkingv1.NetworkPolicyPortArray {
	return networkingv1.NetworkPolicyPortArray{networkingv1.NetworkPolicyPortArgs{Protocol: pulumi.String(protocol), Port: pulumi.Int(port)}}
}

// addPolicy makes a policy for both directions: one without rules for a direction lets nothing through there.
func (d *deployment) addPolicy(name string, labels map[string]string, pods metav1.LabelSelectorArgs, ingress networkingv1.NetworkPolicyIngressRuleArray, egress networkingv1.NetworkPolicyEgressRuleArray, parent pulumi.Resource) (pulumi.Resource, error) {
	spec := networkingv1.NetworkPolicySpecArgs{PodSelector: pods, PolicyTypes: pulumi.ToStringArray(bothWays)}
	if len(ingress) > 0 {
		spec.Ingress = ingress
	}
	if len(egress) > 0 {
		spec.Egress = egress
	}
	return networkingv1.NewNetworkPolicy(d.ctx, name, &networkingv1.NetworkPolicyArgs{Metadata: d.meta(name, labels, nil), Spec: spec},
		pulumi.Parent(parent), pulumi.Provider(d.cluster))
}
