package stacks_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// someCA is one of nobody's authority, in PEM.
const someCA = `-----BEGIN CERTIFICATE-----
MIIBODCB66ADAgECAgEBMAUGAytlcDAPMQ0wCwYDVQQDEwR0ZXN0MCAXDTI2MDEw
MTAwMDAwMFoYDzIxMjYwMTAxMDAwMDAwWjAPMQ0wCwYDVQQDEwR0ZXN0MCowBQYD
-----END CERTIFICATE-----
`

// provider are settings of an OpenID provider.
func provider() *stacks.OIDCSettings {
	return &stacks.OIDCSettings{
		Issuer:        "https://id.example.com:8443/realms/team",
		ClientID:      "chat",
		GroupsClaim:   "groups",
		AllowedGroups: []string{"team, the"},
		AdminGroups:   []string{"maintainers"},
	}
}

func TestDecodeSignIn(t *testing.T) {
	const oidc = `"issuer": "https://id.example.com", "clientID": "chat"`
	all := `{"oidc": {"issuer": "https://id.example.com/realms/team", "clientID": "chat",
		"url": "https://chat.example.com", "scopes": ["groups"], "groupsClaim": "roles",
		"allowedGroups": ["team", "a, b"], "adminGroups": ["maintainers"]}}`
	for name, tt := range map[string]struct {
		value string
		want  *stacks.SignInSettings
		err   string
	}{
		"default":  {"", nil, ""},
		"none":     {"none", &stacks.SignInSettings{}, ""},
		"accounts": {`{"accounts": true}`, &stacks.SignInSettings{Accounts: true}, ""},
		"a word":   {"oidc", nil, `signIn: "oidc" is none of none, {accounts: true} or {oidc:`},
		"nothing":  {"{}", nil, "signIn: set exactly one of none, {accounts: true} or {oidc:"},
		"no":       {`{"accounts": false}`, nil, "signIn: set exactly one of"},
		"both": {`{"accounts": true, "oidc": {` + oidc + `, "everybody": true}}`, nil,
			"signIn: set exactly"},
		"other key": {`{"account": true}`, nil, "signIn.account: unknown key: did you mean accounts?"},
		"all": {all, &stacks.SignInSettings{OIDC: &stacks.OIDCSettings{
			Issuer:        "https://id.example.com/realms/team",
			ClientID:      "chat",
			URL:           "https://chat.example.com",
			Scopes:        []string{"groups"},
			GroupsClaim:   "roles",
			AllowedGroups: []string{"team", "a, b"},
			AdminGroups:   []string{"maintainers"},
		}}, ""},
		"everybody": {`{"oidc": {` + oidc + `, "everybody": true}}`,
			&stacks.SignInSettings{OIDC: &stacks.OIDCSettings{Issuer: "https://id.example.com",
				ClientID: "chat", GroupsClaim: "groups", Everybody: true}}, ""},
		"nobody": {`{"oidc": {` + oidc + `}}`, nil,
			"signIn.oidc.allowedGroups: is not set: name the groups that are let in, or set everybody"},
		"everybody, and some": {`{"oidc": {` + oidc + `, "everybody": true, "allowedGroups": ["a"]}}`,
			nil, "signIn.oidc.everybody: is set beside allowedGroups"},
		"no issuer": {`{"oidc": {"clientID": "chat", "everybody": true}}`, nil,
			`signIn.oidc.issuer: "" is no issuer: write it like https://`},
		"plain issuer": {`{"oidc": {"issuer": "http://id.example.com", "clientID": "chat",
			"everybody": true}}`, nil, "signIn.oidc.issuer: "},
		"no client": {`{"oidc": {"issuer": "https://id.example.com", "everybody": true}}`, nil,
			"signIn.oidc.clientID: is not set"},
		"plain address": {`{"oidc": {` + oidc + `, "everybody": true, "url": "http://a.example"}}`, nil,
			"signIn.oidc.url: "},
		"its secret": {`{"oidc": {` + oidc + `, "everybody": true, "clientSecret": "hunter2"}}`, nil,
			"signIn.oidc.clientSecret: is a secret: set it with `pulumi config set --secret " +
				"codexcontinue:oidcClientSecret`"},
		"no list": {`{"oidc": {` + oidc + `, "allowedGroups": "team"}}`, nil,
			"signIn.oidc.allowedGroups: must be a list"},
		"an empty group": {`{"oidc": {` + oidc + `, "allowedGroups": [""]}}`, nil,
			"signIn.oidc.allowedGroups.0: is empty"},
		"no certificate": {`{"oidc": {` + oidc + `, "everybody": true, "ca": "x"}}`, nil,
			"signIn.oidc.ca: holds no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := stacks.DecodeSettings(map[string]string{"signIn": tt.value}, nil)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), "codexcontinue:"+tt.err) ||
					strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got  %v\nwant %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			default:
				if d := cmp.Diff(tt.want, got.SignIn); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			}
		})
	}
}

