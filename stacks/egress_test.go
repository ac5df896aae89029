package stacks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestEgress has a private stack reach what its settings name through the proxy, and by no other
// way.
func TestEgress(t *testing.T) {
	settings := withPassword()
	settings.SignIn = &stacks.SignInSettings{OIDC: provider()}
	settings.Edge.Host, settings.Edge.Address = "chat.example.com", "0.0.0.0"
	settings.Edge.OwnTLS = &stacks.EdgeTLS{ACME: &stacks.ACME{
		Email: "admin@example.com", Directory: "https://CA.example.com/acme",
	}}
	settings.Egress = &stacks.EgressSettings{
		Hosts: []string{"keys.example.com", "[2001:db8::1]:8443", "ca.example.com"}, Private: true,
	}
	stack := load(t, "healthcare", settings)
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	proxy := stack.Service(stacks.Egress)
	c := proxy.Contract.(*egressenv.Config)
	want := []string{
		"id.example.com:8443", "ca.example.com:443", "keys.example.com:443", "[2001:db8::1]:8443",
	}
	if d := cmp.Diff(want, c.Destinations, sorted); d != "" || !c.Private {
		t.Errorf("private %v (-want +got):\n%s", c.Private, d)
	}
	if c.DrainTimeout >= proxy.StopGrace || proxy.StopGrace > time.Minute {
		t.Errorf("the proxy drains for %s, and is killed after %s", c.DrainTimeout, proxy.StopGrace)
	}
	// The others speak TLS with each other; what goes through the proxy is TLS already.
	if !stack.InternalTLS() || proxy.EndsTLS() || len(proxy.Files) > 0 ||
		slices.ContainsFunc(proxy.Health.Command, func(word string) bool {
			return strings.HasPrefix(word, "https:")
		}) {
		t.Errorf("the proxy has %+v, %v and is asked by %q", c.TLS, proxy.Files,
			proxy.Health.Command)
	}
	if !slices.Equal(proxy.Networks, []string{"codexcontinue-egress", "codexcontinue-asking"}) {
		t.Errorf("the proxy is on %v", proxy.Networks)
	}

	edge := stack.Service(stacks.Edge)
	if edge.Env["HTTPS_PROXY"] != "http://egress:3128" || edge.Env["NO_PROXY"] != "gate" {
		t.Errorf("the edge has %v", edge.Env)
	}

	for _, svc := range stack.Services {
		if _, out := stack.WayOut(svc); out != (svc.Name == stacks.Egress) {
			t.Errorf("%s has a way out: %v", svc.Name, out)
		}
		asks := svc.Name == stacks.Edge || svc.Name == stacks.Gate
		if slices.Contains(svc.Calls, stacks.Egress) != asks ||
			slices.Contains(svc.DependsOn, stacks.Egress) != asks {
			t.Errorf("%s calls %v and waits for %v", svc.Name, svc.Calls, svc.DependsOn)
		}
		if slices.Contains(svc.Networks, "codexcontinue-asking") !=
			(asks || svc.Name == stacks.Egress) {
			t.Errorf("%s is on %v", svc.Name, svc.Networks)
		}
	}
}

// TestNoEgress leaves the proxy out where nothing is reached, or by a way of its own.
func TestNoEgress(t *testing.T) {
	oidc := withPassword()
	oidc.SignIn = &stacks.SignInSettings{OIDC: provider()}
	for name, stack := range map[string]stacks.Stack{
		"nothing is reached": load(t, "healthcare", withPassword()),
		"by its own way":     load(t, "prod", oidc),
	} {
		if stack.Service(stacks.Egress) != nil {
			t.Errorf("%s: there is a proxy", name)
		}
	}

	settings := withPassword()
	settings.Egress = &stacks.EgressSettings{}
	_, err := stacks.Load("healthcare", settings, checkout())
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:egress: is set, and nothing") {
		t.Errorf("a proxy of nobody: %v", err)
	}

	for _, host := range []string{"", "https://a.example", "a.example/x", "*.example.com", ":443"} {
		oidc.Egress = &stacks.EgressSettings{Hosts: []string{host}}
		_, err := stacks.Load("healthcare", oidc, checkout())
		if err == nil || !strings.Contains(err.Error(), "egress.hosts: ") {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// TestDecodeEgress reads the setting strictly.
func TestDecodeEgress(t *testing.T) {
	s, err := stacks.DecodeSettings(map[string]string{
		"egress": `{"hosts": ["a.example", "b.example:8443"], "private": true}`,
	}, nil)
	want := &stacks.EgressSettings{Hosts: []string{"a.example", "b.example:8443"}, Private: true}
	if d := cmp.Diff(want, s.Egress); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}

	_, err = stacks.DecodeSettings(map[string]string{"egress": `{"host": "a.example"}`}, nil)
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:egress") {
		t.Errorf("an unknown key: %v", err)
	}
}

// sorted compares lists whose order says nothing.
var sorted = cmp.Transformer("sorted", func(list []string) map[string]bool {
	out := map[string]bool{}
	for _, x := range list {
		out[x] = true
	}
	return out
})
