package ollamatest

import (
	"errors"
	"net"
	"net/url"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Fleet is several Ollamas on one port of 127.0.0.2 and up, as the pods behind a headless
// Service have one port.
type Fleet struct {
	Port    string
	Servers []*Server
}

// StartFleet starts so many, each with a store of its own.
func StartFleet(t testing.TB, n int) *Fleet { return startFleet(t, n, "") }

// StartReaders starts so many that read one store and cannot write to it. Where the machine cannot
// mount it read-only for them, the test is skipped.
func StartReaders(t testing.TB, n int, store string) *Fleet {
	t.Helper()
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespaces here, so no store can be mounted read-only: %v %s", err, out)
	}
	return startFleet(t, n, store)
}

func startFleet(t testing.TB, n int, store string) *Fleet {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs the whole of 127.0.0.0/8 on the loopback interface")
	}

	peers.Find(t, "ollama", "ollama")
	for attempt := 1; ; attempt++ {
		f := &Fleet{Port: peers.FreePort(t, "127.0.0.2")}
		var err error
		for i := range n {
			s := newServer(t, net.JoinHostPort("127.0.0."+strconv.Itoa(i+2), f.Port))
			if store != "" {
				s.Store, s.readOnly = store, true
			}
			f.Servers = append(f.Servers, s)
			err = errors.Join(err, s.start())
		}

		if err == nil {
			return f
		}

		for _, s := range f.Servers {
			s.Kill(t)
		}

		if attempt == 3 {
			t.Fatalf("%v\n%s", err, f.Servers[0].log.tail())
		}
	}
}

// ReadsEmpty returns the log of an Ollama that is started on an empty store to which it cannot
// write. It is empty if Ollama starts.
func ReadsEmpty(t testing.TB) string {
	t.Helper()
	s := newServer(t, "127.0.0.1:"+peers.FreePort(t, "127.0.0.1"))
	s.Store, s.readOnly = t.TempDir(), true
	if s.start() == nil {
		return ""
	}
	return s.log.tail()
}

// Address returns the server's IP address.
func (s *Server) Address() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		panic(err) // made by newServer
	}
	return u.Hostname()
}

// Addresses returns the addresses of the first n servers.
func (f *Fleet) Addresses(n int) []string {
	var out []string
	for _, s := range f.Servers[:n] {
		out = append(out, s.Address())
	}
	return out
}
