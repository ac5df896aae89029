// Package contract is the environment contract of the services: one struct per service, whose fields name the
// variables the service reads. infra renders the struct into the container's environment with Render and the
// service parses the same struct with Parse, so a variable can neither be set in vain nor be missing.
//
// Every variable is explicit: a field without a default is required, and an empty value is as bad as a missing one
// unless the field is tagged `optional:"true"`.
package contract

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Common holds what every service of the project reads.
type Common struct {
	// Environment is the stack's name as shown to people and in logs: dev, prod, healthcare, ...
	Environment string `env:"ENVIRONMENT,required,notEmpty"`
	// LogLevel is one of debug, info, warn, error.
	LogLevel string `env:"LOG_LEVEL,required,notEmpty"`
	// Debug turns on debug logs with source positions, whatever LogLevel says, and the /debug/pprof endpoints.
	Debug bool `env:"DEBUG,required"`
	// ListenAddr is the TCP address the service listens on, such as ":8000".
	ListenAddr string `env:"LISTEN_ADDR,required,notEmpty"`
	// DrainTimeout bounds how long a stopping service waits for requests and streams in flight. The container's stop
	// grace period must be longer.
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT,required"`
}

// Backend is the environment of the REST API (services/backend).
type Backend struct {
	Common
	// RedisURL is redis://host:port/db, or rediss:// for TLS, with a user's name where Redis has one (redis://user@host...).
	// Never with a password: that comes from RedisPasswordFile. It takes no parameters.
	RedisURL string `env:"REDIS_URL,required,notEmpty"`
	// RedisSentinels are the host:port of the Sentinels that know the master named RedisMaster. The host and port of
	// RedisURL are not used then; its scheme, user and database are. The scheme is for the Sentinels as well, and they are
	// offered the password of RedisPasswordFile, without RedisURL's user: a Sentinel has the password of the Redis it
	// watches (the charts' usual way) or none, and one without takes any.
	RedisSentinels []string `env:"REDIS_SENTINELS" optional:"true"`
	RedisMaster    string   `env:"REDIS_MASTER" optional:"true"`
	// RedisCluster are the host:port of nodes of a Redis Cluster, the first to be asked for all others. The host and port
	// of RedisURL are not used then.
	RedisCluster []string `env:"REDIS_CLUSTER" optional:"true"`
	// RedisCAFile is the path of a file with the certificates (PEM) of the authorities that sign those of Redis and of the
	// Sentinels, for a RedisURL with rediss://; empty trusts the authorities of the system. Certificates must name the
	// host or the IP address that the server is reached by: of Sentinels and of a Cluster that which they announce.
	RedisCAFile string `env:"REDIS_CA_FILE" optional:"true"`
	// RedisPasswordFile is the path of a file that holds the Redis password; empty when Redis asks for none.
	RedisPasswordFile string `env:"REDIS_PASSWORD_FILE" optional:"true"`
	// MLServiceURL is the base URL of the ml service.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`
	// DefaultModel answers when a request names no model.
	DefaultModel string `env:"DEFAULT_MODEL,required,notEmpty"`
	// ConversationTTL is how long an untouched conversation is kept; 0 keeps it for ever.
	ConversationTTL time.Duration `env:"CONVERSATION_TTL,required"`
	// GenerationTimeout bounds one answer, from when ml begins it to the last token.
	GenerationTimeout time.Duration `env:"GENERATION_TIMEOUT,required"`
}

// Frontend is the environment of the web UI (services/frontend).
type Frontend struct {
	Common
	// BackendURL is the base URL of the backend.
	BackendURL string `env:"BACKEND_URL,required,notEmpty"`
	// DomainFile is the path of a file that holds what people see of the stack's domain, as package
	// services/frontend/domain writes it.
	DomainFile string `env:"DOMAIN_FILE,required,notEmpty"`
}

