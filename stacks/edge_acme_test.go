package stacks_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/egress"
	"github.com/codexcontinue/codexcontinue/test/nameserver"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// lifetime is that of the certificates that the authority of the test issues.
const lifetime = 20 * time.Second

// TestEdgeACME gets certificates from a real authority, through the egress of a private stack, and
// renews them while a stream goes on.
func TestEdgeACME(t *testing.T) {
	program := peers.Find(t, "pebble", "pebble")
	release := make(chan string)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case event := <-release:
				fmt.Fprintln(w, event)
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer app.Close()

	edge := newTLSEdge(t, t.TempDir())
	host := machineAddress(t)
	authority := startAuthority(t, program, edge, lifetime, host)
	proxy := egress.Start(t, authority.address)
	t.Setenv("HTTPS_PROXY", proxy.URL.String())
	t.Setenv("NO_PROXY", "localhost")
	settings := stacks.EdgeSettings{Host: edgeHost, OwnTLS: &stacks.EdgeTLS{
		ACME: &stacks.ACME{Email: "admin@example.com", Directory: authority.directory},
	}}
	t.Setenv("SSL_CERT_FILE", authority.root)
	edge.start(t, settings, port(t, app),
		"persist_config off", "persist_config off\n\trenew_interval 1s")

	// Who asks by what it was issued is not checked here: the root is Pebble's own, for this run.
	var leaf *x509.Certificate
	client := edge.client(edgeHost, nil)
	client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	edge.await("a certificate", func() bool { leaf = edge.shown(); return leaf != nil })
	if err := leaf.VerifyHostname(edgeHost); err != nil ||
		!strings.Contains(leaf.Issuer.CommonName, "Pebble") {
		t.Fatalf("a certificate of %s: %v", leaf.Issuer, err)
	}

	resp, err := client.Get("https://" + edgeHost + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	edge.await("another certificate", func() bool {
		next := edge.shown()
		return next != nil && next.SerialNumber.Cmp(leaf.SerialNumber) != 0
	})

	release <- "after the renewal"
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "after the renewal\n" {
		t.Errorf("the stream had %q, %v", line, err)
	}

	edge.await("the expiry of the first one", func() bool { return time.Now().After(leaf.NotAfter) })
	if next := edge.shown(); next == nil || time.Now().After(next.NotAfter) {
		t.Error("no certificate that is valid when the first has expired")
	}

	edge.stop(time.Minute)
	for deadline := time.Now().Add(time.Minute); proxy.Tunnels() == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the edge has not asked through the egress")
		}
	}
}

// machineAddress returns an address of this machine that is none of loopback, to which programs go
// without a proxy.
func machineAddress(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	peers.Missing(t, "network", errors.New("this machine has no address but loopback's"))
	return ""
}

// shown returns the certificate that the edge shows, nil if it shows none.
func (e *tlsEdge) shown() *x509.Certificate {
	conn, err := tls.Dial("tcp", "127.0.0.1:"+e.https,
		&tls.Config{ServerName: edgeHost, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer conn.Close()

	return conn.ConnectionState().PeerCertificates[0]
}

// authority is a real server of ACME.
type authority struct {
	address   string // host:port
	directory string // its URL
	root      string // a file with whom to trust about that
	key       string // a file with the key of that
}

// startAuthority starts one at the host that finds every name at the edge's ports. Its certificates
// have the lifetime.
func startAuthority(
	t *testing.T, program string, edge *tlsEdge, lifetime time.Duration, host string,
) authority {
	t.Helper()
	cert, key := certificate(t, host)
	a := authority{root: writeFile(t, "cert.pem", cert), key: writeFile(t, "key.pem", key)}
	a.address = net.JoinHostPort(host, peers.FreePort(t, host))
	a.directory = "https://" + a.address + "/dir"
	config := fmt.Sprintf(`{"pebble": {"listenAddress": %q, "certificate": %q, "privateKey": %q,
		"httpPort": %s, "tlsPort": %s,
		"profiles": {"default": {"description": "short", "validityPeriod": %d}}}}`,
		a.address, a.root, a.key, edge.http, edge.https,
		int(lifetime/time.Second))
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	names := nameserver.Start(t, func(string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	p := start(t, program, "-config", writeFile(t, "pebble.json", config), "-dnsserver", names.Address)
	p.await("an authority", func() bool {
		c, err := net.Dial("tcp", a.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	return a
}
