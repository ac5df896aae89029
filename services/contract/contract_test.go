package contract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/google/go-cmp/cmp"
)

// config is the environment of a service that needs Redis.
type config struct {
	contract.Common
	contract.RequiredRedis
	PeerURL string        `env:"PEER_URL,required,notEmpty"`
	Keep    time.Duration `env:"KEEP,required"`
	Title   string        `env:"TITLE" optional:"true"`
}

func (c *config) Validate() error {
	for _, err := range []error{
		c.Common.Validate(), c.RequiredRedis.Validate(), contract.HTTPURL("PEER_URL", c.PeerURL),
	} {
		if err != nil {
			return err
		}
	}

	return nil
}

// other is the environment of a service that works without Redis.
type other struct {
	contract.Common
	contract.OptionalRedis
}

func (o *other) Validate() error { return o.OptionalRedis.Validate() }

func valid() *config {
	return &config{
		Common: contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":8000",
			DrainTimeout: time.Minute},
		RequiredRedis: contract.RequiredRedis{RedisURL: "redis://redis:6379/0",
			RedisPasswordFile: "/run/secrets/redis-password"},
		PeerURL: "http://peer:5000",
		Keep:    time.Hour,
	}
}

func environ(t *testing.T, c contract.Environment) []string {
	t.Helper()
	vars, err := contract.Environ(c)
	if err != nil {
		t.Fatal(err)
	}

	return vars
}

func TestRoundTrip(t *testing.T) {
	for name, change := range map[string]func(*config){
		"as it is":    func(*config) {},
		"no password": func(c *config) { c.RedisPasswordFile, c.Debug, c.Keep = "", true, 0 },
		"signs":       func(c *config) { c.Title = "CodexContinue = \"chat\"" },
		"Sentinels": func(c *config) {
			c.RedisURL, c.RedisCAFile = "rediss://chat@redis:6379/2", "/run/secrets/redis-ca.pem"
			c.RedisSentinels, c.RedisMaster = []string{"a:26379", "[::1]:26379"}, "main"
		},
		"Cluster": func(c *config) {
			c.RedisURL, c.RedisCluster = "redis://redis:6379", []string{"a:6379", "b:6379"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := valid()
			change(want)
			got, err := contract.Parse[config](environ(t, want))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, &got); d != "" {
				t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
			}
		})
	}
}

// TestOptionalRedis checks that the same variables are read whether they must be there or not.
func TestOptionalRedis(t *testing.T) {
	want := &other{Common: valid().Common}
	*want.RedisVariables() = contract.RequiredRedis{
		RedisURL:       "rediss://chat@redis:6379/2",
		RedisSentinels: []string{"a:26379"}, RedisMaster: "main",
		RedisCAFile: "/etc/ca.pem", RedisPasswordFile: "/run/secrets/redis-password",
	}

	got, err := contract.Parse[other](environ(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}

	if _, err := contract.Parse[other](environ(t, &other{Common: valid().Common})); err != nil {
		t.Errorf("without Redis: %v", err)
	}
}

func TestValidateOptionalRedis(t *testing.T) {
	for name, tc := range map[string]struct {
		redis contract.OptionalRedis
		want  string
	}{
		"password alone": {contract.OptionalRedis{RedisPasswordFile: "/p"},
			"REDIS_URL: is not set, but"},
		"Cluster alone": {contract.OptionalRedis{RedisCluster: []string{"a:1"}},
			"REDIS_URL: is not set, but"},
		"credentials": {contract.OptionalRedis{RedisURL: "redis://:hunter2@redis:6379"},
			"REDIS_URL: must not hold a password"},
		"relative password": {
			contract.OptionalRedis{RedisURL: "redis://redis:6379", RedisPasswordFile: "p"},
			"REDIS_PASSWORD_FILE: "},
		"relative CA": {contract.OptionalRedis{RedisURL: "rediss://redis:6379", RedisCAFile: "p"},
			"REDIS_CA_FILE: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.redis.Validate()
			if err == nil || !strings.Contains(err.Error(), tc.want) ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
		})
	}
}

func TestRenderLeavesOutEmptyOptional(t *testing.T) {
	c := valid()
	c.RedisPasswordFile = ""
	vars, err := contract.Render(c)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := vars["REDIS_PASSWORD_FILE"]; ok {
		t.Errorf("REDIS_PASSWORD_FILE is set to %q, want it unset", v)
	}
}

// TestRenderRefusesEmpty renders a variable that must not be empty and that Validate does not check.
func TestRenderRefusesEmpty(t *testing.T) {
	c := valid()
	c.Environment = ""
	_, err := contract.Render(c)
	if err == nil || err.Error() != "ENVIRONMENT: is empty" {
		t.Errorf("got %v", err)
	}
}

func TestParseReportsEveryProblem(t *testing.T) {
	_, err := contract.Parse[config]([]string{"LOG_LEVEL=info", "DEBUG=maybe", "REDIS_URL="})
	if err == nil {
		t.Fatal("no error")
	}

	for _, want := range []string{"ENVIRONMENT", "LISTEN_ADDR", "REDIS_URL", "PEER_URL", "Debug"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*config)
		want   string
	}{
		"redis scheme": {func(c *config) { c.RedisURL = "http://redis:6379" },
			`REDIS_URL: scheme "http" is none of redis, rediss`},
		"redis port": {func(c *config) { c.RedisURL = "redis://redis" }, "REDIS_URL: "},
		"redis credentials": {func(c *config) { c.RedisURL = "redis://:hunter2@redis:6379" },
			"REDIS_URL: must not hold a password"},
		"redis parameters": {func(c *config) { c.RedisURL += "?protocol=2" },
			"REDIS_URL: takes no parameters"},
		"redis CA, no TLS": {func(c *config) { c.RedisCAFile = "/ca.pem" },
			"REDIS_CA_FILE: is for TLS"},
		"relative redis CA": {
			func(c *config) { c.RedisURL, c.RedisCAFile = "rediss://redis:6379", "ca.pem" },
			"REDIS_CA_FILE: \"ca.pem\""},
		"sentinel alone": {func(c *config) { c.RedisSentinels = []string{"a:26379"} },
			"REDIS_MASTER: "},
		"master alone": {func(c *config) { c.RedisMaster = "main" }, "REDIS_MASTER: "},
		"cluster address": {func(c *config) { c.RedisCluster = []string{"a"} },
			`REDIS_CLUSTER: "a" is not host:port`},
		"cluster database": {
			func(c *config) {
				c.RedisURL, c.RedisCluster = "redis://redis:6379/1", []string{"a:1"}
			},
			"REDIS_URL: a Redis Cluster"},
		"cluster, sentinel": {func(c *config) {
			c.RedisMaster, c.RedisSentinels, c.RedisCluster = "m", []string{"a:1"}, []string{"a:1"}
		}, "REDIS_CLUSTER: is set beside"},
		"log level": {func(c *config) { c.LogLevel = "loud" }, "LOG_LEVEL: "},
		"listen":    {func(c *config) { c.ListenAddr = "8000" }, "LISTEN_ADDR: "},
		"relative secret": {func(c *config) { c.RedisPasswordFile = "secret" },
			"REDIS_PASSWORD_FILE: "},
		"drain":       {func(c *config) { c.DrainTimeout = 0 }, "DRAIN_TIMEOUT: "},
		"peer scheme": {func(c *config) { c.PeerURL = "redis://peer:1" }, "PEER_URL: scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tc.change(c)
			err := c.Validate()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to hold %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows the password")
			}
		})
	}
}