// gateOf returns the gate and its environment.
func gateOf(t *testing.T, s stacks.Stack) (*stacks.Service, *gateenv.Config) {
	t.Helper()
	svc := s.Service(stacks.Gate)
	return svc, svc.Contract.(*gateenv.Config)
}

func TestSignIn(t *testing.T) {
	settings := withPassword()
	if _, c := gateOf(t, load(t, "prod", settings)); c.SignIn != gateenv.None {
		t.Errorf("unset: %s", c.SignIn)
	}

	settings.SignIn = &stacks.SignInSettings{Accounts: true}
	accounts := load(t, "prod", settings)
	if svc, c := gateOf(t, accounts); c.SignIn != gateenv.Accounts || len(svc.Outside) > 0 {
		t.Errorf("accounts: %s, outside %v", c.SignIn, svc.Outside)
	}

	settings.SignIn = &stacks.SignInSettings{OIDC: provider()}
	settings.SignIn.OIDC.CA = someCA
	settings.Secrets[stacks.OIDCSecretKey] = true
	settings.PortOffset = 1000
	stack := load(t, "healthcare", settings)
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	svc, c := gateOf(t, stack)
	want := gateenv.Provider{
		Issuer:           "https://id.example.com:8443/realms/team",
		ClientID:         "chat",
		ClientSecretFile: "/run/secrets/oidc-client-secret",
		ProviderCAFile:   "/etc/oidc-ca/ca.pem",
		GroupsClaim:      "groups",
		AllowedGroups:    gateenv.Names{"team, the"},
		AdminGroups:      gateenv.Names{"maintainers"},
	}

	if d := cmp.Diff(want, c.Provider); d != "" || c.SignIn != gateenv.OIDC ||
		c.PublicURL != "http://127.0.0.1:9080" {
		t.Errorf("%s at %s (-want +got):\n%s", c.SignIn, c.PublicURL, d)
	}

	outside := []stacks.Outside{{Host: "id.example.com", Port: 8443,
		Reason: "the OpenID provider, where people sign in"}}
	// A private stack's gate asks the egress proxy.
	proxy := stack.Service(stacks.Egress)
	if d := cmp.Diff(outside, proxy.Outside); d != "" || len(svc.Outside) > 0 ||
		c.EgressURL != "http://egress:3128" ||
		!slices.Equal(svc.Networks, []string{"codexcontinue-private", "codexcontinue-asking"}) {
		t.Errorf("%+v on the networks %v (-want +got):\n%s", svc.Outside, svc.Networks, d)
	}

	secret := stacks.File{Path: "/run/secrets/oidc-client-secret", Secret: stacks.OIDCSecret}
	if !slices.Contains(svc.Files, secret) ||
		!slices.Contains(svc.Files, stacks.File{Path: "/etc/oidc-ca/ca.pem", Content: someCA}) ||
		stack.SecretKeys()[stacks.OIDCSecret] != "oidcClientSecret" {
		t.Errorf("files %v, secrets %v", svc.Files, stack.Secrets)
	}

	// The other services get nothing of it.
	for _, other := range stack.Services {
		if other.Name != stacks.Gate && slices.Contains(other.Files, secret) ||
			other.Name != stacks.Egress && len(other.Outside) > 0 {
			t.Errorf("%s: files %v, outside %v", other.Name, other.Files, other.Outside)
		}
	}

	// A public client has no secret.
	delete(settings.Secrets, stacks.OIDCSecretKey)
	public := load(t, "prod", settings)
	svc, c = gateOf(t, public)
	if c.ClientSecretFile != "" || slices.Contains(svc.Files, secret) ||
		!slices.Equal(svc.Networks, []string{stacks.MainNetwork}) {
		t.Errorf("a public client: %+v", svc)
	}

	settings.SignIn = nil
	settings.Secrets[stacks.OIDCSecretKey] = true
	if _, err := stacks.Load("prod", settings, checkout()); err == nil ||
		!strings.Contains(err.Error(),
			"codexcontinue:oidcClientSecret: is set, and signIn.oidc is not") {
		t.Errorf("a secret of no provider: %v", err)
	}
}

