package cli

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestSecureClient reaches the edge by its name before anybody else knows it, and checks its
// certificate where the way leads off this machine.
func TestSecureClient(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Asked", r.Host)
	}))
	defer server.Close()

	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	for address, local := range map[string]bool{"127.0.0.1": true, "0.0.0.0": true} {
		p := running.Port{Address: address, Host: int(at.Port()), TLS: true}
		resp, err := secureClient(p, local).Get("https://chat.nowhere.example:9443/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Asked"); got != "chat.nowhere.example:9443" {
			t.Errorf("at %s asked for %s", address, got)
		}

		_, err = secureClient(p, false).Get("https://chat.nowhere.example:9443/")
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with an engine elsewhere: %v", err)
		}
	}
}
