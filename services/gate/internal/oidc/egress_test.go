package oidc

import (
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestEgress asks the provider through the proxy of the stack, and says what to do where that does
// not let through.
func TestEgress(t *testing.T) {
	const issuer = "https://example.com" // as the certificate of httptest has it
	there := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer": %q, "authorization_endpoint": "https://example.com/a", `+
			`"token_endpoint": "https://example.com/t", "jwks_uri": "https://example.com/k"}`, issuer)
	}))
	t.Cleanup(there.Close)
	authorities := x509.NewCertPool()
	authorities.AddCert(there.Certificate())

	var asked string
	refuses := false
	egress := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.Host
		if refuses {
			http.Error(w, "no", http.StatusForbidden)
			return
		}

		to, err := net.Dial("tcp", there.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()

		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()

		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, here) }()
		_, _ = io.Copy(here, to)
	}))
	t.Cleanup(egress.CloseClientConnections)
	proxy, err := url.Parse(egress.URL)
	if err != nil {
		t.Fatal(err)
	}

	cfg := Config{Issuer: issuer, Authorities: authorities, Proxy: proxy}
	c := New(cfg, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(c.http.CloseIdleConnections)
	if err := c.discover(t.Context()); err != nil || asked != "CONNECT example.com:443" {
		t.Errorf("asked by %q: %v", asked, err)
	}

	refuses = true
	c = New(cfg, nil, slog.New(slog.DiscardHandler))
	err = c.discover(t.Context())
	if err == nil || !strings.Contains(err.Error(),
		"the egress refuses example.com:443: add it to codexcontinue:egress.hosts") {
		t.Errorf("refused: %v", err)
	}
}
