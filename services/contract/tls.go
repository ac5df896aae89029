package contract

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
)

// TLS holds the variables of a service that speaks TLS with the others of its stack, in which each
// side shows a certificate of the stack's own authority. They are empty where services speak plain
// HTTP. A service that is not one of this repository's takes the same variables.
type TLS struct {
	// TLSCertificateFile is the path of a file with the service's certificate and its key, as PEM.
	TLSCertificateFile string `env:"TLS_CERTIFICATE_FILE" optional:"true"`

	// TLSAuthoritiesFile is the path of a file with the certificates, as PEM, of the authorities
	// whose certificates are believed.
	TLSAuthoritiesFile string `env:"TLS_AUTHORITIES_FILE" optional:"true"`

	// TLSCallers names the services that may call this one.
	TLSCallers []string `env:"TLS_CALLERS" optional:"true"`
}

func (t *TLS) validate() error {
	if (t.TLSCertificateFile == "") != (t.TLSAuthoritiesFile == "") {
		return errors.New("TLS_CERTIFICATE_FILE: it and TLS_AUTHORITIES_FILE belong together")
	}
	if t.TLSCertificateFile == "" && len(t.TLSCallers) > 0 {
		return errors.New("TLS_CALLERS: is set, but TLS_CERTIFICATE_FILE is not")
	}

	return errors.Join(
		Absolute("TLS_CERTIFICATE_FILE", t.TLSCertificateFile),
		Absolute("TLS_AUTHORITIES_FILE", t.TLSAuthoritiesFile),
	)
}

// Caller is the environment of a service that calls others of the stack by HTTP.
type Caller interface {
	Environment

	// Peers returns the base URLs of those that it calls.
	Peers() []*string
}

// Certificate reads a certificate and its key, as PEM, from the file that a *_FILE variable names.
func Certificate(variable, file string) (tls.Certificate, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", variable, err)
	}

	c, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		return c, fmt.Errorf("%s: %s holds no certificate with its key (%w): if it is made of the "+
			"stack's secret internalAuthority, make that anew with `codexctl certificates new`",
			variable, file, err)
	}

	return c, nil
}
