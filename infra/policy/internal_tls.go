package policy

import (
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

var internalTLSRules = []Rule{{
	ID: "internal-tls",
	Reason: "in a healthcare stack what people write passes through five containers, over a network " +
		"that others of the machine or cluster may read",
	Fix: "set codexcontinue:internalTLS to true, or remove it: the overlay has it on",
	check: containers(func(c container) []string {
		if !c.in.Stack.Safeguarded || c.Init {
			return nil
		}

		switch c.workload.Service {
		case stacks.Redis:
			return when(!c.asksByTLS(), "speaks in the clear")
		case stacks.Gate, stacks.Frontend, stacks.Backend, stacks.ML, stacks.Knowledge, stacks.Backup,
			stacks.Ollama, stacks.ModelJob:
			return when(c.Env["TLS_CERTIFICATE_FILE"] == "", "speaks in the clear")
		}

		return nil
	}),
}}

// asksByTLS reports whether the health check of the container, which is Redis, goes by TLS.
func (c container) asksByTLS() bool {
	return strings.Contains(" "+strings.Join(c.Health, " ")+" ", " --tls ")
}
