package policy

import "github.com/codexcontinue/codexcontinue/stacks"

var modelRules = []Rule{{
	ID: "evals",
	Reason: "in a healthcare stack a changed prompt or model must not answer people before it has " +
		"passed the cases of safety",
	Fix: "keep evals.yaml beside the Modelfile, and codexcontinue:model.evals true",
	check: containers(func(c container) []string {
		makes := c.workload.Service == stacks.ML && !c.Init && c.Env["EVALS_DIGEST"] == ""
		return when(c.in.Stack.Safeguarded && makes,
			"has versions of the model serve without evals")
	}),
}}