// ML is the environment of the model service (services/ml).
type ML struct {
	Common
	// OllamaURL is the base URL of Ollama, with its port. A name with several addresses is several replicas of Ollama:
	// ml spreads its requests over all of them.
	OllamaURL string `env:"OLLAMA_API_URL,required,notEmpty"`
	// DefaultModel is the name of the custom model that the Modelfile makes.
	DefaultModel string `env:"DEFAULT_MODEL,required,notEmpty"`
	// ModelfilePath is the absolute path of the Modelfile inside the container.
	ModelfilePath string `env:"MODELFILE_PATH,required,notEmpty"`
	// ModelfileDigest is the sha256 (hex) of the model's inputs as the plan saw them: a change of the Modelfile shows in
	// the plan and replaces the container. ml refuses a Modelfile whose digest is another.
	ModelfileDigest string `env:"MODELFILE_DIGEST,required,notEmpty"`
	// ApplyModel makes the model when the service starts. Where it is false, `ml model apply` is run beside the service (a
	// Job on Kubernetes), and the service waits for the model before it is ready.
	ApplyModel bool `env:"APPLY_MODEL,required"`
	// BaseModel replaces the Modelfile's FROM; empty keeps it.
	BaseModel string `env:"BASE_MODEL" optional:"true"`
	// MaxParallel is how many requests a replica of Ollama is to have at once: all ml together send so many times the
	// number of replicas.
	MaxParallel int `env:"MAX_PARALLEL,required"`
	// MaxQueue is how many requests may wait for their turn, at all ml together; the next one is refused with 429 and
	// Retry-After.
	MaxQueue int `env:"MAX_QUEUE,required"`
	// GenerationTimeout bounds one answer, from its turn to the last token.
	GenerationTimeout time.Duration `env:"GENERATION_TIMEOUT,required"`
	// KeepAlive is how long Ollama keeps an idle model loaded; negative means for ever.
	KeepAlive time.Duration `env:"KEEP_ALIVE,required"`
	// RedisURL and those below it say where the queue lies that all ml share, as Backend's fields of the same names do.
	// Without a RedisURL this ml has a queue of its own; it has one as well while Redis does not answer.
	RedisURL          string   `env:"REDIS_URL" optional:"true"`
	RedisSentinels    []string `env:"REDIS_SENTINELS" optional:"true"`
	RedisMaster       string   `env:"REDIS_MASTER" optional:"true"`
	RedisCluster      []string `env:"REDIS_CLUSTER" optional:"true"`
	RedisCAFile       string   `env:"REDIS_CA_FILE" optional:"true"`
	RedisPasswordFile string   `env:"REDIS_PASSWORD_FILE" optional:"true"`
}

// WithoutRedis returns the environment of what makes the model and answers nobody.
func (m ML) WithoutRedis() ML {
	m.RedisURL, m.RedisSentinels, m.RedisMaster, m.RedisCluster, m.RedisCAFile, m.RedisPasswordFile = "", nil, "", nil, "", ""
	return m
}

// Environment is what a service can be configured with: one of the contract structs.
type Environment interface {
	Backend | Frontend | ML
	// Validate reports every field whose value cannot work, by its variable's name.
	Validate() error
}

// Parse reads the environment (as os.Environ gives it: KEY=VALUE) into the contract struct and validates it.
// All problems are reported at once, each with the name of its variable.
func Parse[T Environment](environ []string) (T, error) {
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
	if err := cfg.Validate(); err != nil {
		return zero, err
	}
	return cfg, nil
}

// Secret reads a secret from the file that a *_FILE variable names. A trailing line break is not part of it.
// An empty path gives the empty secret; an unreadable or empty file is an error.
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

