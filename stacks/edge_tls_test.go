package stacks_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

const edgeHost = "chat.example.com"

// edgeTLS are settings with the edge's.
func edgeTLS(e stacks.EdgeSettings) stacks.Settings {
	s := withPassword()
	s.Edge, s.SignIn = e, &stacks.SignInSettings{Accounts: true}
	s.Secrets[stacks.TLSKeyKey] = e.OwnTLS != nil && e.OwnTLS.Certificate != ""
	return s
}

// certificate returns one for the names and this machine's own address, and its key, in PEM.
func certificate(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	return peers.Certificate(t, append(names, "127.0.0.1")...)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tlsEdge is the real Caddy on the configuration of an edge that ends TLS.
type tlsEdge struct {
	*process
	http, https string // ports
	data        string // where it keeps certificates
}

// startTLS starts the edge of the settings in front of the upstream port.
func startTLS(
	t *testing.T, s stacks.EdgeSettings, upstream, data string, oldNew ...string,
) *tlsEdge {
	t.Helper()
	e := newTLSEdge(t, data)
	e.start(t, s, upstream, oldNew...)
	return e
}

// newTLSEdge returns one that has not started, with ports of its own.
func newTLSEdge(t *testing.T, data string) *tlsEdge {
	t.Helper()
	return &tlsEdge{
		data: data, http: peers.FreePort(t, "127.0.0.1"), https: peers.FreePort(t, "127.0.0.1"),
	}
}

func (e *tlsEdge) start(t *testing.T, s stacks.EdgeSettings, upstream string, oldNew ...string) {
	t.Helper()
	program := peers.Find(t, "caddy", "caddy")
	stack := load(t, "prod", edgeTLS(s))
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	text := replaced(t, stack.Service(stacks.Edge).Files[0].Content, append(oldNew,
		":8080", ":"+e.http, ":8443", ":"+e.https,
		"dynamic a gate 8003", "dynamic a localhost "+upstream)...)
	t.Setenv("XDG_DATA_HOME", e.data)
	e.process = start(t, program, "run", "--config", writeFile(t, "Caddyfile", text),
		"--adapter", "caddyfile")
	e.await("health", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + e.http + "/edge/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// client returns one that trusts the roots, finds every host at the edge's port, and asks it for
// the name.
func (e *tlsEdge) client(name string, roots *x509.CertPool) *http.Client {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, "127.0.0.1:"+e.https)
	}
	transport := &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name},
	}
	return &http.Client{Transport: transport}
}

// roots trusts the authority of an internal edge.
func (e *tlsEdge) roots() *x509.CertPool {
	e.t.Helper()
	file := filepath.Join(e.data, "caddy", "pki", "authorities", "local", "root.crt")
	text, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// whoAsks is an application that tells what it learned of a request.
func whoAsks(t *testing.T) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "for=%s proto=%s host=%s typed=%s", r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Forwarded-Proto"), r.Host, r.Header.Get("X-Forwarded-Host"))
	}))
	t.Cleanup(app.Close)
	return port(t, app)
}

// asked returns what whoAsks answers a request to the host, which the client typed as another one if a
// gateway changed it.
func asked(client, proto, host string, typed ...string) string {
	return fmt.Sprintf("for=%s proto=%s host=%s typed=%s", client, proto, host,
		append(typed, host)[0])
}

// TestEdgeForms has the real Caddy read the configuration of each form.
func TestEdgeForms(t *testing.T) {
	program := peers.Find(t, "caddy", "caddy")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	cert, _ := certificate(t, edgeHost)
	for name, e := range map[string]stacks.EdgeSettings{
		"none":    {},
		"gateway": {Address: "0.0.0.0", TrustedProxies: []string{"10.1.0.0/16", "fd00::7/128"}},
		"acme": {Host: edgeHost, OwnTLS: &stacks.EdgeTLS{
			ACME: &stacks.ACME{Email: "admin@example.com"},
		}},
		"acme elsewhere": {Host: edgeHost, OwnTLS: &stacks.EdgeTLS{
			ACME: &stacks.ACME{
				Email:     "admin@example.com",
				Directory: "https://ca.example.com/acme/directory",
			},
		}},
		"certificate":       {OwnTLS: &stacks.EdgeTLS{Certificate: cert}},
		"named certificate": {Host: edgeHost, OwnTLS: &stacks.EdgeTLS{Certificate: cert}},
		"internal":          {OwnTLS: &stacks.EdgeTLS{Internal: true}},
		"internal, open": {Host: edgeHost, Address: "0.0.0.0",
			OwnTLS: &stacks.EdgeTLS{Internal: true}},
		"internal, at an address": {Address: "fd00::8", OwnTLS: &stacks.EdgeTLS{Internal: true}},
	} {
		t.Run(name, func(t *testing.T) {
			stack := load(t, "prod", edgeTLS(e))
			if err := stack.Validate(); err != nil {
				t.Fatal(err)
			}

			text := stack.Service(stacks.Edge).Files[0].Content
			out, err := exec.Command(program, "validate", "--adapter", "caddyfile", "--config",
				writeFile(t, "Caddyfile", text)).CombinedOutput()
			if err != nil || strings.Contains(string(out), `"level":"error"`) {
				t.Errorf("%v\n%s\n%s", err, out, text)
			}
		})
	}
}