// TestPublicURL checks where the provider is told to send people back to.
func TestPublicURL(t *testing.T) {
	const unknown = "codexcontinue:signIn.oidc.url: is not set"
	for name, tt := range map[string]struct {
		edge stacks.EdgeSettings
		url  string
		want string
	}{
		"loopback": {stacks.EdgeSettings{}, "", "http://127.0.0.1:8080"},
		"its IPv6": {stacks.EdgeSettings{Address: "::1", Port: 81}, "", "http://[::1]:81"},
		"set":      {stacks.EdgeSettings{}, "https://a.example", "https://a.example"},
		"network":  {stacks.EdgeSettings{Address: "0.0.0.0"}, "", unknown},
		"network, set": {stacks.EdgeSettings{Address: "0.0.0.0"}, "https://a.example",
			"https://a.example"},
		"route": {stacks.EdgeSettings{Host: "b.example", Ingress: &stacks.Ingress{Class: "c"},
			TLS: &stacks.TLS{Secret: "s"}, TrustedProxies: []string{"10.244.0.0/16"}}, "",
			"https://b.example"},
		"gateway of others": {stacks.EdgeSettings{Host: "b.example",
			Gateway: &stacks.Gateway{Name: "n", Namespace: "m"}}, "", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			settings := withPassword()
			settings.Target, settings.Edge = stacks.Kubernetes, tt.edge
			settings.SignIn = &stacks.SignInSettings{OIDC: provider()}
			settings.SignIn.OIDC.URL = tt.url
			stack, err := stacks.Load("prod", settings, checkout())
			if tt.want == unknown {
				if err == nil || !strings.Contains(err.Error(), unknown) {
					t.Errorf("got %v, want %s", err, unknown)
				}
				return
			}

			if err != nil {
				t.Fatal(err)
			}
			if _, c := gateOf(t, stack); c.PublicURL != tt.want {
				t.Errorf("%s, want %s", c.PublicURL, tt.want)
			}
		})
	}
}

// TestOpenWithoutSignIn checks that a stack which a network reaches asks people to sign in.
func TestOpenWithoutSignIn(t *testing.T) {
	route := stacks.EdgeSettings{Host: "chat.example.com", Ingress: &stacks.Ingress{Class: "c"}}
	for name, tt := range map[string]struct {
		target stacks.Target
		edge   stacks.EdgeSettings
		want   string
	}{
		"loopback":      {stacks.Docker, stacks.EdgeSettings{Address: "127.0.0.2"}, ""},
		"its IPv6":      {stacks.Docker, stacks.EdgeSettings{Address: "::1"}, ""},
		"forwarded":     {stacks.Kubernetes, stacks.EdgeSettings{}, ""},
		"every address": {stacks.Docker, stacks.EdgeSettings{Address: "0.0.0.0"}, "edge.address 0.0.0.0"},
		"one address": {stacks.Docker, stacks.EdgeSettings{Address: "192.0.2.1"},
			"edge.address 192.0.2.1"},
		"every IPv6 address": {stacks.Docker, stacks.EdgeSettings{Address: "::"}, "edge.address ::"},
		"load balancer": {stacks.Kubernetes, stacks.EdgeSettings{Address: "0.0.0.0"},
			"edge.address 0.0.0.0"},
		"route": {stacks.Kubernetes, route, "edge.host"},
		"gateway on the machine": {stacks.Docker, stacks.EdgeSettings{Address: "127.0.0.1"},
			"edge.trustedProxies"},
	} {
		t.Run(name, func(t *testing.T) {
			settings := withPassword()
			settings.Target, settings.Edge = tt.target, tt.edge
			if tt.want != "" && tt.target == stacks.Docker {
				settings.Edge.TrustedProxies = []string{"10.0.0.0/8"} // where TLS ends
			}

			err := load(t, "prod", settings).Validate()
			want := "signIn: is none, and " + tt.want + " opens the stack to a network"
			if (err == nil) != (tt.want == "") || err != nil &&
				(!strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("got %v, want %q", err, want)
			}

			for _, how := range []stacks.SignInSettings{{Accounts: true}, {OIDC: provider()}} {
				if how.OIDC != nil {
					how.OIDC.URL = "https://chat.example.com"
				}
				if tt.edge.Host != "" {
					settings.Edge.TrustedProxies = []string{"10.244.0.0/16"}
				}
				settings.SignIn = &how
				if err := load(t, "prod", settings).Validate(); err != nil {
					t.Errorf("%+v: %v", how, err)
				}
			}
		})
	}
}

// TestRouteIsBelieved holds that a stack in which people sign in knows what ends TLS before its edge.
func TestRouteIsBelieved(t *testing.T) {
	for name, edge := range map[string]stacks.EdgeSettings{
		"ingress":           {Ingress: &stacks.Ingress{Class: "c"}},
		"encrypted ingress": {Ingress: &stacks.Ingress{Class: "c"}, TLS: &stacks.TLS{Secret: "s"}},
		"gateway":           {Gateway: &stacks.Gateway{Class: "c"}, TLS: &stacks.TLS{Issuer: "i"}},
		"gateway of others": {Gateway: &stacks.Gateway{Name: "n", Namespace: "m"}},
	} {
		for _, how := range []stacks.SignInSettings{{Accounts: true}, {OIDC: provider()}} {
			if how.OIDC != nil {
				how.OIDC.URL = "https://chat.example.com"
			}

			settings := withPassword()
			edge.Host = "chat.example.com"
			settings.Target, settings.Edge, settings.SignIn = stacks.Kubernetes, edge, &how
			err := load(t, "prod", settings).Validate()
			if want := "edge.trustedProxies: is not set, and edge.host "; err == nil ||
				!strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v, want %s", name, err, want)
			}

			settings.Edge.TrustedProxies = []string{"10.244.0.0/16"}
			if err := load(t, "prod", settings).Validate(); err != nil {
				t.Errorf("%s, believed: %v", name, err)
			}
		}
	}
}
