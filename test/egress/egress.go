// Package egress runs the proxy by which a private stack goes out, for tests of what asks it.
package egress

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
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
	program := filepath.Join(t.TempDir(), "egress")
	if out, err := exec.Command("go", "build", "-o", program,
		"github.com/codexcontinue/codexcontinue/services/egress").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

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

	ctx, stop := context.WithCancel(context.Background())
	egress := exec.CommandContext(ctx, program)
	egress.Env, egress.Stdout, egress.Stderr = environ, p, p
	if err := egress.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = egress.Wait()
	})

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(p.URL.String() + "/health")
		if err == nil {
			resp.Body.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("the egress does not answer: %v", err)
		}
	}
}
