package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
)

// healthTimeout bounds one health check. It is shorter than the container's own timeout, so that
// the reason is printed.
const healthTimeout = 3 * time.Second

// Healthcheck returns an error unless url answers 200. It is the healthcheck subcommand of a
// service, by which an image without a shell checks itself. If url is empty it is path at the
// LISTEN_ADDR of the environment.
func Healthcheck(ctx context.Context, environ []string, path, url string) error {
	if url == "" {
		local, err := LocalURL(environ)
		if err != nil {
			return fmt.Errorf("healthcheck: %w", err)
		}
		url = local + path
	}

	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}

	who, err := identity(environ)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}

	config := who.Client()
	if ip := net.ParseIP(req.URL.Hostname()); config != nil && ip != nil && ip.IsLoopback() {
		config.ServerName = who.Name() // itself
	}

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()

	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s answered %s: %s", url, resp.Status, body)
	}

	return nil
}

// identity returns the one of the service with this environment.
func identity(environ []string) (*mtls.Identity, error) {
	return mtls.Open(contract.TLS{
		TLSCertificateFile: variable(environ, "TLS_CERTIFICATE_FILE"),
		TLSAuthoritiesFile: variable(environ, "TLS_AUTHORITIES_FILE"),
	})
}

// variable returns the variable of the name, of which the last setting counts, as for os.Getenv.
func variable(environ []string, name string) (value string) {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// LocalURL returns the base URL of the service with this environment on this machine. It reads
// LISTEN_ADDR; an address without a host, or of all interfaces, becomes 127.0.0.1.
func LocalURL(environ []string) (string, error) {
	addr := variable(environ, "LISTEN_ADDR")
	if addr == "" {
		return "", errors.New("LISTEN_ADDR is not set: set it or give a URL")
	}

	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}

	scheme := "http://"
	if variable(environ, "TLS_CERTIFICATE_FILE") != "" {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port), nil
}
