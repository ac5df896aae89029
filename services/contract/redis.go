package contract

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// RequiredRedis holds the variables of a service that cannot do without Redis.
type RequiredRedis struct {
	// RedisURL is redis://host:port/db, or rediss:// for TLS, with a user's name where Redis has
	// one (redis://user@host...). It never has a password, which RedisPasswordFile holds, and no
	// parameters.
	RedisURL string `env:"REDIS_URL,required,notEmpty"`

	// RedisSentinels are the host:port of the Sentinels that know the master named RedisMaster.
	// The host and port of RedisURL are not used then; its scheme, user and database are. The
	// scheme is for the Sentinels as well. They are offered the password of RedisPasswordFile
	// without the user: a Sentinel has the password of the Redis that it watches (the charts' usual
	// way) or none, and one without takes any.
	RedisSentinels []string `env:"REDIS_SENTINELS" optional:"true"`
	RedisMaster    string   `env:"REDIS_MASTER" optional:"true"`

	// RedisCluster are the host:port of nodes of a Redis Cluster, the first to be asked for all
	// others. The host and port of RedisURL are not used then.
	RedisCluster []string `env:"REDIS_CLUSTER" optional:"true"`

	// RedisCAFile is the path of a file with the certificates (PEM) of the authorities that sign
	// those of Redis and of the Sentinels, for a RedisURL with rediss://. Empty trusts those of the
	// system. Certificates must name the host or the IP address that the server is reached by: of
	// Sentinels and of a Cluster the one that they announce.
	RedisCAFile string `env:"REDIS_CA_FILE" optional:"true"`

	// RedisCertificateFile is the path of a file with a certificate and its key (PEM) to show to
	// Redis, for a RedisURL with rediss://. It is empty if Redis asks for none.
	RedisCertificateFile string `env:"REDIS_CERTIFICATE_FILE" optional:"true"`

	// RedisPasswordFile is the path of a file that holds the password. It is empty if Redis asks
	// for none.
	RedisPasswordFile string `env:"REDIS_PASSWORD_FILE" optional:"true"`
}

// OptionalRedis holds the variables of a service that works without Redis too: they are those of
// RequiredRedis, and none is set if RedisURL is not.
type OptionalRedis struct {
	RedisURL             string   `env:"REDIS_URL" optional:"true"`
	RedisSentinels       []string `env:"REDIS_SENTINELS" optional:"true"`
	RedisMaster          string   `env:"REDIS_MASTER" optional:"true"`
	RedisCluster         []string `env:"REDIS_CLUSTER" optional:"true"`
	RedisCAFile          string   `env:"REDIS_CA_FILE" optional:"true"`
	RedisCertificateFile string   `env:"REDIS_CERTIFICATE_FILE" optional:"true"`
	RedisPasswordFile    string   `env:"REDIS_PASSWORD_FILE" optional:"true"`
}

// RedisUser is the environment of a service that uses Redis.
type RedisUser interface {
	Environment

	// RedisVariables returns the variables of Redis, also of a service to which they are optional.
	RedisVariables() *RequiredRedis
}

// RedisVariables implements RedisUser for the structs that embed r.
func (r *RequiredRedis) RedisVariables() *RequiredRedis { return r }

// RedisVariables implements RedisUser for the structs that embed o.
func (o *OptionalRedis) RedisVariables() *RequiredRedis { return (*RequiredRedis)(o) }

// Validate checks the variables of Redis.
func (r *RequiredRedis) Validate() error {
	return errors.Join(
		r.address().validate(),
		Absolute("REDIS_PASSWORD_FILE", r.RedisPasswordFile),
		Absolute("REDIS_CA_FILE", r.RedisCAFile),
		Absolute("REDIS_CERTIFICATE_FILE", r.RedisCertificateFile),
	)
}

// Validate checks the variables of Redis, of which there may be none.
func (o *OptionalRedis) Validate() error {
	if o.RedisURL != "" {
		return o.RedisVariables().Validate()
	}

	if len(o.RedisSentinels)+len(o.RedisCluster) > 0 ||
		o.RedisMaster+o.RedisCAFile+o.RedisCertificateFile+o.RedisPasswordFile != "" {
		return errors.New("REDIS_URL: is not set, but other variables of Redis are")
	}

	return nil
}

