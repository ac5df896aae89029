// Package contract is what the environments of all services have in common. Each service has its
// own beside it (services/NAME/NAMEenv): a struct whose fields name the variables that the service
// reads. infra renders the struct into the container's environment with Render, and the service
// reads the same struct with Parse, so that no variable is set in vain and none is missing.
//
// Every variable is explicit. A field is required, and an empty value is as bad as a missing one,
// unless the field is tagged `optional:"true"`.
package contract

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Environment is the environment of a service: a pointer to a struct that embeds Common.
type Environment interface {
	// Shared returns the variables that every service has.
	Shared() *Common

	// LongestAnswer returns how long the service may take to answer a request. A drain that is
	// shorter cuts answers. It is 0 for a service that answers at once.
	LongestAnswer() time.Duration

	// Validate reports every field whose value cannot work, by its variable's name.
	Validate() error
}

// Common holds what every service reads.
type Common struct {
	// Environment is the stack's name as shown to people and in logs: dev, prod, healthcare, ...
	Environment string `env:"ENVIRONMENT,required,notEmpty"`

	// LogLevel is one of debug, info, warn, error.
	LogLevel string `env:"LOG_LEVEL,required,notEmpty"`

	// Debug turns on debug logs with source positions, whatever LogLevel is, and the endpoints of
	// /debug/pprof.
	Debug bool `env:"DEBUG,required"`

	// ListenAddr is the TCP address that the service listens on, such as ":8000".
	ListenAddr string `env:"LISTEN_ADDR,required,notEmpty"`

	// DrainTimeout bounds how long a stopping service waits for requests and streams in flight.
	// The container's stop grace period must be longer.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT,required"`

	TLS
}

// Shared implements Environment for the structs that embed c.
func (c *Common) Shared() *Common { return c }

// LongestAnswer implements Environment for services that answer at once.
func (c *Common) LongestAnswer() time.Duration { return 0 }

// Validate checks the variables that every service has.
func (c *Common) Validate() error {
	var errs []error
	levels := []string{"debug", "info", "warn", "error"}
	if !slices.Contains(levels, strings.ToLower(c.LogLevel)) {
		errs = append(errs, fmt.Errorf("LOG_LEVEL: %q is none of %s", c.LogLevel,
			strings.Join(levels, ", ")))
	}

	if !strings.Contains(c.ListenAddr, ":") {
		errs = append(errs, fmt.Errorf("LISTEN_ADDR: %q has no port: write it like \":8000\"",
			c.ListenAddr))
	}

	return errors.Join(append(errs, Positive("DRAIN_TIMEOUT", c.DrainTimeout), c.TLS.validate())...)
}

// Parse reads the environment (as os.Environ returns it: KEY=VALUE) into the service's struct and
// validates it. All problems are reported at once, each with the name of its variable.
func Parse[T any, P interface {
	*T
	Environment
}](environ []string) (T, error) {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}

	var zero T
	cfg, err := env.ParseAsWithOptions[T](env.Options{Environment: vars})
	if err != nil {
		var agg env.AggregateError
		if errors.As(err, &agg) {
			return zero, fmt.Errorf("environment: %w", errors.Join(agg.Errors...))
		}
		return zero, fmt.Errorf("environment: %w", err)
	}

	if err := P(&cfg).Validate(); err != nil {
		return zero, err
	}

	return cfg, nil
}

// Secret reads a secret from the file that a *_FILE variable names. A trailing line break is not
// part of it. An empty path returns the empty secret; an unreadable or empty file is an error.
func Secret(variable, file string) (string, error) {
	if file == "" {
		return "", nil
	}

	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}

	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%s: %s is empty", variable, file)
	}

	return s, nil
}

// Authorities reads the certificates of authorities from the file of PEM that a *_CA_FILE variable
// names. An empty path returns nil, which stands for those of the system.
func Authorities(variable, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}

	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}

	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", variable, file)
	}

	return authorities, nil
}

// HTTPURL returns an error unless raw is http://host:port or https://host:port.
func HTTPURL(variable, raw string) error {
	_, err := baseURL(variable, raw, "http", "https")
	return err
}

// Positive returns an error unless d is above zero.
func Positive(variable string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: must be positive, got %s", variable, d)
	}
	return nil
}

// Absolute returns an error if the path is set and relative.
func Absolute(variable, p string) error {
	if p != "" && !path.IsAbs(p) {
		return fmt.Errorf("%s: %q is not an absolute path", variable, p)
	}
	return nil
}

// baseURL accepts scheme://host:port. The port is explicit, because clients disagree on the default
// of a missing one.
func baseURL(variable, raw string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: not a URL (write it like %s://host:port)", variable, schemes[0])
	}

	if !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("%s: scheme %q is none of %s", variable, u.Scheme,
			strings.Join(schemes, ", "))
	}

	if u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("%s: %q needs a host and a port: %s://host:port",
			variable, u.Redacted(), u.Scheme)
	}

	return u, nil
}

// addresses returns an error for each address that is not host:port.
func addresses(variable string, list []string) error {
	var errs []error
	for _, a := range list {
		host, port, err := net.SplitHostPort(a)
		n, numErr := strconv.Atoi(port)
		if err != nil || host == "" || numErr != nil || n < 1 || n > 65535 {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port", variable, a))
		}
	}

	return errors.Join(errs...)
}
