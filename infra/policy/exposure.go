package policy

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var exposureRules = []Rule{{
	ID: "public-port",
	Reason: "the edge is the one way in: it bounds requests, hides internal paths and survives " +
		"updates; the others trust whoever reaches them",
	Fix: "publish no port of the service; for development, publish it on 127.0.0.1 in the dev overlay",
	check: func(in Input) []Finding {
		var out []Finding
		for _, e := range in.Exposed {
			if e.Service == stacks.Edge || e.Loopback && in.Stack.Development {
				continue
			}

			what := "is reached from outside by its " + e.How + " " + e.String()
			if e.Loopback {
				what = "publishes " + e.String() + " on the machine in a stack that is not for " +
					"development"
			}

			out = append(out, Finding{e.Service, what})
		}

		return out
	},
}, {
	ID:     "edge-tls",
	Reason: "without TLS whoever is on the way reads what people write, and may sign in as they do",
	Fix: "set edge.tls; where a gateway ends TLS before the edge, name its network in " +
		"edge.trustedProxies",
	check: func(in Input) []Finding {
		// One before the edge encrypts: a gateway that the stack trusts, or that is not its own.
		if r := in.Stack.Route; len(in.Stack.TrustedProxies) > 0 ||
			r != nil && r.Gateway != nil && r.Gateway.Name != "" {
			return nil
		}

		var out []Finding
		// Where the edge ends TLS, the machine's other port only leads there.
		leads := slices.ContainsFunc(in.Exposed, func(e workload.Exposure) bool {
			return e.Service == stacks.Edge && e.TLS && e.How == "port"
		})
		for _, e := range in.Exposed {
			if e.Service == stacks.Edge && !e.Loopback && !e.TLS && !(leads && e.How == "port") {
				out = append(out, Finding{e.Service,
					"is reached without TLS from outside by its " + e.How + " " + e.String()})
			}
		}

		return out
	},
}}
