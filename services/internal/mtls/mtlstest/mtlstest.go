// Package mtlstest makes the files by which services of tests speak TLS with each other.
package mtlstest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

// Files writes the files of a service of the authority that the text is, and returns the variables
// that name them.
func Files(t *testing.T, text, service string, callers ...string) contract.TLS {
	t.Helper()
	a, err := authority.Parse(text)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	v := contract.TLS{
		TLSCertificateFile: filepath.Join(dir, "certificate.pem"),
		TLSAuthoritiesFile: filepath.Join(dir, "authorities.pem"),
		TLSCallers:         callers,
	}
	for file, content := range map[string]string{
		v.TLSCertificateFile: a.Issue(service), v.TLSAuthoritiesFile: a.Trusted(),
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return v
}

// New returns the identity of a service of the authority that the text is.
func New(t *testing.T, text, service string, callers ...string) *mtls.Identity {
	t.Helper()
	i, err := mtls.Open(Files(t, text, service, callers...))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Now returns the text of an authority that is good now.
func Now() string { return authority.New(time.Now()) }
