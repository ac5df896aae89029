package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/redis/go-redis/v9"
)

// secured is a chain as a team has it: people sign in, each service is a user of Redis that may do
// what it needs, days have limits, acts are recorded, and the edge ends TLS.
type secured struct {
	*chain

	// somebody is the browser of a person with an account, browser one that trusts the edge.
	somebody, browser *http.Client
}

// redisAs returns Redis's URL for a service.
func (c *chain) redisAs(service string) string {
	return fmt.Sprintf("redis://%s@127.0.0.1:%d/0", service, c.ports["redis"])
}

// onlooker is the user of Redis who asks it what it does.
const onlooker = "onlooker"

// newSecured starts all of it. What it returns beside an error is to be stopped as well.
func (b *bench) newSecured(ctx context.Context, name string) (*secured, error) {
	caddy, err := b.find("caddy", "run test/peers/build.sh caddy")
	if err != nil {
		return nil, err
	}

	// As stacks/redis/redis.conf has it.
	redis := []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	for user, acl := range map[string]string{
		stacks.Gate: stacks.RedisACL(stacks.Gate), stacks.ML: stacks.RedisACL(stacks.ML),
		stacks.Backend: stacks.RedisACL(stacks.Backend), onlooker: "+info",
	} {
		redis = append(redis, "--user", user, "on", "nopass")
		redis = append(redis, strings.Fields(acl)...)
	}

	services, err := b.newChain(ctx, name, append(redis, "--user", "default", "off")...)
	if err != nil {
		return nil, err
	}

	c := &secured{chain: services}
	if err := c.secure(); err != nil {
		return c, err
	}
	if _, err := c.all(ctx); err != nil {
		return c, err
	}
	if c.somebody, err = c.person(ctx, 0, gateenv.Accounts); err != nil {
		return c, err
	}
	if err := c.tlsEdge(ctx, caddy); err != nil {
		return c, err
	}

	if c.ports["caddy"], err = freePort(); err != nil {
		return c, err
	}

	_, err = c.caddy(ctx, "caddy", caddy, fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
}
http://127.0.0.1:%d {
	reverse_proxy 127.0.0.1:%d {
		flush_interval -1
	}
}
`, c.ports["caddy"], c.ports["ollama"]), c.url("caddy", "/api/version"))

	return c, err
}

// audits returns the variables of a service that records who did what.
func (c *chain) audits() ([]string, error) {
	key := filepath.Join(c.dir, "audit.key")
	err := os.WriteFile(key, []byte("the bench's key of the audit"), 0o600)
	return []string{"AUDIT=true", "AUDIT_KEY_FILE=" + key}, err
}

// secure turns on what the services have of it.
func (c *secured) secure() error {
	audit, err := c.audits()
	if err != nil {
		return err
	}

	limits := []string{
		"REQUESTS_PER_DAY=1000000", "TOKENS_PER_DAY=1000000000", "REQUESTS_AT_ONCE=10",
	}
	for service, vars := range map[string][][]string{
		stacks.ML:      {limits},
		stacks.Backend: {audit},
		stacks.Gate:    {limits, audit, {"SIGN_IN=" + gateenv.Accounts}},
	} {
		c.env[service] = append(c.env[service], "REDIS_URL="+c.redisAs(service))
		for _, v := range vars {
			c.env[service] = append(c.env[service], v...)
		}
	}

	return nil
}

// tlsEdge starts the edge as a stack has it that ends TLS with a certificate of its own authority.
func (c *secured) tlsEdge(ctx context.Context, caddy string) error {
	stack, err := stacks.Load("prod", stacks.Settings{
		Target:  stacks.Docker,
		Secrets: map[string]bool{stacks.RedisPasswordKey: true},
		Edge:    stacks.EdgeSettings{OwnTLS: &stacks.EdgeTLS{Internal: true}},
		SignIn:  &stacks.SignInSettings{Accounts: true},
	}, stacks.Checkout{FS: os.DirFS(c.root)})
	if err != nil {
		return err
	}

	_, err = c.caddy(ctx, "edge", caddy, stack.Service(stacks.Edge).Files[0].Content,
		c.url("edge", "/edge/health"),
		"8080", strconv.Itoa(c.ports["edge"]), "8443", strconv.Itoa(c.ports["https"]),
		"dynamic a gate 8003", fmt.Sprintf("dynamic a localhost %d", c.ports["gate"]))
	if err != nil {
		return err
	}

	authority, err := os.ReadFile(filepath.Join(c.dir, "edge-data", "caddy", "pki", "authorities",
		"local", "root.crt"))
	if err != nil {
		return err
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	// HTTP/1.1, as most clients for programs have it.
	c.browser = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"},
	}}
	return nil
}

// redisReads returns how often Redis has read from its connections.
func (c *secured) redisReads(ctx context.Context) (float64, error) {
	o, err := redis.ParseURL(c.redisAs(onlooker))
	if err != nil {
		return 0, err
	}

	o.Password, o.DisableIdentity = onlooker, true
	client := redis.NewClient(o)
	defer client.Close()
	text, err := client.Info(ctx, "stats").Result()
	if err != nil {
		return 0, err
	}

	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "total_reads_processed:"); ok {
			return strconv.ParseFloat(n, 64)
		}
	}

	return 0, errors.New("redis: INFO says nothing of total_reads_processed")
}

// olla starts Olla, a gateway for Ollama alone, if it is on PATH, where a release or
// `go install github.com/thushan/olla@v0.0.28` puts it.
func (c *chain) olla(ctx context.Context) (bool, error) {
	program, err := c.find("olla", "")
	if err != nil {
		return false, nil
	}

	if c.ports["olla"], err = freePort(); err != nil {
		return false, err
	}

	config := fmt.Sprintf(`server:
  host: 127.0.0.1
  port: %d
  request_logging: false
  rate_limits:
    global_requests_per_minute: 0
    per_ip_requests_per_minute: 0
proxy:
  engine: olla
  profile: streaming
discovery:
  type: static
  static:
    endpoints:
      - url: http://127.0.0.1:%d
        name: bench
        type: ollama
        priority: 100
logging:
  level: error
`, c.ports["olla"], c.ports["ollama"])

	file := filepath.Join(c.dir, "olla.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return false, err
	}

	p, err := c.start(ctx, "olla", c.url("olla", "/olla/ollama/api/version"),
		[]string{"HOME=" + c.dir}, program, "--config", file)
	if err != nil {
		return false, err
	}

	c.running = append(c.running, p)
	return true, nil
}
