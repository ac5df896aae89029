package kubernetes_test

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/nameserver"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// private returns healthcare on a cluster, with an OpenID provider that the egress reaches.
func private(t *testing.T) stacks.Stack {
	t.Helper()
	stack, err := stacks.Load("healthcare", stacks.Settings{
		Target: stacks.Kubernetes, AssumeSecrets: true,
		SignIn: &stacks.SignInSettings{OIDC: &stacks.OIDCSettings{
			Issuer: "https://id.example.com", ClientID: "chat", Everybody: true,
		}},
	}, stacks.Checkout{FS: os.DirFS(repository(t))})
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// TestWhoAsksTheResolver has all pods without a way out ask the resolver, which exists before them,
// and lets nobody else ask the cluster's name servers.
func TestWhoAsksTheResolver(t *testing.T) {
	stack := private(t)
	resources := mustRecord(t, stack, kubernetes.Options{
		Root: repository(t), Namespace: "ward", Domain: "lab.example",
	})
	pods := map[string]plan.Resource{stacks.ModelJob: of(resources, "Job")["model"]}
	maps.Copy(pods, of(resources, "Deployment"))
	maps.Copy(pods, of(resources, "StatefulSet"))
	if len(pods) != len(stack.Services)+1 {
		t.Fatalf("pods of %v", slices.Sorted(maps.Keys(pods)))
	}

	policies := of(resources, "NetworkPolicy")
	var asking []string
	for service, r := range pods {
		open := service == stacks.Resolver || service == stacks.Egress
		config, _ := podOf(t, r, "dnsConfig").(map[string]any)
		cluster := strings.Contains(fmt.Sprint(dig(t, policies[service], "spec", "egress")),
			"kube-system")
		if cluster != open {
			t.Errorf("%s may ask the cluster's name servers: %v", service, cluster)
		}
		if open {
			if policy := podOf(t, r, "dnsPolicy"); policy != nil || config != nil {
				t.Errorf("%s asks %v: %v", service, policy, config)
			}
			continue
		}

		asking = append(asking, service)
		want := map[string]any{
			"nameservers": []any{plan.Computed},
			"searches":    []any{"ward.svc.lab.example", "svc.lab.example", "lab.example"},
			"options":     []any{map[string]any{"name": "ndots", "value": "5"}},
		}
		if d := cmp.Diff(want, config); d != "" || podOf(t, r, "dnsPolicy") != "None" {
			t.Errorf("%s (-want +got):\n%s", service, d)
		}
		if after := r.Options.DependsOn; !slices.Contains(after, "kubernetes:core/v1:Service resolver") {
			t.Errorf("%s is made after %v", service, after)
		}
	}

	rule := dig(t, policies[stacks.Resolver], "spec", "ingress", 0)
	var let []string
	for _, from := range items(rule.(map[string]any)["from"]) {
		labels := at(from, "podSelector", "matchLabels").(map[string]any)
		let = append(let, labels[stacks.LabelService].(string))
	}
	slices.Sort(asking)
	slices.Sort(let)
	if d := cmp.Diff(asking, let); d != "" {
		t.Errorf("who may ask the resolver (-asks +may):\n%s", d)
	}

	ports := dig(t, of(resources, "Service")[stacks.Resolver], "spec", "ports")
	want := []any{
		map[string]any{"name": "dns", "port": 53.0, "protocol": "UDP", "targetPort": "dns"},
		map[string]any{"name": "dns-tcp", "port": 53.0, "protocol": "TCP", "targetPort": "dns-tcp"},
	}
	if d := cmp.Diff(want, ports); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}
	if _, ok := of(resources, "PodDisruptionBudget")[stacks.Resolver]; !ok {
		t.Error("a drain of nodes may take all resolvers")
	}
}

