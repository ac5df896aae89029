// Package mtls is TLS between the services of a stack. Each side shows a certificate of the stack's
// own authority, of which it holds the other's name against what it expects: a client the name that
// it calls, a server those of its callers.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Identity is how a service shows who it is, and whom it believes. A nil one is of a stack whose
// services speak plain HTTP.
type Identity struct {
	certificate tls.Certificate
	authorities *x509.CertPool

	// callers are the names of those that may call the service, itself included: it asks itself
	// whether it is well.
	callers []string
}

// Open reads the files of the variables. It returns nil where there are none.
func Open(v contract.TLS) (*Identity, error) {
	if v.TLSCertificateFile == "" {
		return nil, nil
	}

	c, err := contract.Certificate("TLS_CERTIFICATE_FILE", v.TLSCertificateFile)
	if err != nil {
		return nil, err
	}

	authorities, err := contract.Authorities("TLS_AUTHORITIES_FILE", v.TLSAuthoritiesFile)
	if err != nil {
		return nil, err
	}

	i := &Identity{certificate: c, authorities: authorities}
	i.callers = append(slices.Clone(v.TLSCallers), i.Name())
	return i, nil
}

// Name returns the service's name.
func (i *Identity) Name() string { return i.certificate.Leaf.Subject.CommonName }

// Expires returns when the certificate is no longer good.
func (i *Identity) Expires() time.Time { return i.certificate.Leaf.NotAfter }

// Server returns what the service serves with; nil for a nil identity. It lets in clients without a
// certificate as well, as the probes of a cluster have none: what they may ask is the server's to
// say (Known).
func (i *Identity) Server() *tls.Config {
	if i == nil {
		return nil
	}

	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{i.certificate},
		ClientAuth:             tls.VerifyClientCertIfGiven,
		ClientCAs:              i.authorities,
		VerifyConnection:       i.isCaller,
		SessionTicketsDisabled: true,
	}
}

func (i *Identity) isCaller(c tls.ConnectionState) error {
	if !Known(&c) {
		return nil
	}

	name := c.PeerCertificates[0].Subject.CommonName
	if !slices.Contains(i.callers, name) {
		return fmt.Errorf("%q does not call %s", name, i.Name())
	}

	return nil
}

// Known reports whether the client of a connection has shown who it is.
func Known(c *tls.ConnectionState) bool { return c != nil && len(c.VerifiedChains) > 0 }

// Client returns what the service calls others with; nil for a nil identity. Whoever connects sets
// the name of the one that is called.
func (i *Identity) Client() *tls.Config {
	if i == nil {
		return nil
	}

	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{i.certificate},
		RootCAs:      i.authorities,
	}
}
