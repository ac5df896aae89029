package policy

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// secretName matches variables that hold a secret by their name; those that end in _FILE hold a
// path.
var secretName = regexp.MustCompile(
	`(?i)(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|(API|PRIVATE|ACCESS)_?KEY|CREDENTIALS?)(_|$)`)

var secretRules = []Rule{{
	ID: "secret-in-environment",
	Reason: "the environment shows in docker inspect, in kubectl describe, in crash dumps " +
		"and in every child process",
	Fix: "give the service a file (stacks.File with Secret) and the variable that ends in _FILE",
	check: containers(func(c container) []string {
		var out []string
		for name, value := range c.Env {
			switch {
			case value == plan.Secret:
				out = append(out, name+" is a secret")
			case value == "":
			case secretName.MatchString(name) && !strings.HasSuffix(name, "_FILE"):
				out = append(out, name+" holds a secret by its name")
			case hasPassword(value):
				out = append(out, name+" holds a URL with a password")
			}
		}

		return out
	}),
}, {
	ID: "secret-in-arguments",
	Reason: "arguments, health checks and labels show in process lists " +
		"and to whoever may inspect the container",
	Fix: "give the service a file (stacks.File with Secret)",
	check: containers(func(c container) []string {
		secret := func(s string) bool { return s == plan.Secret || hasPassword(s) }
		out := slices.Concat(
			when(slices.ContainsFunc(c.Command, secret), "has a secret among its arguments"),
			when(slices.ContainsFunc(c.Health, secret), "has a secret in its health check"))
		for name, value := range c.Labels {
			out = append(out, when(value == plan.Secret, "has a secret in the label %s", name)...)
		}

		return out
	}),
}, {
	ID:     "redis-password",
	Reason: "Redis holds what people wrote; without a password everything on its network reads it",
	Fix: "require the password in the stack's overlay, and set it: " +
		"pulumi config set --secret codexcontinue:redisPassword",
	check: workloads(func(in Input, w workload.Workload) []string {
		if w.Service != stacks.Redis || in.Stack.Development {
			return nil
		}

		asks := slices.ContainsFunc(w.Containers, func(c workload.Container) bool {
			return slices.ContainsFunc(c.Mounts, func(m workload.Mount) bool {
				return m.Kind == workload.Secrets
			})
		})

		return when(!asks, "asks for no password")
	}),
}}

func hasPassword(value string) bool {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return false
	}
	password, set := u.User.Password()
	return set && password != ""
}