// TestEdgeInternal serves people with certificates of its own authority, by HTTP/2 and 3, leads
// those there who come by HTTP, and has the same certificate after it was gone.
func TestEdgeInternal(t *testing.T) {
	settings := stacks.EdgeSettings{Host: edgeHost, Port: 9443, OwnTLS: &stacks.EdgeTLS{
		Internal: true,
	}}
	upstream, data := whoAsks(t), t.TempDir()
	e := startTLS(t, settings, upstream, data)

	var leaf []byte
	for _, name := range []string{edgeHost, "localhost", "127.0.0.1"} {
		req := request(t, http.MethodGet, "https://"+name+"/chat", nil)
		req.Header.Set("X-Forwarded-Proto", "http")
		var resp *http.Response
		var body string
		e.await("a certificate for "+name, func() bool {
			var err error
			resp, err = e.client(name, e.roots()).Do(req)
			return err == nil
		})
		body = readAll(t, resp)
		if want := asked("127.0.0.1", "https", name); body != want || resp.ProtoMajor != 2 {
			t.Errorf("%s by %s, want %s by HTTP/2", body, resp.Proto, want)
		}

		hsts := "max-age=31536000"
		if name == "localhost" {
			hsts = ""
		}
		if got := resp.Header.Get("Strict-Transport-Security"); got != hsts {
			t.Errorf("%s: Strict-Transport-Security: %q", name, got)
		}
		if got := resp.Header.Values("Alt-Svc"); len(got) != 1 || got[0] != `h3=":9443"; ma=86400` {
			t.Errorf("%s: Alt-Svc: %q", name, got)
		}
		if name == edgeHost {
			leaf = resp.TLS.PeerCertificates[0].Raw
		}
	}

	third, err := e.http3Client(edgeHost, e.roots()).Get("https://" + edgeHost + "/chat")
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, third); got != asked("127.0.0.1", "https", edgeHost) {
		t.Errorf("%s by %s", got, third.Proto)
	}

	once := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	resp, err := once.Get("http://127.0.0.1:" + e.http + "/c/x?y=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusPermanentRedirect ||
		to != "https://"+edgeHost+":9443/c/x?y=1" || resp.Header.Get("Server") != "" {
		t.Errorf("plain HTTP: %s to %s, %v", resp.Status, to, resp.Header)
	}

	e.stop(time.Minute)
	again := startTLS(t, settings, upstream, data)
	again.await("the certificate", func() bool {
		resp, err = again.client(edgeHost, again.roots()).Get("https://" + edgeHost)
		return err == nil
	})
	resp.Body.Close()
	if string(resp.TLS.PeerCertificates[0].Raw) != string(leaf) {
		t.Error("another certificate after a restart")
	}
}

// TestEdgeInternalWithoutName serves who asks for an address, and so names no host.
func TestEdgeInternalWithoutName(t *testing.T) {
	e := startTLS(t, stacks.EdgeSettings{OwnTLS: &stacks.EdgeTLS{Internal: true}}, whoAsks(t),
		t.TempDir())
	req := request(t, http.MethodGet, "https://127.0.0.1/", nil)
	e.await("a certificate", func() bool {
		resp, err := e.client("127.0.0.1", e.roots()).Do(req)
		return err == nil && strings.Contains(readAll(t, resp), "proto=https")
	})
}

// TestEdgeTrustsProxies holds who is believed about scheme, host and address: nobody but the
// gateways, and of the addresses that these pass on only those that they have seen themselves.
func TestEdgeTrustsProxies(t *testing.T) {
	const claimed, typed = "6.6.6.6, 7.7.7.7", "typed.example"
	for name, tc := range map[string]struct {
		proxies []string
		want    string
	}{
		"nobody":     {nil, asked("127.0.0.1", "http", edgeHost)},
		"others":     {[]string{"10.0.0.0/8"}, asked("127.0.0.1", "http", edgeHost)},
		"a gateway":  {[]string{"127.0.0.0/8"}, asked("7.7.7.7", "https", edgeHost, typed)},
		"and a next": {[]string{"127.0.0.0/8", "7.7.7.7/32"}, asked("6.6.6.6", "https", edgeHost, typed)},
	} {
		t.Run(name, func(t *testing.T) {
			program := peers.Find(t, "caddy", "caddy")
			stack := load(t, "prod", edgeTLS(stacks.EdgeSettings{TrustedProxies: tc.proxies}))
			free := peers.FreePort(t, "127.0.0.1")
			text := replaced(t, stack.Service(stacks.Edge).Files[0].Content,
				":8080 {", "http://:"+free+" {",
				"dynamic a gate 8003", "dynamic a localhost "+whoAsks(t))
			p := start(t, program, "run", "--config", writeFile(t, "Caddyfile", text),
				"--adapter", "caddyfile")
			req := request(t, http.MethodGet, "http://127.0.0.1:"+free+"/", nil)
			req.Header.Set("X-Forwarded-For", claimed)
			req.Header.Set("X-Forwarded-Proto", "https")
			req.Header.Set("X-Forwarded-Host", typed)
			req.Host = edgeHost
			var body string
			p.await("an answer", func() bool {
				resp, err := http.DefaultClient.Do(req)
				if err == nil {
					body = readAll(t, resp)
				}
				return err == nil
			})
			if body != tc.want {
				t.Errorf("got %s, want %s", body, tc.want)
			}
		})
	}
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}
