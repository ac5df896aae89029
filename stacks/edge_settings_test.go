package stacks_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// edgeConfig is the key edge of a config, and what is secret beside it.
func edgeConfig(t *testing.T, target, edge string, secrets ...string) (stacks.Stack, error) {
	t.Helper()
	values := map[string]string{"edge": edge, "target": target, "signIn": `{"accounts": true}`}
	s, err := stacks.DecodeSettings(values,
		append(secrets, stacks.RedisPasswordKey))
	if err != nil {
		return stacks.Stack{}, err
	}

	stack, err := stacks.Load("prod", s, checkout())
	if err != nil {
		return stacks.Stack{}, err
	}
	return stack, stack.Validate()
}

// quoted is the text as JSON has it.
func quoted(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEdgeEndsTLS holds what the stack has for each form: ports, volume, files.
func TestEdgeEndsTLS(t *testing.T) {
	cert, _ := certificate(t, edgeHost)
	public := func(https, http int) []stacks.Port {
		return []stacks.Port{
			{Name: "https", Container: 8443, Host: https, Address: "0.0.0.0"},
			{Name: "http3", UDP: true, Container: 8443, Host: https, Address: "0.0.0.0"},
			{Name: "http", Container: 8080, Host: http, Address: "0.0.0.0"},
		}
	}

	for name, tc := range map[string]struct {
		edge    string
		secrets []string
		ports   []stacks.Port
		kept    bool // certificates are kept in a volume
		outside []stacks.Outside
	}{
		"acme": {
			edge: `"host": "chat.example.com", "tls": {"acme": {"email": "a@example.com"}}`,
			kept: true, ports: public(443, 80),
			outside: []stacks.Outside{{Host: "acme-v02.api.letsencrypt.org", Port: 443,
				Reason: "the authority that the edge gets its certificates from"}},
		},
		"acme at another port": {
			edge: `"host": "chat.example.com", "port": 8443, "tls": {"acme":
				{"email": "a@example.com", "directory": "https://ca.example.com:9000/dir"}}`,
			kept: true, ports: public(8443, 80),
			outside: []stacks.Outside{{Host: "ca.example.com", Port: 9000,
				Reason: "the authority that the edge gets its certificates from"}},
		},
		"internal": {edge: `"host": "chat.example.com", "tls": {"internal": true}`, kept: true,
			ports: public(443, 80)},
		"internal at another port": {
			edge: `"host": "chat.example.com", "port": 8443, "tls": {"internal": true}`, kept: true,
			ports: public(8443, 0)},
		"certificate": {edge: `"tls": {"certificate": ` + quoted(t, cert) + `}`,
			secrets: []string{"tlsKey"}, ports: public(443, 80)},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := edgeConfig(t, "docker", `{"address": "0.0.0.0", `+tc.edge+`}`, tc.secrets...)
			if err != nil {
				t.Fatal(err)
			}

			e := s.Service(stacks.Edge)
			if d := cmp.Diff(tc.ports, e.Ports); d != "" {
				t.Errorf("ports (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.outside, e.Outside); d != "" {
				t.Errorf("outside (-want +got):\n%s", d)
			}

			v, kept := s.Volume(stacks.EdgeData)
			mounted := slices.ContainsFunc(e.Mounts, func(m stacks.Mount) bool {
				return m.Source == stacks.EdgeData && m.Target == e.Env["XDG_DATA_HOME"]
			})
			if kept != tc.kept || mounted != tc.kept || kept && !v.SingleWriter {
				t.Errorf("the volume is %+v, %v, mounted %v", v, kept, mounted)
			}

			paths := map[string]string{}
			for _, f := range e.Files[1:] {
				paths[f.Path] = f.Text("the key\n") + f.Secret
				if !f.Live {
					t.Errorf("%s is not replaced in place", f.Path)
				}
			}
			want := map[string]string{}
			if tc.secrets != nil {
				text := cert + "the key\n" + stacks.TLSKey
				want = map[string]string{
					"/run/certificate/first.pem": text, "/run/certificate/second.pem": text,
				}
			}
			if !maps.Equal(paths, want) {
				t.Errorf("files %v, want %v", paths, want)
			}
		})
	}
}

