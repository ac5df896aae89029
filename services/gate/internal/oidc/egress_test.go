package oidc

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/egress"
)

// TestEgress asks the provider through the proxy of a private stack, the program itself, and says
// what to do where that does not let through.
func TestEgress(t *testing.T) {
	there := httptest.NewUnstartedServer(nil)
	there.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer": %[1]q, "authorization_endpoint": "%[1]s/a", `+
			`"token_endpoint": "%[1]s/t", "jwks_uri": "%[1]s/k"}`, there.URL)
	})
	there.StartTLS()
	t.Cleanup(there.Close)
	host := there.Listener.Addr().String()

	for destination, refused := range map[string]string{
		host: "",
		"id.example.com:443": "the egress refuses " + host +
			": add it to codexcontinue:egress.hosts",
	} {
		cfg := Config{Issuer: there.URL, Proxy: egress.Start(t, destination).URL}
		cfg.Authorities = x509.NewCertPool()
		cfg.Authorities.AddCert(there.Certificate())
		c := New(cfg, nil, slog.New(slog.DiscardHandler))
		err := c.discover(t.Context())
		c.http.CloseIdleConnections()
		if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("through an egress to %s: %v", destination, err)
		}
	}
}
