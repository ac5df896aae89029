package stacks_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"golang.org/x/crypto/acme"
)

// TestEdgeRevoked: a certificate that its authority has revoked is replaced, long before it
// expires, when the edge asks the authority the next time whether to renew it (RFC 9773).
func TestEdgeRevoked(t *testing.T) {
	program := peers.Find(t, "pebble", "pebble")
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()

	edge := newTLSEdge(t, t.TempDir())
	authority := startAuthority(t, program, edge, 24*time.Hour, "localhost")
	directory := authority.impatient(t)
	settings := stacks.EdgeSettings{Host: edgeHost, OwnTLS: &stacks.EdgeTLS{
		ACME: &stacks.ACME{Email: "admin@example.com", Directory: directory},
	}}
	t.Setenv("SSL_CERT_FILE", authority.root)
	edge.start(t, settings, port(t, app),
		"persist_config off", "persist_config off\n\trenew_interval 1s")

	var leaf *x509.Certificate
	edge.await("a certificate", func() bool { leaf = edge.shown(); return leaf != nil })
	time.Sleep(3 * time.Second) // it asks three times
	if now := edge.shown(); now == nil || now.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Fatal("a certificate that is good was replaced")
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(fileText(t, authority.root)))
	client := &acme.Client{DirectoryURL: directory, HTTPClient: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}}
	err := client.RevokeCert(t.Context(), edge.key(), leaf.Raw, acme.CRLReasonKeyCompromise)
	if err != nil {
		t.Fatal(err)
	}

	var next *x509.Certificate
	edge.await("another certificate", func() bool {
		next = edge.shown()
		return next != nil && next.SerialNumber.Cmp(leaf.SerialNumber) != 0
	})

	if next.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(
		leaf.PublicKey) {
		t.Error("the new certificate has the key of the one that was revoked")
	}
}

// impatient returns the directory of the authority by way of a proxy, which has clients ask again
// after a second whether to renew, and not after six hours.
func (a authority) impatient(t *testing.T) string {
	t.Helper()
	to, err := url.Parse(a.directory)
	if err != nil {
		t.Fatal(err)
	}

	pair, err := tls.LoadX509KeyPair(a.root, a.key)
	if err != nil {
		t.Fatal(err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(fileText(t, a.root)))
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = r.In.Host // the authority makes URLs of it
		},
		ModifyResponse: func(r *http.Response) error {
			if strings.Contains(r.Request.URL.Path, "renewalInfo") {
				r.Header.Set("Retry-After", "1")
				return widen(r)
			}
			return nil
		},
	})

	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)

	return "https://localhost:" + port(t, proxy) + to.Path
}

// widen lets the time to renew be half an hour at least, as Let's Encrypt does. For a certificate
// that was revoked Pebble says a second an hour ago, which Caddy's client takes for no time at all.
func widen(r *http.Response) error {
	var info struct {
		Window struct {
			Start time.Time `json:"start"`
			End   time.Time `json:"end"`
		} `json:"suggestedWindow"`
	}

	if err := json.NewDecoder(r.Body).Decode(&info); err != nil {
		return err
	}

	if least := info.Window.Start.Add(30 * time.Minute); info.Window.End.Before(least) {
		info.Window.End = least
	}

	text, err := json.Marshal(info)
	if err != nil {
		return err
	}

	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// key returns that of the certificate which the edge got.
func (e *tlsEdge) key() crypto.Signer {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(e.data, "caddy", "certificates", "*", edgeHost,
		"*.key"))
	if err != nil || len(files) != 1 {
		e.t.Fatalf("keys %q, %v", files, err)
	}

	block, _ := pem.Decode([]byte(fileText(e.t, files[0])))
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		e.t.Fatal(err)
	}

	return key
}

func fileText(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
