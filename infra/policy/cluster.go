package policy

import (
	"slices"
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
	Reason: "an intruder takes along what he finds by any way that is open: a whole network, or a " +
		"name server that is not the cluster's",
	Fix: "name host and port of each destination in outside of the service, from which its " +
		"NetworkPolicy is made",
	check: workloads(func(in Input, w workload.Workload) []string {
		// An engine has no rules for destinations, and isolation holds a stack that keeps to itself.
		if in.Target == stacks.Docker || isolated(in) || !w.Fenced {
			return nil
		}

		var out []string
		for _, way := range w.WaysOut {
			to, ports, narrow := strings.Cut(way, " port ")
			switch {
			case !narrow:
				out = append(out, "reaches "+to+" at any port")
			case strings.Contains(ports, "-"):
				out = append(out, "reaches "+to+" at the ports "+ports)
			case slices.Contains(strings.Split(ports, ", "), "53"):
				out = append(out, "asks "+to+" for names")
			}
		}
		return out
	}),
}}
