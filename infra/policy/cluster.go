package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var clusterRules = []Rule{{
	ID:     "cluster-token",
	Reason: "no service talks to the cluster's API: a credential for it is only of use to an intruder",
	Fix:    "set automountServiceAccountToken: false",
	check: workloads(func(_ Input, w workload.Workload) []string {
		return when(w.Token, "gets a credential for the cluster's API")
	}),
}, {
	ID: "fenced",
	Reason: "without a fence every service of the machine or cluster reaches this one, " +
		"and it reaches them",
	Fix: "deny what the stack does not call: a network of its own, " +
		"or NetworkPolicies for both directions",
	check: workloads(func(_ Input, w workload.Workload) []string {
		return when(!w.Fenced, "is reached, or reaches others, without a rule that says so")
	}),
}, {
	ID: "egress",
	Reason: "an intruder takes along what he finds by any way that is open: one that nothing needs, a " +
		"whole network, or a name server that is not the cluster's",
	Fix: "name host and port of each destination in outside of the service, from which its " +
		"NetworkPolicy is made",
	check: workloads(func(in Input, w workload.Workload) []string {
		// An engine has no rules for destinations, and isolation holds a stack that keeps to itself,
		// but for what its proxy reaches.
		if in.Target == stacks.Docker || isolated(in) && w.Service != stacks.Egress || !w.Fenced {
			return nil
		}

		declared := outside(in.Stack, w)
		var out []string
		for _, way := range w.WaysOut {
			to, ports, narrow := strings.Cut(way, " port ")
			numbers := strings.Split(ports, ", ")
			switch {
			case !narrow:
				out = append(out, "reaches "+to+" at any port")
			case strings.Contains(ports, "-"):
				out = append(out, "reaches "+to+" at the ports "+ports)
			case slices.Contains(numbers, "53"), slices.Contains(numbers, "53/udp"):
				out = append(out, "asks "+to+" for names")
			default:
				for _, port := range numbers {
					needed := slices.ContainsFunc(declared, func(o stacks.Outside) bool {
						return leadsTo(o, to, port)
					})
					out = append(out, when(!needed, "reaches %s at port %s, which is in no outside "+
						"of the service", to, port)...)
				}
			}
		}
		return out
	}),
}}

// outside returns what the stack says that the workload reaches beyond it: what each service does of
// which there is a container. The Job that makes the model has those of others.
func outside(s stacks.Stack, w workload.Workload) []stacks.Outside {
	var out []stacks.Outside
	names := []string{w.Service}
	for _, c := range w.Containers {
		names = append(names, c.Name)
	}

	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if svc := s.Service(name); svc != nil {
			out = append(out, svc.Outside...)
		}
	}
	return out
}

// leadsTo reports whether the destination is what a way out with the port leads to. A name, as any
// host, may be at any address, and at none in the cluster's other namespaces.
func leadsTo(o stacks.Outside, to, port string) bool {
	if strconv.Itoa(o.Port) != port || to == workload.Namespaces {
		return false
	}
	a, err := netip.ParseAddr(o.Host)
	if err != nil {
		return true
	}
	a = a.Unmap()
	return to == netip.PrefixFrom(a, a.BitLen()).String()
}
