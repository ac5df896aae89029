package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestOutside checks that the ways out of a service on a cluster are what the stack says.
func TestOutside(t *testing.T) {
	stack := stacks.Stack{Services: []stacks.Service{
		{Name: "any", Outside: []stacks.Outside{{Port: 443}}},
		{Name: "named", Outside: []stacks.Outside{{Host: "id.example.com", Port: 443}}},
		{Name: "one", Outside: []stacks.Outside{{Host: "203.0.113.7", Port: 6379},
			{Host: "2001:db8::7", Port: 6379}, {Host: "::ffff:203.0.113.8", Port: 6379}}},
		{Name: "none"},
	}}

	const unneeded = ", which is in no outside of the service"
	for _, test := range []struct {
		service, container, way string
		want                    []string
	}{
		{"any", "", "any address port 443", nil},
		{"any", "", "203.0.113.7/32 port 443", nil},
		{"any", "", "any address port 80", []string{"reaches any address at port 80" + unneeded}},
		{"any", "", "any address port 443, 80", []string{"reaches any address at port 80" + unneeded}},
		{"any", "", "any address port 443, 53", []string{"asks any address for names"}},
		{"any", "", "any address port 443/udp",
			[]string{"reaches any address at port 443/udp" + unneeded}},
		{"any", "", "any address port 53/udp", []string{"asks any address for names"}},
		{"any", "", "any address", []string{"reaches any address at any port"}},
		{"any", "", "other namespaces port 443",
			[]string{"reaches other namespaces at port 443" + unneeded}},
		{"named", "", "any address port 443", nil},
		{"one", "", "203.0.113.7/32 port 6379", nil},
		{"one", "", "203.0.113.8/32 port 6379", nil},
		{"one", "", "2001:db8::7/128 port 6379", nil},
		{"one", "", "203.0.113.0/24 port 6379",
			[]string{"reaches 203.0.113.0/24 at port 6379" + unneeded}},
		{"one", "", "any address port 6379", []string{"reaches any address at port 6379" + unneeded}},
		{"none", "", "any address port 443", []string{"reaches any address at port 443" + unneeded}},
		{"model", "none", "any address port 443",
			[]string{"reaches any address at port 443" + unneeded}},
		{"model", "any", "any address port 443", nil},
	} {
		in := policy.Input{Root: "/root", Stack: stack, View: workload.View{
			Target: stacks.Kubernetes,
			Workloads: []workload.Workload{{
				Service: test.service, Fenced: true, WaysOut: []string{test.way},
				Containers: []workload.Container{{Name: test.container}},
			}},
		}}
		if d := cmp.Diff(test.want, findings(t, in, "egress")); d != "" {
			t.Errorf("%s to %s (-want +got):\n%s", test.service, test.way, d)
		}
	}
}

// TestOutsideOfProxy checks that the proxy of a stack that keeps to itself reaches what the stack says
// and nothing more. What its other services reach the rule isolation tells.
func TestOutsideOfProxy(t *testing.T) {
	stack := stacks.Stack{Safeguarded: true, Services: []stacks.Service{
		{Name: stacks.Egress, Outside: []stacks.Outside{{Host: "id.example.com", Port: 443}}},
		{Name: stacks.Gate},
	}}
	way := func(service, way string) workload.Workload {
		return workload.Workload{Service: service, Fenced: true, WaysOut: []string{way}}
	}

	in := policy.Input{Root: "/root", Stack: stack, View: workload.View{
		Target: stacks.Kubernetes,
		Workloads: []workload.Workload{
			way(stacks.Egress, "any address port 443"), way(stacks.Egress, "any address port 25"),
			way(stacks.Gate, "any address port 25"),
		},
	}}
	want := []string{"reaches any address at port 25, which is in no outside of the service"}
	if d := cmp.Diff(want, findings(t, in, "egress")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
