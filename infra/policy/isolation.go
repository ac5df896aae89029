package policy

import (
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// healthcare is the domain of stacks whose data must not leave them.
const healthcare = "healthcare"

var isolationRules = []Rule{{
	ID: "isolation",
	Reason: "in a healthcare stack, and wherever a network is internal, what people write must not " +
		"leave: only the edge stands on both sides, and a gate that asks an OpenID provider",
	Fix: "put the service on internal networks only, and remove what it may reach outside",
	check: workloads(func(in Input, w workload.Workload) []string {
		return when(isolated(in) && w.Service != stacks.Edge && !asksProvider(w) &&
			len(w.WaysOut) > 0,
			"can reach hosts beyond the stack through %s", strings.Join(w.WaysOut, " and "))
	}),
}, {
	ID: "cloud-models",
	Reason: "Ollama can hand a question to a model in somebody else's cloud; " +
		"a network rule must not be all that stops it",
	Fix: "set OLLAMA_NO_CLOUD=1 in the environment of ollama",
	check: containers(func(c container) []string {
		// Whatever else runs in the same image is no server.
		server := c.workload.Service == stacks.Ollama && c.Env["OLLAMA_HOST"] != ""
		return when(isolated(c.in) && server && c.Env["OLLAMA_NO_CLOUD"] != "1",
			"may use cloud models in an isolated stack")
	}),
}}

// asksProvider reports whether the workload is a gate whose people sign in at an OpenID provider.
func asksProvider(w workload.Workload) bool {
	return w.Service == stacks.Gate && slices.ContainsFunc(w.Containers,
		func(c workload.Container) bool { return c.Env["SIGN_IN"] == gateenv.OIDC })
}

// isolated reports whether the stack must keep to itself.
func isolated(in Input) bool {
	return in.Stack.Domain == healthcare ||
		slices.ContainsFunc(in.Networks, func(n workload.Network) bool { return n.Internal }) ||
		slices.ContainsFunc(in.Stack.Networks, func(n stacks.Network) bool { return n.Internal })
}
