package ollamatest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolve lets this process's resolver ask a name server that knows one host, until the test
// ends. addresses is asked for each question; without any the host does not exist, as a headless
// Service does not while none of its pods is ready. An Ollama that listens on the loopback
// interface refuses the names of strangers; those that end in .internal it takes. Tests that use
// it must not run in parallel.
func Resolve(t testing.TB, host string, addresses func() []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n], host, addresses()); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()

	original := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
		},
	}

	t.Cleanup(func() {
		net.DefaultResolver = original
		conn.Close()
		<-done
	})
}

// answer is the reply to a question of one name, or nil to what is none.
func answer(question []byte, host string, addresses []string) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}

	q := m.Questions[0]
	m.Header = dnsmessage.Header{
		ID:                 m.ID,
		Response:           true,
		Authoritative:      true,
		RecursionDesired:   m.RecursionDesired,
		RecursionAvailable: true,
	}

	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	switch {
	case !strings.EqualFold(strings.TrimSuffix(q.Name.String(), "."), host) || len(addresses) == 0:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		for _, a := range addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
			})
		}
	}

	reply, err := m.Pack()
	if err != nil {
		return nil
	}

	return reply
}
