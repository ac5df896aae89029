// Package egress runs the proxy by which a private stack goes out, for tests of what asks it.
package egress

import (
	"bytes"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Proxy is one that runs.
type Proxy struct {
	URL *url.URL

	mu  sync.Mutex
	log bytes.Buffer
}

// Tunnels returns how many have ended.
func (p *Proxy) Tunnels() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.log.String(), `"msg":"tunnel"`)
}

// Write keeps what the program logs.
func (p *Proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// Start runs the program until the test ends, which lets through to the destinations, host:port
// each.
func Start(t testing.TB, destinations ...string) *Proxy {
	t.Helper()
	address := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	p := &Proxy{URL: &url.URL{Scheme: "http", Host: address}}
	environ, err := contract.Environ(&egressenv.Config{
		Common: contract.Common{Environment: "test", LogLevel: "info", ListenAddr: address,
			DrainTimeout: time.Second},
		Destinations: destinations,
	})
	if err != nil {
		t.Fatal(err)
	}

	peers.RunService(t, "egress", environ, p.URL.String()+"/health", p)
	return p
}
