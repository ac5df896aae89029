package contract

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Redis says where Redis is: one server, the master that Sentinels name, or a Cluster. Backend and ML
// have a variable for each field.
type Redis struct {
	// URL is redis://[user@]host:port/db, or rediss:// for TLS.
	URL string
	// Password is empty when Redis asks for none. Sentinels are offered the same, for their default
	// user: one that asks for none takes any.
	Password string
	// CAFile holds the authorities that sign the servers' certificates, as PEM; empty trusts those of
	// the system.
	CAFile string
	// Sentinels are asked for the master of the name.
	Sentinels []string
	Master    string
	// Cluster are nodes of a Redis Cluster, which know the others.
	Cluster []string
}

// Redis returns where the backend's Redis is, with the password that its file holds.
func (b Backend) Redis() (Redis, error) { return b.redis().withPassword(b.RedisPasswordFile) }

// Redis returns where the Redis of ml's queue is, with the password that its file holds.
func (m ML) Redis() (Redis, error) { return m.redis().withPassword(m.RedisPasswordFile) }

func (b Backend) redis() Redis {
	return Redis{
		URL: b.RedisURL, CAFile: b.RedisCAFile,
		Sentinels: b.RedisSentinels, Master: b.RedisMaster, Cluster: b.RedisCluster,
	}
}

func (m ML) redis() Redis {
	return Redis{
		URL: m.RedisURL, CAFile: m.RedisCAFile,
		Sentinels: m.RedisSentinels, Master: m.RedisMaster, Cluster: m.RedisCluster,
	}
}

func (a Redis) withPassword(file string) (Redis, error) {
	var err error
	a.Password, err = Secret("REDIS_PASSWORD_FILE", file)
	return a, err
}

// Authorities returns those that sign the servers' certificates; nil stands for those of the system.
func (a Redis) Authorities() (*x509.CertPool, error) {
	if a.CAFile == "" {
		return nil, nil
	}

	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("REDIS_CA_FILE: %w", err)
	}

	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("REDIS_CA_FILE: %s holds no certificate in PEM form", a.CAFile)
	}
	return authorities, nil
}

// validate checks the variables that say where Redis is.
func (a Redis) validate() error {
	var errs []error
	u, err := baseURL("REDIS_URL", a.URL, "redis", "rediss")
	if err != nil {
		errs = append(errs, err)
	} else if _, has := u.User.Password(); has {
		errs = append(errs, errors.New("REDIS_URL: must not hold a password: put it in the file that REDIS_PASSWORD_FILE names"))
	} else if u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, errors.New("REDIS_URL: takes no parameters: nothing may follow the database"))
	}
	if a.CAFile != "" && u != nil && u.Scheme != "rediss" {
		errs = append(errs, errors.New("REDIS_CA_FILE: is for TLS: write REDIS_URL with rediss://"))
	}
	errs = append(errs, addresses("REDIS_SENTINELS", a.Sentinels), addresses("REDIS_CLUSTER", a.Cluster))
	switch {
	case len(a.Sentinels) > 0 && len(a.Cluster) > 0:
		errs = append(errs, errors.New("REDIS_CLUSTER: is set beside REDIS_SENTINELS: Redis is one of the two"))
	case (len(a.Sentinels) > 0) != (a.Master != ""):
		errs = append(errs, errors.New("REDIS_MASTER: REDIS_SENTINELS and the name of the master that they know belong together"))
	case len(a.Cluster) > 0 && u != nil && u.Path != "" && u.Path != "/" && u.Path != "/0":
		errs = append(errs, fmt.Errorf("REDIS_URL: a Redis Cluster has the database 0 alone, got %q", u.Path))
	}
	return errors.Join(errs...)
}
