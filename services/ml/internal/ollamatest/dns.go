package ollamatest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/nameserver"
)

// Resolve lets this process's resolver ask a name server that knows one host, until the test
// ends. addresses is asked for each question; without any the host does not exist, as a headless
// Service does not while none of its pods is ready. An Ollama that listens on the loopback
// interface refuses the names of strangers; those that end in .internal it takes. Tests that use
// it must not run in parallel.
func Resolve(t testing.TB, host string, addresses func() []string) {
	t.Helper()
	server := nameserver.Start(t, func(name string) []netip.Addr {
		var found []netip.Addr
		if strings.EqualFold(name, host) {
			for _, a := range addresses() {
				found = append(found, netip.MustParseAddr(a))
			}
		}
		return found
	})

	original := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = original })
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", server.Address)
		},
	}
}
