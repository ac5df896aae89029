package policy

import (
	"net/url"
	"regexp"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// secretName matches variables that hold a secret by their name; those that end in _FILE hold a path.
var secretName = regexp.MustCompile(`(?i)(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|CREDENTIALS?)(_|$)`)

var secretRules = []Rule{{
	ID:     "secret-in-environment",
	Reason: "the environment shows in docker inspect, in kubectl describe, in crash dumps and in every child process",
	Fix:    "give the service a file (stacks.File with Secret) and the variable that ends in _FILE",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		var out []string
		for _, v := range c.Env {
			name := v.Name
			if name == "" {
				name = "a variable"
			}
			switch {
			case v.Secret:
				out = append(out, name+" is a secret")
			case v.Value == "":
			case secretName.MatchString(v.Name) && !isFile(v.Name):
				out = append(out, name+" holds a secret by its name")
			case hasPassword(v.Value):
				out = append(out, name+" holds a URL with a password")
			}
		}
		return out
	}),
}, {
	ID:     "secret-in-arguments",
	Reason: "arguments, health checks and labels show in process lists and to whoever may inspect the container",
	Fix:    "give the service a file (stacks.File with Secret)",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		secret := func(words []workload.Text) bool {
			for _, w := range words {
				if w.Secret || hasPassword(w.Value) {
					return true
				}
			}
			return false
		}
		out := when(secret(c.Command), "has a secret among its arguments")
		out = append(out, when(secret(c.Health), "has a secret in its health check")...)
		for _, l := range c.Labels {
			out = append(out, when(l.Secret, "has a secret in the label %s", l.Name)...)
		}
		return out
	}),
}, {
	ID:     "redis-password",
	Reason: "Redis holds what people wrote; without a password everything on its network reads it",
	Fix:    "require the password in the stack's overlay, and set it: pulumi config set --secret codexcontinue:redisPassword",
	check: workloads(func(p Plan, w workload.Workload) []string {
		if w.Service != stacks.Redis || p.Stack.Development {
			return nil
		}
		for _, c := range w.Containers {
			for _, m := range c.Mounts {
				if m.Kind == workload.Secrets {
					return nil
				}
			}
		}
		return []string{"asks for no password"}
	}),
}}

func isFile(name string) bool { return len(name) > 5 && name[len(name)-5:] == "_FILE" }

func hasPassword(value string) bool {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return false
	}
	password, set := u.User.Password()
	return set && password != ""
}