// Validate checks the fields all services share.
func (c Common) Validate() error {
	var errs []error
	switch strings.ToLower(c.LogLevel) {
	case "debug", "info", "warn", "error":
	default:
		errs = append(errs, fmt.Errorf("LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel))
	}
	if i := strings.LastIndex(c.ListenAddr, ":"); i < 0 {
		errs = append(errs, fmt.Errorf("LISTEN_ADDR: %q has no port: write it like \":8000\"", c.ListenAddr))
	}
	if c.DrainTimeout <= 0 {
		errs = append(errs, fmt.Errorf("DRAIN_TIMEOUT: must be positive, got %s", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

// Validate implements Environment.
func (b Backend) Validate() error {
	errs := []error{b.Common.Validate(), b.redis().validate()}
	_, err := baseURL("ML_SERVICE_URL", b.MLServiceURL, "http", "https")
	errs = append(errs, err, absolute("REDIS_PASSWORD_FILE", b.RedisPasswordFile), absolute("REDIS_CA_FILE", b.RedisCAFile))
	if b.ConversationTTL < 0 {
		errs = append(errs, fmt.Errorf("CONVERSATION_TTL: must not be negative, got %s", b.ConversationTTL))
	}
	if b.GenerationTimeout <= 0 {
		errs = append(errs, fmt.Errorf("GENERATION_TIMEOUT: must be positive, got %s", b.GenerationTimeout))
	}
	return errors.Join(errs...)
}

// Validate implements Environment.
func (f Frontend) Validate() error {
	_, err := baseURL("BACKEND_URL", f.BackendURL, "http", "https")
	return errors.Join(f.Common.Validate(), err, absolute("DOMAIN_FILE", f.DomainFile))
}

// Validate implements Environment.
func (m ML) Validate() error {
	errs := []error{m.Common.Validate()}
	_, err := baseURL("OLLAMA_API_URL", m.OllamaURL, "http", "https")
	errs = append(errs, err, absolute("MODELFILE_PATH", m.ModelfilePath))
	if m.MaxParallel < 1 {
		errs = append(errs, fmt.Errorf("MAX_PARALLEL: must be 1 or more, got %d", m.MaxParallel))
	}
	if m.MaxQueue < 0 {
		errs = append(errs, fmt.Errorf("MAX_QUEUE: must not be negative, got %d", m.MaxQueue))
	}
	if m.GenerationTimeout <= 0 {
		errs = append(errs, fmt.Errorf("GENERATION_TIMEOUT: must be positive, got %s", m.GenerationTimeout))
	}
	switch {
	case m.RedisURL != "":
		errs = append(errs, m.redis().validate(),
			absolute("REDIS_PASSWORD_FILE", m.RedisPasswordFile), absolute("REDIS_CA_FILE", m.RedisCAFile))
	case len(m.RedisSentinels)+len(m.RedisCluster) > 0 || m.RedisMaster+m.RedisCAFile+m.RedisPasswordFile != "":
		errs = append(errs, errors.New("REDIS_URL: is not set, but other variables of Redis are"))
	}
	return errors.Join(errs...)
}

// baseURL accepts scheme://host:port with an explicit port: clients disagree on the default of a missing one.
func baseURL(variable, raw string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: not a URL (write it like %s://host:port)", variable, schemes[0])
	}
	for _, s := range schemes {
		if u.Scheme == s {
			if u.Hostname() == "" || u.Port() == "" {
				return nil, fmt.Errorf("%s: %q needs a host and a port: %s://host:port", variable, u.Redacted(), s)
			}
			return u, nil
		}
	}
	return nil, fmt.Errorf("%s: scheme %q is none of %s", variable, u.Scheme, strings.Join(schemes, ", "))
}

// addresses wants host:port of each.
func addresses(variable string, list []string) error {
	var errs []error
	for _, a := range list {
		host, port, err := net.SplitHostPort(a)
		if n, numErr := strconv.Atoi(port); err != nil || host == "" || numErr != nil || n < 1 || n > 65535 {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port", variable, a))
		}
	}
	return errors.Join(errs...)
}

func absolute(variable, p string) error {
	if p != "" && !path.IsAbs(p) {
		return fmt.Errorf("%s: %q is not an absolute path", variable, p)
	}
	return nil
}
