// Package storage starts a real server of S3, versitygw, for a test.
package storage

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Server is a versitygw of the test's own, with TLS and one bucket, backups.
type Server struct {
	// URL is https://host:port, and CAFile the certificate that it shows.
	URL, CAFile string
	Authorities *x509.CertPool

	AccessKey, SecretKey string

	// Dir is where the bucket is a directory.
	Dir string
}

// Bucket is the name of a Server's bucket.
const Bucket = "backups"

// Start starts the versitygw on PATH at an address of this machine. Without one the test is skipped.
func Start(t testing.TB, host string) *Server {
	t.Helper()
	program := peers.Find(t, "versitygw", "versitygw")
	s := &Server{AccessKey: "access", SecretKey: "a secret key", Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.Dir, Bucket), 0o700); err != nil {
		t.Fatal(err)
	}

	key := s.certificate(t, host)
	address := net.JoinHostPort(host, peers.FreePort(t, host))
	s.URL = "https://" + address
	var out bytes.Buffer
	c := exec.Command(program, "--port", address,
		"--cert", s.CAFile, "--key", key, "--quiet", "posix", s.Dir)
	c.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})

	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.Authorities},
	}}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get(s.URL)
		if err == nil {
			resp.Body.Close()
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("versitygw does not answer: %v\n%s", err, out.String())
		}
	}
}

// certificate writes a certificate of its own, and returns the file of its key.
func (s *Server) certificate(t testing.TB, host string) (keyFile string) {
	t.Helper()
	cert, key := peers.Certificate(t, host)
	s.Authorities = x509.NewCertPool()
	s.Authorities.AppendCertsFromPEM([]byte(cert))

	dir := t.TempDir()
	s.CAFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string]string{s.CAFile: cert, keyFile: key} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return keyFile
}
