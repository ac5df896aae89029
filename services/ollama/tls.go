package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// shakeTime bounds a handshake.
const shakeTime = 10 * time.Second

// front ends TLS before a server that has none. It hands the bytes of each connection on to one of
// its own, and ends both when either side ends one: a client that goes ends its answer.
type front struct {
	listener net.Listener
	server   string // the server's address
}

// newFront returns a front at the port for the server that OLLAMA_HOST names, or nil where the
// variables of TLS are not set. They are those of the stack's other services (services/contract).
func newFront(port int) (*front, error) {
	file := os.Getenv("TLS_CERTIFICATE_FILE")
	if file == "" {
		return nil, nil
	}

	config, err := tlsConfig(file, os.Getenv("TLS_AUTHORITIES_FILE"),
		strings.Split(os.Getenv("TLS_CALLERS"), ","))
	if err != nil {
		return nil, err
	}

	l, err := tls.Listen("tcp", fmt.Sprintf(":%d", port), config)
	if err != nil {
		return nil, err
	}

	return &front{listener: l, server: os.Getenv("OLLAMA_HOST")}, nil
}

// tlsConfig returns what lets in the callers alone, by their certificates.
func tlsConfig(certificate, authorities string, callers []string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return nil, fmt.Errorf("TLS_CERTIFICATE_FILE: %w", err)
	}

	pem, err := os.ReadFile(authorities)
	if err != nil {
		return nil, fmt.Errorf("TLS_AUTHORITIES_FILE: %w", err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS_AUTHORITIES_FILE: %s holds no certificate", authorities)
	}

	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{own},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		SessionTicketsDisabled: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			if name := c.PeerCertificates[0].Subject.CommonName; !slices.Contains(callers, name) {
				return fmt.Errorf("%q does not call this service", name)
			}
			return nil
		},
	}, nil
}

// serve accepts connections until the listener closes.
func (f *front) serve() {
	for {
		c, err := f.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no file descriptors are left, for a moment
			time.Sleep(100 * time.Millisecond)
		default:
			go f.hand(c.(*tls.Conn))
		}
	}
}

// hand hands a connection on.
func (f *front) hand(client *tls.Conn) {
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(shakeTime))
	if err := client.Handshake(); err != nil {
		fmt.Fprintf(os.Stderr, "drain: %s is refused: %v\n", client.RemoteAddr(), err)
		return
	}
	_ = client.SetDeadline(time.Time{})

	server, err := net.Dial("tcp", f.server)
	if err != nil {
		return // it starts, or has ended
	}
	defer server.Close()

	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go pass(server, client)
	go pass(client, server)
	<-ended
}