// TestEdgeNamesPublishedPort where it differs from the edge's own and is shifted.
func TestEdgeNamesPublishedPort(t *testing.T) {
	for offset, want := range map[int][]string{
		0: {"redir https://chat.example.com{uri}", "`h3=\":443\"; ",
			"\nhttps://chat.example.com:8443, https://localhost:8443, https://127.0.0.1:8443, " +
				"https://[::1]:8443 {\n"},
		1000: {"redir https://chat.example.com:1443{uri}", "`h3=\":1443\"; "},
	} {
		s := edgeTLS(stacks.EdgeSettings{
			Host: edgeHost, OwnTLS: &stacks.EdgeTLS{Internal: true},
		})
		s.PortOffset = offset
		stack := load(t, "dev", s)
		text := stack.Service(stacks.Edge).Files[0].Content
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("with an offset of %d there is no %s in\n%s", offset, line, text)
			}
		}
	}
}

// TestEdgeRefuses holds what is said of an edge's settings that do not go together.
func TestEdgeRefuses(t *testing.T) {
	cert, key := certificate(t, edgeHost)
	const acme = `"tls": {"acme": {"email": "a@example.com"}}`
	for name, tc := range map[string]struct {
		edge, target, want string
		secrets            []string
	}{
		"open without TLS": {edge: `{"address": "0.0.0.0"}`,
			want: "codexcontinue:edge.tls: is not set, and edge.address 0.0.0.0 opens the stack"},
		"open at one address": {edge: `{"address": "192.168.1.7"}`,
			want: "codexcontinue:edge.tls: is not set, and edge.address 192.168.1.7 opens the stack"},
		"a cluster's certificate": {edge: `{"host": "chat.example.com", "tls": {"secret": "x"}}`,
			want: "codexcontinue:edge.tls: the docker target cannot express it: secret, issuer"},
		"no form": {edge: `{"tls": {"internal": false}}`, target: "kubernetes", want: "edge.host: is not set"},
		"no form at all": {edge: `{"host": "chat.example.com", "ingress": {"class": "x"}, "tls": {}}`,
			target: "kubernetes", want: "codexcontinue:edge.tls: set exactly one of acme, certificate"},
		"two forms": {edge: `{"host": "chat.example.com", "tls":
			{"internal": true, "acme": {"email": "a@example.com"}}}`,
			want: "edge.tls: set exactly one of acme, certificate, internal"},
		"forms of both targets": {edge: `{"tls": {"internal": true, "issuer": "x"}}`,
			want: "codexcontinue:edge.tls: set exactly one of acme, certificate, internal"},
		"behind a gateway": {edge: `{"host": "chat.example.com", "ingress": {"class": "x"},
			"tls": {"internal": true}}`, target: "kubernetes",
			want: "codexcontinue:edge.tls: acme, certificate and internal make the edge end TLS"},
		"the key in the text": {edge: `{"tls": {"certificate": "x", "key": "y"}}`,
			want: "codexcontinue:edge.tls.key: is a secret: set it with `pulumi config set --secret " +
				"codexcontinue:tlsKey`"},
		"the key beside the certificate": {edge: `{"tls": {"certificate": ` +
			quoted(t, cert+key) + `}}`, secrets: []string{"tlsKey"},
			want: "edge.tls.certificate: holds a PRIVATE KEY: this text is no secret"},
		"no key": {edge: `{"tls": {"certificate": ` + quoted(t, cert) + `}}`,
			want: "codexcontinue:tlsKey: is not set, and this stack needs it"},
		"a key alone": {edge: `{}`, secrets: []string{"tlsKey"},
			want: "codexcontinue:tlsKey: is the key of edge.tls.certificate, which is not set"},
		"no certificate": {edge: `{"tls": {"certificate": "x"}}`, secrets: []string{"tlsKey"},
			want: "edge.tls.certificate: holds no certificate in PEM"},
		"a broken certificate": {edge: `{"tls": {"certificate":
			"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"}}`,
			secrets: []string{"tlsKey"},
			want:    "edge.tls.certificate: holds a certificate that cannot be read"},
		"a certificate of another": {edge: `{"host": "other.example.com", "tls": {"certificate": ` +
			quoted(t, cert) + `}}`, secrets: []string{"tlsKey"},
			want: "edge.tls.certificate: is not that of edge.host"},
		"acme without a name": {edge: `{` + acme + `}`, want: "edge.host: is not set: edge.tls.acme"},
		"acme without an address": {edge: `{"host": "chat.example.com", "tls": {"acme": {}}}`,
			want: `edge.tls.acme.email: "" is no address: write it like admin@example.com`},
		"acme of an address with a name": {edge: `{"host": "chat.example.com", "tls": {"acme":
			{"email": "A <a@example.com>"}}}`, want: `edge.tls.acme.email: "A <a@example.com>" is no`},
		"acme in clear text": {edge: `{"host": "chat.example.com", "tls": {"acme":
			{"email": "a@example.com", "directory": "http://ca.example.com"}}}`,
			want: `edge.tls.acme.directory: "http://ca.example.com" is no URL`},
		"acme with a line": {edge: `{"host": "chat.example.com", "tls": {"acme":
			{"email": "a@example.com", "directory": "https://ca.example.com/ {env.HOME}"}}}`,
			want: "edge.tls.acme.directory: "},
		"a host that is none": {edge: `{"host": "Chat", ` + acme + `}`,
			want: `edge.host: "Chat" is no DNS name`},
		"internal without a name": {edge: `{"address": "0.0.0.0", "tls": {"internal": true}}`,
			want: "edge.host: is not set: edge.tls.internal makes a certificate for a name"},
		"a gateway's address": {edge: `{"trustedProxies": ["10.1.2.3"]}`,
			want: `codexcontinue:edge.trustedProxies.0: "10.1.2.3" is no network`},
		"a gateway in a network": {edge: `{"trustedProxies": ["10.0.0.0/8", "10.1.2.3/24"]}`,
			want: `codexcontinue:edge.trustedProxies.1: "10.1.2.3/24" names an address in a ` +
				"network: write 10.1.2.0/24 for the network, or 10.1.2.3/32 for the address"},
		"everybody": {edge: `{"trustedProxies": ["0.0.0.0/0"]}`,
			want: `codexcontinue:edge.trustedProxies.0: "0.0.0.0/0" is everybody`},
		"the port of the redirect": {edge: `{"host": "chat.example.com", "port": 80, ` + acme + `}`,
			want: "services.edge.ports.http.host: 80 is edge's already"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.target == "" {
				tc.target = "docker"
			}
			_, err := edgeConfig(t, tc.target, tc.edge, tc.secrets...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestEdgeOpens holds what may be opened to a network.
func TestEdgeOpens(t *testing.T) {
	for name, tc := range map[string]struct{ target, edge string }{
		"with TLS": {"docker",
			`{"address": "0.0.0.0", "host": "chat.example.com", "tls": {"internal": true}}`},
		"behind a gateway": {"docker",
			`{"address": "0.0.0.0", "trustedProxies": ["10.0.0.0/8"]}`},
		"to the machine":     {"docker", `{"address": "::1"}`},
		"by a load balancer": {"kubernetes", `{"address": "0.0.0.0"}`},
	} {
		if _, err := edgeConfig(t, tc.target, tc.edge); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEdgeTLSOfAnOverlay holds that a stack which was not made of settings is checked as well.
func TestEdgeTLSOfAnOverlay(t *testing.T) {
	s := load(t, "prod", withPassword())
	s.TLS = &stacks.EdgeTLS{Internal: true}
	s.Route = &stacks.Route{Host: edgeHost, Ingress: &stacks.Ingress{Class: "x"},
		TLS: &stacks.TLS{Secret: "x"}}
	s.TrustedProxies = []string{"everybody"}
	err := s.Validate()
	for _, want := range []string{
		"edge.tls: is set, and the route has a certificate as well",
		`edge.trustedProxies.0: "everybody" is no network`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	s = load(t, "prod", withPassword())
	s.Remove(stacks.Edge)
	s.TLS = &stacks.EdgeTLS{Internal: true}
	if err := s.Validate(); err == nil ||
		!strings.Contains(err.Error(), "edge.tls: is the edge's, which the stack has not") {
		t.Errorf("without an edge: %v", err)
	}
}
