package policy_test

import (
	"os"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
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
	for name, tc := range map[string]struct {
		stack   stacks.Stack
		exposed []workload.Exposure
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
	} {
		t.Run(name, func(t *testing.T) {
			in := policy.Input{Stack: tc.stack, View: workload.View{Exposed: tc.exposed}}
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
