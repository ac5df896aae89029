package policy

import (
	"cmp"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// several are the services of which one replica is not enough: each request of a person passes
// through them, and they keep nothing. ml is none of them: its callers wait for it, and Ollama is
// the bound anyway.
var several = []string{stacks.Gate, stacks.Frontend, stacks.Backend}

var availabilityRules = []Rule{{
	ID: "replicas",
	Reason: "a service of one replica is away while that one crashes or moves to another node, and " +
		"with it the page of everybody",
	Fix: "set replicas of the service to 2 or more, or autoscale.min, in codexcontinue:services",
	check: func(in Input) []Finding {
		if in.Stack.Development {
			return nil
		}

		var out []Finding
		for _, service := range in.Services() {
			replicas := 0
			for _, w := range service {
				replicas += cmp.Or(w.Least, w.Replicas)
			}
			if name := service[0].Service; replicas == 1 && slices.Contains(several, name) {
				out = append(out, Finding{name, "has one replica, or may be left with one"})
			}
		}

		return out
	},
}, {
	ID: "requests",
	Reason: "a pod that may use more memory than it asks for is killed when the others of its node " +
		"do as well, and one that asks for no processor gets none beside those that do",
	Fix: "ask for the memory of the limit, and for some processor: the renderer does, from the " +
		"service's resources",
	check: containers(func(c container) []string {
		if c.in.Target == stacks.Docker { // one machine, which reserves nothing
			return nil
		}
		return slices.Concat(
			when(c.CPU > 0 && c.RequestedCPU == 0, "asks for no CPU"),
			when(c.RequestedMemory < c.Memory, "asks for less memory than it may use"))
	}),
}}
