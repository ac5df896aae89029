package outside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// patience is how long an attempt waits for its answer.
const patience = 5 * time.Second

// Kinds of attempts.
const (
	TCP = "tcp" // connects, asks for its word by HTTP and waits for an answer that has it
	UDP = "udp" // does so by a datagram
	DNS = "dns" // asks a server for the address of the word, as a name
)

// Attempt is one try to reach somebody.
type Attempt struct {
	// What is tried, as a table of results has it.
	What string
	Kind string

	// Address is host:port of the server.
	Address string

	// Word is what is said, which shows whose attempt arrived. From sets it.
	Word string
}

// Outcome is what becomes of an attempt.
type Outcome string

// The outcomes, from the worst.
const (
	Answered Outcome = "answered"
	Arrives  Outcome = "arrives" // somebody outside gets it, and cannot answer
	Leaves   Outcome = "leaves"  // it is seen outside, and no machine takes it
	Nothing  Outcome = "no"      // nothing of it is seen outside
)

// Result is what became of an attempt.
type Result struct {
	Attempt
	Outcome Outcome

	// Why says why there was no answer.
	Why string
}

// String returns the result as a test reports it.
func (r Result) String() string {
	return fmt.Sprintf("%s (%s %s): %s %s", r.What, r.Kind, r.Address, r.Outcome, r.Why)
}

// Try makes all attempts at once, and tells Answered from Nothing.
func Try(ctx context.Context, attempts []Attempt) []Result {
	out := make([]Result, len(attempts))
	var all sync.WaitGroup
	for i, a := range attempts {
		all.Go(func() {
			out[i] = Result{Attempt: a, Outcome: Answered}
			if err := a.try(ctx); err != nil {
				out[i].Outcome, out[i].Why = Nothing, err.Error()
			}
		})
	}

	all.Wait()
	return out
}

func (a Attempt) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	network, say := a.Kind, fmt.Appendf(nil, "GET /%s HTTP/1.0\r\n\r\n", a.Word)
	if a.Kind == DNS {
		query, err := new(dns.Msg).SetQuestion(a.Word+".test.", dns.TypeA).Pack()
		if err != nil {
			return err
		}
		network, say = "udp", query
	}

	conn, err := new(net.Dialer).DialContext(ctx, network, a.Address)
	if err != nil {
		return err
	}
	defer conn.Close()

	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(say); err != nil {
		return err
	}

	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer")
	case err != nil:
		return err
	case a.Kind == DNS:
		return resolved(answer[:n])
	case !bytes.Contains(answer[:n], []byte(a.Word)):
		return fmt.Errorf("somebody else answered: %q", answer[:n]) // a network may answer for all
	}

	return nil
}

// resolved returns an error unless the packet has an address.
func resolved(packet []byte) error {
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		return err
	}
	if len(m.Answer) == 0 {
		return fmt.Errorf("no address: %s", dns.RcodeToString[m.Rcode])
	}
	return nil
}
