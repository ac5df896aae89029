package kubernetes_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
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

	cluster := startNameServer(t)
	port := peers.FreePort(t, "127.0.0.1")
	health := peers.FreePort(t, "127.0.0.1")
	file := filepath.Join(t.TempDir(), "Corefile")
	replaced := strings.NewReplacer(":5353 {", ":"+port+" {", ":8080", "127.0.0.1:"+health,
		"/etc/resolv.conf", cluster.address).Replace(text)
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
	ask := func(network, name string, kind dnsmessage.Type) (dnsmessage.Message, error) {
		return askNameServer(network, net.JoinHostPort("127.0.0.1", port), name, kind)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := ask("tcp", "nobody.example.", dnsmessage.TypeA); err == nil {
			break
		} else if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		name string
		kind dnsmessage.Type
		want dnsmessage.RCode
	}{
		{"redis." + zone, dnsmessage.TypeA, dnsmessage.RCodeSuccess},
		{"REDIS." + zone, dnsmessage.TypeA, dnsmessage.RCodeSuccess},
		{zone, dnsmessage.TypeA, dnsmessage.RCodeSuccess},
		{"redis.other.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError},
		{"kubernetes.default.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError},
		{"not" + zone, dnsmessage.TypeA, dnsmessage.RCodeNameError},
		{"word.example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError},
		{"word.example.com.", dnsmessage.TypeAAAA, dnsmessage.RCodeNameError},
		{"word.example.com.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError},
		{"word." + zone + "example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError},
		{"1.0.96.10.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError},
		{".", dnsmessage.TypeNS, dnsmessage.RCodeNameError},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got, err := ask(network, tt.name, tt.kind)
			if err != nil || got.RCode != tt.want ||
				(len(got.Answers) > 0) != (tt.want == dnsmessage.RCodeSuccess) {
				t.Errorf("%s %s by %s: %s, %v, %v; want %s", tt.name, tt.kind, network, got.RCode,
					got.Answers, err, tt.want)
			}
		}
	}

	// A name server that does not answer is asked until it does.
	cluster.silent(true)
	if got, err := ask("udp", "redis."+zone, dnsmessage.TypeA); err == nil &&
		got.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("without the cluster's name server redis is %v", got.Answers)
	}
	cluster.silent(false)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, err := ask("udp", "redis."+zone, dnsmessage.TypeA)
		if err == nil && len(got.Answers) > 0 {
			break
		} else if time.Since(start) > time.Minute {
			t.Fatalf("when it is back: %s, %v", got.RCode, err)
		}
	}

	for _, name := range cluster.asked() {
		if name = "." + strings.ToLower(name); !strings.HasSuffix(name, "."+zone) {
			t.Errorf("the cluster's name server was asked for %s", name)
		}
	}
	if len(cluster.asked()) == 0 {
		t.Error("it was asked nothing")
	}
}

// nameServer answers every question, and keeps what it was asked.
type nameServer struct {
	address string

	mu     sync.Mutex
	quiet  bool
	wanted []string
}

// startNameServer serves UDP, by which CoreDNS asks, and TCP until the test ends.
func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", peers.FreePort(t, "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &nameServer{address: l.Addr().String()}
	p, err := net.ListenPacket("udp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })

	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := p.ReadFrom(packet)
			if err != nil {
				return
			}
			if text := s.answer(packet[:n]); text != nil {
				_, _ = p.WriteTo(text, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					packet, err := readFrame(conn)
					if err != nil {
						return
					}
					if text := s.answer(packet); text == nil || writeFrame(conn, text) != nil {
						return
					}
				}
			}()
		}
	}()
	return s
}

func (s *nameServer) silent(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = on
}

func (s *nameServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wanted)
}

// answer returns an address for every name; nil is no answer.
func (s *nameServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	q := m.Questions[0]
	s.wanted = append(s.wanted, q.Name.String())
	if s.quiet {
		return nil
	}

	m.Response, m.Additionals = true, nil
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{
			Name: q.Name, Type: dnsmessage.TypeA, Class: q.Class, TTL: 5,
		},
		Body: &dnsmessage.AResource{A: [4]byte{10, 96, 0, 7}},
	}}
	text, err := m.Pack()
	if err != nil {
		return nil
	}
	return text
}

// askNameServer asks a server and returns its answer.
func askNameServer(
	network, address, name string, kind dnsmessage.Type,
) (dnsmessage.Message, error) {
	var m dnsmessage.Message
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return m, err
	}

	asked := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packet, err := asked.Pack()
	if err != nil {
		return m, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return m, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return m, err
	}

	answer := make([]byte, 1500)
	if network == "udp" {
		if _, err = conn.Write(packet); err == nil {
			var size int
			size, err = conn.Read(answer)
			answer = answer[:size]
		}
	} else if err = writeFrame(conn, packet); err == nil {
		answer, err = readFrame(conn)
	}
	if err != nil {
		return m, err
	}
	return m, m.Unpack(answer)
}

// readFrame reads a message of DNS over TCP.
func readFrame(from net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(from, packet)
	return packet, err
}

// writeFrame writes one.
func writeFrame(to net.Conn, packet []byte) error {
	frame := binary.BigEndian.AppendUint16(nil, uint16(len(packet)))
	_, err := to.Write(append(frame, packet...))
	return err
}
