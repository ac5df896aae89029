package ollamatest

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/nameserver"
)

// nameServer is the address of the one of the test that runs, if it has one.
var nameServer atomic.Pointer[string]

// Main runs the tests of a package that uses Resolve; it is for TestMain. The process' resolver is
// replaced before anybody has read it: what a test leaves running may resolve names at any time.
func Main(m *testing.M) {
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if own := nameServer.Load(); own != nil {
				network, address = "udp", *own
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	os.Exit(m.Run())
}

// Resolve lets this process's resolver ask a name server that knows one host, until the test
// ends. addresses is asked for each question; without any the host does not exist, as a headless
// Service does not while none of its pods is ready. An Ollama that listens on the loopback
// interface refuses the names of strangers; those that end in .internal it takes. Tests that use
// it must not run in parallel, and their package needs Main.
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

	nameServer.Store(&server.Address)
	t.Cleanup(func() { nameServer.Store(nil) })
}