// TestCorefile runs CoreDNS on what the resolver is told. It asks the cluster's name server for the
// names of the stack's namespace, and for nothing else, also when it finds out whether that works.
func TestCorefile(t *testing.T) {
	program := peers.Find(t, "coredns", "coredns")
	rendered, err := kubernetes.Render(private(t), kubernetes.Options{Root: repository(t)})
	if err != nil {
		t.Fatal(err)
	}

	text := ""
	for _, o := range rendered.Objects {
		if strings.HasPrefix(o.String(), "ConfigMap resolver-files-") {
			fields, err := o.Fields()
			if err != nil {
				t.Fatal(err)
			}
			text = fields["data"].(map[string]any)["etc.coredns.Corefile"].(string)
		}
	}

	cluster := nameserver.Start(t, func(string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("10.96.0.7")}
	})
	port := peers.FreePort(t, "127.0.0.1")
	health := peers.FreePort(t, "127.0.0.1")
	file := filepath.Join(t.TempDir(), "Corefile")
	replaced := strings.NewReplacer(":5353 {", ":"+port+" {", ":8080", "127.0.0.1:"+health,
		"/etc/resolv.conf", cluster.Address).Replace(text)
	if err := os.WriteFile(file, []byte(replaced), 0o644); err != nil {
		t.Fatal(err)
	}

	server := exec.CommandContext(t.Context(), program, "-conf", file)
	out := &strings.Builder{}
	server.Stdout, server.Stderr = out, out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("CoreDNS with\n%s\nsays\n%s", replaced, out)
		}
	})

	const zone = "codexcontinue-healthcare.svc.cluster.local."
	ask := func(network, name string, kind uint16) (*dns.Msg, error) {
		return nameserver.Ask(network, net.JoinHostPort("127.0.0.1", port), name, kind)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := ask("tcp", "nobody.example.", dns.TypeA); err == nil {
			break
		} else if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		name string
		kind uint16
		want int
	}{
		{"redis." + zone, dns.TypeA, dns.RcodeSuccess},
		{"REDIS." + zone, dns.TypeA, dns.RcodeSuccess},
		{zone, dns.TypeA, dns.RcodeSuccess},
		{"redis.other.svc.cluster.local.", dns.TypeA, dns.RcodeNameError},
		{"kubernetes.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError},
		{"not" + zone, dns.TypeA, dns.RcodeNameError},
		{"word.example.com.", dns.TypeA, dns.RcodeNameError},
		{"word.example.com.", dns.TypeAAAA, dns.RcodeNameError},
		{"word.example.com.", dns.TypeTXT, dns.RcodeNameError},
		{"word." + zone + "example.com.", dns.TypeA, dns.RcodeNameError},
		{"1.0.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError},
		{".", dns.TypeNS, dns.RcodeNameError},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got, err := ask(network, tt.name, tt.kind)
			if err != nil || got.Rcode != tt.want ||
				(len(got.Answer) > 0) != (tt.want == dns.RcodeSuccess) {
				t.Errorf("%s %s by %s, want %s: %v, %v", tt.name, dns.TypeToString[tt.kind], network,
					dns.RcodeToString[tt.want], got, err)
			}
		}
	}

	// A name server that does not answer is asked until it does.
	cluster.Silence(true)
	if got, err := ask("udp", "redis."+zone, dns.TypeA); err == nil &&
		got.Rcode != dns.RcodeServerFailure {
		t.Errorf("without the cluster's name server redis is %v", got.Answer)
	}
	cluster.Silence(false)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, err := ask("udp", "redis."+zone, dns.TypeA)
		if err == nil && len(got.Answer) > 0 {
			break
		} else if time.Since(start) > time.Minute {
			t.Fatalf("when it is back: %v, %v", got, err)
		}
	}

	for _, name := range cluster.Asked() {
		if name = "." + strings.ToLower(name); !strings.HasSuffix(name, "."+zone) {
			t.Errorf("the cluster's name server was asked for %s", name)
		}
	}
	if len(cluster.Asked()) == 0 {
		t.Error("it was asked nothing")
	}
}
