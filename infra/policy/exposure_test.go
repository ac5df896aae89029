package policy_test

import (
	"os"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestEdgeTLS holds who may reach the edge without TLS of its own.
func TestEdgeTLS(t *testing.T) {
	open := func(how string, tls bool) workload.Exposure {
		return workload.Exposure{Service: stacks.Edge, How: how, Address: "0.0.0.0", Port: 80, TLS: tls}
	}
	gateway := func(g stacks.Gateway) stacks.Stack {
		return stacks.Stack{Route: &stacks.Route{Gateway: &g}}
	}
	const reached = "is reached without TLS from outside by its "
	const unknown = "does not believe what ends TLS before its route 0.0.0.0:80, and takes people " +
		"for those of a plain connection"
	for name, tc := range map[string]struct {
		stack   stacks.Stack
		exposed []workload.Exposure
		signIn  string
		want    []string
	}{
		"a port": {exposed: []workload.Exposure{open("port", false)},
			want: []string{reached + "port 0.0.0.0:80"}},
		"a port of the machine": {exposed: []workload.Exposure{
			{Service: stacks.Edge, How: "port", Loopback: true}}},
		"a port that leads to TLS": {exposed: []workload.Exposure{open("port", false), open("port", true)}},
		"a port behind a gateway": {exposed: []workload.Exposure{open("port", false)},
			stack: stacks.Stack{TrustedProxies: []string{"10.0.0.0/8"}}},
		"a balancer beside a route": {
			exposed: []workload.Exposure{open("load balancer", false), open("route", true)},
			want:    []string{reached + "load balancer 0.0.0.0:80"}},
		"a gateway of the stack's own": {exposed: []workload.Exposure{open("route", false)},
			stack: gateway(stacks.Gateway{Class: "x"}), want: []string{reached + "route 0.0.0.0:80"}},
		"a gateway of another": {exposed: []workload.Exposure{open("route", false)},
			stack: gateway(stacks.Gateway{Name: "x"})},
		"sign-in by a gateway of another": {exposed: []workload.Exposure{open("route", false)},
			stack: gateway(stacks.Gateway{Name: "x"}), signIn: gateenv.OIDC, want: []string{unknown}},
		"sign-in by an encrypted gateway": {exposed: []workload.Exposure{open("route", true)},
			stack: gateway(stacks.Gateway{Class: "x"}), signIn: gateenv.Accounts,
			want: []string{unknown}},
		"sign-in by a plain gateway": {exposed: []workload.Exposure{open("route", false)},
			stack: gateway(stacks.Gateway{Class: "x"}), signIn: gateenv.Accounts,
			want: []string{reached + "route 0.0.0.0:80"}},
		"sign-in by a gateway that is believed": {
			exposed: []workload.Exposure{open("route", true)}, signIn: gateenv.Accounts,
			stack: stacks.Stack{Route: &stacks.Route{Gateway: &stacks.Gateway{Class: "x"}},
				TrustedProxies: []string{"10.0.0.0/8"}}},
	} {
		t.Run(name, func(t *testing.T) {
			in := policy.Input{Stack: tc.stack, View: workload.View{
				Exposed: tc.exposed,
				Workloads: []workload.Workload{{Service: stacks.Gate,
					Containers: []workload.Container{{Env: map[string]string{"SIGN_IN": tc.signIn}}}}},
			}}
			if d := cmp.Diff(tc.want, findings(t, in, "edge-tls")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestOpenStacks holds that a stack which is open to a network with TLS breaks no rule.
func TestOpenStacks(t *testing.T) {
	for name, edge := range map[string]stacks.EdgeSettings{
		"acme":        {OwnTLS: &stacks.EdgeTLS{ACME: &stacks.ACME{Email: "a@example.com"}}},
		"certificate": {OwnTLS: &stacks.EdgeTLS{Certificate: "PEM"}},
		"internal":    {OwnTLS: &stacks.EdgeTLS{Internal: true}},
		"gateway":     {TrustedProxies: []string{"10.1.2.0/24"}},
	} {
		for _, overlay := range []string{"prod", "healthcare"} {
			edge.Address = "0.0.0.0"
			if edge.OwnTLS != nil {
				edge.Host = "chat.example.com"
			}
			stack, err := stacks.Load(overlay, stacks.Settings{
				Target: stacks.Docker, Edge: edge, SignIn: &stacks.SignInSettings{Accounts: true},
				Secrets: map[string]bool{
					stacks.RedisPasswordKey: true, stacks.TLSKeyKey: name == "certificate",
				},
				AssumeSecrets: true,
			}, stacks.Checkout{FS: os.DirFS(projectRoot(t))})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range check(t, stack, onEngine(t, stack, nil)).Violations {
				t.Errorf("%s of %s: %s: %s %s", name, overlay, v.Rule, v.Subject, v.What)
			}
		}
	}
}
