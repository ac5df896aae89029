// Package nameserver is a name server for tests, and asks others.
package nameserver

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Server answers the questions of a test for IPv4 addresses, and keeps all that it is asked.
type Server struct {
	Address string // host:port

	mu     sync.Mutex
	silent bool
	asked  []string
}

// Start starts a server at a loopback address, over UDP and TCP, until the test ends. addresses
// returns those of a name, which has no dot at its end; a name without any does not exist.
func Start(t testing.TB, addresses func(name string) []netip.Addr) *Server {
	t.Helper()
	s := &Server{Address: net.JoinHostPort("127.0.0.1", peers.FreePort(t, "127.0.0.1"))}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		if s.hears(question) {
			_ = w.WriteMsg(Answer(question, addresses))
		}
	})
	for _, network := range []string{"udp", "tcp"} {
		listening, stopped := make(chan struct{}), make(chan error, 1)
		server := &dns.Server{Addr: s.Address, Net: network, Handler: handler,
			NotifyStartedFunc: func() { close(listening) }}
		go func() { stopped <- server.ListenAndServe() }()
		select {
		case <-listening:
		case err := <-stopped:
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Shutdown(); <-stopped })
	}

	return s
}

// Silence has the server give no answer while on is set.
func (s *Server) Silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = on
}

// Asked returns the names that were asked for, each with a dot at its end, as they were written.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// hears keeps what is asked, and reports whether there is an answer.
func (s *Server) hears(m *dns.Msg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range m.Question {
		s.asked = append(s.asked, q.Name)
	}
	return !s.silent
}

// Answer returns that to a question for the addresses of a name.
func Answer(question *dns.Msg, addresses func(name string) []netip.Addr) *dns.Msg {
	m := new(dns.Msg).SetReply(question)
	m.Authoritative, m.RecursionAvailable = true, true
	if len(m.Question) != 1 {
		return m.SetRcode(question, dns.RcodeFormatError)
	}

	q := m.Question[0]
	found := addresses(strings.TrimSuffix(q.Name, "."))
	if len(found) == 0 {
		m.Rcode = dns.RcodeNameError
	}
	for _, a := range found {
		if q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{A: a.AsSlice(), Hdr: dns.RR_Header{
				Name: q.Name, Rrtype: dns.TypeA, Class: q.Qclass, Ttl: 1,
			}})
		}
	}

	return m
}

// Ask asks a server, by udp or tcp, for the records of a type, such as [dns.TypeA].
func Ask(network, address, name string, kind uint16) (*dns.Msg, error) {
	client := dns.Client{Net: network, Timeout: 20 * time.Second}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), address)
	return m, err
}