// Redis returns where Redis is, with the password that its file holds.
func (r *RequiredRedis) Redis() (Redis, error) {
	a := r.address()
	var err error
	a.Password, err = Secret("REDIS_PASSWORD_FILE", r.RedisPasswordFile)
	return a, err
}

// Redis returns where Redis is, with the password that its file holds.
func (o *OptionalRedis) Redis() (Redis, error) { return o.RedisVariables().Redis() }

func (r *RequiredRedis) address() Redis {
	return Redis{
		URL: r.RedisURL, CAFile: r.RedisCAFile, CertificateFile: r.RedisCertificateFile,
		Sentinels: r.RedisSentinels, Master: r.RedisMaster, Cluster: r.RedisCluster,
	}
}

// Redis is where Redis is: one server, the master that Sentinels name, or a Cluster.
type Redis struct {
	// URL is redis://[user@]host:port/db, or rediss:// for TLS.
	URL string

	// Password is empty if Redis asks for none. Sentinels are offered the same, for their default
	// user: one that asks for none takes any.
	Password string

	// CAFile holds the authorities that sign the servers' certificates, as PEM; empty trusts those
	// of the system.
	CAFile string

	// CertificateFile holds a certificate and its key to show to the servers, as PEM; empty is none.
	CertificateFile string

	// Sentinels are asked for the master of the name.
	Sentinels []string
	Master    string

	// Cluster are nodes of a Redis Cluster, which know the others.
	Cluster []string
}

// Authorities returns those that sign the servers' certificates; nil stands
// for those of the system.
func (a Redis) Authorities() (*x509.CertPool, error) {
	return Authorities("REDIS_CA_FILE", a.CAFile)
}

// Certificates returns what to show to the servers.
func (a Redis) Certificates() ([]tls.Certificate, error) {
	if a.CertificateFile == "" {
		return nil, nil
	}

	c, err := Certificate("REDIS_CERTIFICATE_FILE", a.CertificateFile)
	return []tls.Certificate{c}, err
}

// validate checks the variables of an address.
func (a Redis) validate() error {
	var errs []error
	u, err := baseURL("REDIS_URL", a.URL, "redis", "rediss")
	if err != nil {
		errs = append(errs, err)
	} else if _, has := u.User.Password(); has {
		errs = append(errs, errors.New("REDIS_URL: must not hold a password: "+
			"put it in the file that REDIS_PASSWORD_FILE names"))
	} else if u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, errors.New(
			"REDIS_URL: takes no parameters: nothing may follow the database"))
	}

	if a.CAFile != "" && u != nil && u.Scheme != "rediss" {
		errs = append(errs, errors.New(
			"REDIS_CA_FILE: is for TLS: write REDIS_URL with rediss://"))
	}
	if a.CertificateFile != "" && u != nil && u.Scheme != "rediss" {
		errs = append(errs, errors.New(
			"REDIS_CERTIFICATE_FILE: is for TLS: write REDIS_URL with rediss://"))
	}

	errs = append(errs,
		addresses("REDIS_SENTINELS", a.Sentinels), addresses("REDIS_CLUSTER", a.Cluster))
	switch {
	case len(a.Sentinels) > 0 && len(a.Cluster) > 0:
		errs = append(errs, errors.New(
			"REDIS_CLUSTER: is set beside REDIS_SENTINELS: Redis is one of the two"))
	case (len(a.Sentinels) > 0) != (a.Master != ""):
		errs = append(errs, errors.New("REDIS_MASTER: "+
			"REDIS_SENTINELS and the name of the master that they know belong together"))
	case len(a.Cluster) > 0 && u != nil && u.Path != "" && u.Path != "/" && u.Path != "/0":
		errs = append(errs, fmt.Errorf(
			"REDIS_URL: a Redis Cluster has the database 0 alone, got %q", u.Path))
	}

	return errors.Join(errs...)
}
