package policy

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
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
	ID: "edge-tls",
	Reason: "without TLS whoever is on the way reads what people write, and may sign in as they do; so " +
		"they may with cookies that are not Secure, as of an edge that does not know of it",
	Fix: "set edge.tls; where a gateway ends TLS before the edge, name its network in " +
		"edge.trustedProxies",
	check: func(in Input) []Finding {
		if len(in.Stack.TrustedProxies) > 0 {
			return nil // what is before the edge encrypts, and is believed
		}

		route := in.Stack.Route
		signs := route != nil && slices.ContainsFunc(in.Workloads, signsIn)
		theirs := route != nil && route.Gateway != nil && route.Gateway.Name != ""

		var out []Finding
		// Where the edge ends TLS, the machine's other port only leads there.
		leads := slices.ContainsFunc(in.Exposed, func(e workload.Exposure) bool {
			return e.Service == stacks.Edge && e.TLS && e.How == "port"
		})
		for _, e := range in.Exposed {
			switch {
			case e.Service != stacks.Edge || e.Loopback:
			case signs && (e.How == "route" || e.How == "ingress") && (e.TLS || theirs):
				out = append(out, Finding{e.Service, "does not believe what ends TLS before its " +
					e.How + " " + e.String() + ", and takes people for those of a plain connection"})
			case !theirs && !e.TLS && !(leads && e.How == "port"):
				out = append(out, Finding{e.Service,
					"is reached without TLS from outside by its " + e.How + " " + e.String()})
			}
		}

		return out
	},
}, {
	ID: "sign-in",
	Reason: "without sign-in whoever reaches the page is let in, and a cookie that anyone gets is " +
		"all that tells people apart",
	Fix: "set codexcontinue:signIn to {accounts: true} or {oidc: {issuer: ..., clientID: ...}}, or " +
		"publish the edge on 127.0.0.1 and give it no host",
	check: func(in Input) []Finding {
		if slices.ContainsFunc(in.Workloads, signsIn) {
			return nil
		}

		var out []Finding
		for _, e := range in.Exposed {
			if e.Service == stacks.Edge && (!e.Loopback || len(in.Stack.TrustedProxies) > 0) {
				out = append(out, Finding{e.Service, "lets in whoever comes by its " + e.How + " " +
					e.String()})
			}
		}

		for _, w := range in.Workloads {
			if w.Service == stacks.Edge && w.Strangers {
				out = append(out, Finding{w.Service,
					"lets in others than the stack's pods by its network policy"})
			}
		}

		return out
	},
}}

// signsIn reports whether the workload is a gate where people sign in.
func signsIn(w workload.Workload) bool {
	return w.Service == stacks.Gate && slices.ContainsFunc(w.Containers,
		func(c workload.Container) bool {
			how := c.Env["SIGN_IN"]
			return how == gateenv.Accounts || how == gateenv.OIDC
		})
}
