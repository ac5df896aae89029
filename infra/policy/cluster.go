package policy

import "github.com/codexcontinue/codexcontinue/infra/workload"

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
}}
