package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/nameserver"
)

// askFrom asks a name server in bash, which the images that people look into have: the first
// argument is its address, the second the question, and the third how many seconds the answer may
// take. A datagram is written, and read, as a whole.
const askFrom = `exec 3<>"/dev/udp/$0/53" &&
printf %b "$1" | dd bs=512 count=1 iflag=fullblock status=none >&3 &&
timeout "${2:-30}" dd bs=512 count=1 status=none <&3`

// localServer is where nodes have a name server of their own (NodeLocal DNSCache), test/cluster's
// as well.
const localServer = "169.254.20.10"

// ownNames holds that the pods of a private stack ask its resolver alone, that it answers the names
// of the stack, and that no other question gets to the cluster's name server, which writes down the
// names that are not the cluster's.
func ownNames(t *testing.T, c *checkout, n *namespace, kubeconfig, stack string) {
	service, err := n.CoreV1().Services(n.name).Get(t.Context(), stacks.Resolver,
		metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	resolver := service.Spec.ClusterIP
	for _, p := range n.pods(t, "") {
		servers := p.Spec.DNSConfig
		asks := p.Spec.DNSPolicy == corev1.DNSNone && servers != nil &&
			len(servers.Nameservers) == 1 && servers.Nameservers[0] == resolver
		if asks == (p.Labels[stacks.LabelService] == stacks.Resolver) {
			t.Errorf("%s asks %s: %v (%s)", p.Name, resolver, servers, p.Spec.DNSPolicy)
		}
	}

	// As programs do, by the search list.
	for _, name := range []string{stacks.Redis, stacks.Gate, stacks.Ollama} {
		c.must(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis, "--",
			"getent", "hosts", name)
	}
	if out, _, err := c.run(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis, "--",
		"getent", "hosts", "kubernetes.default"); err == nil {
		t.Errorf("a name of another namespace is %q", out)
	}

	word := fmt.Sprintf("word-%d", time.Now().UnixNano())
	for _, tt := range []struct {
		name string
		want int
	}{
		{"redis." + n.name + ".svc.cluster.local.", dns.RcodeSuccess},
		{"nobody." + n.name + ".svc.cluster.local.", dns.RcodeNameError},
		{"kubernetes.default.svc.cluster.local.", dns.RcodeNameError},
		{word + ".example.com.", dns.RcodeNameError},
		{word + ".", dns.RcodeNameError},
	} {
		packet := c.must(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis, "--",
			"bash", "-c", askFrom, resolver, question(t, tt.name))
		var got dns.Msg
		if err := got.Unpack([]byte(packet)); err != nil {
			t.Errorf("%s: %v in %q", tt.name, err, packet)
			continue
		}
		if got.Rcode != tt.want || (len(got.Answer) > 0) != (tt.want == dns.RcodeSuccess) {
			t.Errorf("%s, want %s: %s", tt.name, dns.RcodeToString[tt.want], &got)
		}
	}

	// The cluster's own name server answers nobody of them, and everybody else.
	control := "control-" + word + ".example.com."
	for _, server := range []string{n.nodeAddress(t), localServer} {
		if out, _, err := c.run(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis,
			"--", "bash", "-c", askFrom, server, question(t, word+".example.com."), "3"); err == nil {
			t.Errorf("%s answers a pod of the stack: %q", server, out)
		}

		address := net.JoinHostPort(server, "53")
		if _, err := nameserver.Ask("udp", address, control, dns.TypeA); err != nil {
			t.Fatal(err)
		}
	}

	// What does get there is written down.
	log := filepath.Join(filepath.Dir(kubeconfig), "log", "coredns.log")

	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}

		rest := strings.ReplaceAll(string(text), control, "")
		if strings.Contains(rest, word) {
			t.Errorf("the cluster's name server was asked for %s", word)
		}
		if rest != string(text) {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("%s does not have %s: nothing is known of other names", log, control)
		}
	}
}

// question returns the question for a name's addresses as bash's printf takes it.
func question(t *testing.T, name string) string {
	t.Helper()
	asked, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}

	var escaped strings.Builder
	for _, b := range asked {
		fmt.Fprintf(&escaped, `\x%02x`, b)
	}
	return escaped.String()
}

// nodeAddress returns the address of the cluster's node, where its name server listens.
func (n *namespace) nodeAddress(t *testing.T) string {
	t.Helper()
	nodes, err := n.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	t.Fatal("the node has no address")
	return ""
}
