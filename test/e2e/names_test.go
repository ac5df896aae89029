package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// askFrom asks a name server in bash, which the images that people look into have: the first
// argument is its address, the second the question. A datagram is written, and read, as a whole.
const askFrom = `exec 3<>"/dev/udp/$0/53" &&
printf %b "$1" | dd bs=512 count=1 iflag=fullblock status=none >&3 &&
timeout 5 dd bs=512 count=1 status=none <&3`

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
		want dnsmessage.RCode
	}{
		{"redis." + n.name + ".svc.cluster.local.", dnsmessage.RCodeSuccess},
		{"nobody." + n.name + ".svc.cluster.local.", dnsmessage.RCodeNameError},
		{"kubernetes.default.svc.cluster.local.", dnsmessage.RCodeNameError},
		{word + ".example.com.", dnsmessage.RCodeNameError},
		{word + ".", dnsmessage.RCodeNameError},
	} {
		var escaped strings.Builder
		for _, b := range question(t, tt.name) {
			fmt.Fprintf(&escaped, `\x%02x`, b)
		}

		packet := c.must(t, time.Minute, "bin/codexctl", "exec", "-s", stack, stacks.Redis, "--",
			"bash", "-c", askFrom, resolver, escaped.String())
		var got dnsmessage.Message
		if err := got.Unpack([]byte(packet)); err != nil {
			t.Errorf("%s: %v in %q", tt.name, err, packet)
			continue
		}
		if got.RCode != tt.want || (len(got.Answers) > 0) != (tt.want == dnsmessage.RCodeSuccess) {
			t.Errorf("%s: %s, %v; want %s", tt.name, got.RCode, got.Answers, tt.want)
		}
	}

	// What does get there is written down: the same name, but for a letter.
	control := "control-" + word + ".example.com."
	log := filepath.Join(filepath.Dir(kubeconfig), "log", "coredns.log")
	conn, err := net.Dial("udp", net.JoinHostPort(n.nodeAddress(t), "53"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	if _, err := conn.Write(question(t, control)); err != nil {
		t.Fatal(err)
	}

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
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%s does not have %s: nothing is known of other names", log, control)
		}
	}
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

// question returns the packet that asks for the IPv4 address of a name.
func question(t *testing.T, name string) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}

	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}},
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}
