// Package egress runs the proxy by which a private stack goes out, for tests of what asks it.
package egress

import (
	"context"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Start runs the program until the test ends, which lets through to the destinations, host:port
// each, and returns where it is asked.
func Start(t testing.TB, destinations ...string) *url.URL {
	t.Helper()
	program := filepath.Join(t.TempDir(), "egress")
	if out, err := exec.Command("go", "build", "-o", program,
		"github.com/codexcontinue/codexcontinue/services/egress").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	proxy := &url.URL{Scheme: "http", Host: "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")}
	environ, err := contract.Environ(&egressenv.Config{
		Common: contract.Common{Environment: "test", LogLevel: "info", ListenAddr: proxy.Host,
			DrainTimeout: time.Second},
		Destinations: destinations,
	})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	egress := exec.CommandContext(ctx, program)
	egress.Env = environ
	if err := egress.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = egress.Wait()
	})

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(proxy.String() + "/health")
		if err == nil {
			resp.Body.Close()
			return proxy
		}
		if time.Now().After(deadline) {
			t.Fatalf("the egress does not answer: %v", err)
		}
	}
}
