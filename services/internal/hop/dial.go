package hop

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// dialTimeout bounds the wait for one address, handshakeTimeout that for TLS with who answers there,
// who may be busy, and avoidFor is how long an address comes last after it refused.
const (
	dialTimeout      = 2 * time.Second
	handshakeTimeout = 5 * time.Second
	avoidFor         = 5 * time.Second
)

// dialer connects to any of a name's addresses. The name is resolved for each connection, as the
// containers behind it change; an address that has refused lately is tried after the others,
// because the name keeps resolving to a container that stops or starts.
type dialer struct {
	net.Dialer
	lookup func(ctx context.Context, host string) ([]string, error)

	mu      sync.Mutex
	avoided map[string]time.Time // by address, until when
}

func newDialer() *dialer {
	return &dialer{Dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second},
		lookup: func(ctx context.Context, host string) ([]string, error) {
			return net.DefaultResolver.LookupHost(ctx, host)
		},
		avoided: map[string]time.Time{}}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}

	hosts, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}

	var errs []error
	for _, a := range d.order(hosts, port) {
		conn, err := d.DialContext(ctx, network, a)
		if err == nil {
			return conn, nil
		}

		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}

		d.avoid(a)
	}

	return nil, errors.Join(errs...)
}

// order returns the addresses of the hosts, those that are avoided last.
func (d *dialer) order(hosts []string, port string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first, last []string
	now := time.Now()
	for _, h := range hosts {
		a := net.JoinHostPort(h, port)
		if d.avoided[a].After(now) {
			last = append(last, a)
		} else {
			delete(d.avoided, a)
			first = append(first, a)
		}
	}

	return slices.Concat(first, last)
}

func (d *dialer) avoid(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for a, until := range d.avoided { // those of containers that are gone are not asked for again
		if until.Before(now) {
			delete(d.avoided, a)
		}
	}

	d.avoided[address] = now.Add(avoidFor)
}

// Secure makes the transport speak TLS to hosts of https as config says; nil changes nothing.
func Secure(t *http.Transport, config *tls.Config) { secure(t, func(string) {}, config) }

// secure makes the transport speak TLS. A connection is made when the handshake is over: one that
// ends before that counts as refused, and its address is avoided.
func secure(t *http.Transport, avoid func(address string), config *tls.Config) {
	if config == nil {
		return
	}

	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		plain, err := t.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}

		named := config.Clone()
		if named.ServerName == "" {
			named.ServerName, _, _ = net.SplitHostPort(address)
		}

		conn := tls.Client(plain, named)
		shaking, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := conn.HandshakeContext(shaking); err != nil {
			plain.Close()
			if ctx.Err() == nil { // else the caller ended it
				avoid(plain.RemoteAddr().String())
			}
			return nil, &net.OpError{Op: "dial", Net: network, Addr: plain.RemoteAddr(), Err: err}
		}

		return conn, nil
	}
}
