package policy

import "github.com/codexcontinue/codexcontinue/stacks"

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
}}
