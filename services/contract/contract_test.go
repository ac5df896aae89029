package contract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/google/go-cmp/cmp"
)

var common = contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":8000", DrainTimeout: time.Minute}

func backend() contract.Backend {
	return contract.Backend{Common: common, RedisURL: "redis://redis:6379/0", RedisPasswordFile: "/run/secrets/redis-password",
		MLServiceURL: "http://ml:5000", DefaultModel: "codexcontinue", ConversationTTL: time.Hour, GenerationTimeout: 10 * time.Minute}
}

func roundTrip[T contract.Environment](t *testing.T, want T) {
	t.Helper()
	vars, err := contract.Render(want)
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for k, v := range vars {
		environ = append(environ, k+"="+v)
	}
	got, err := contract.Parse[T](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestRoundTrip(t *testing.T) {
	roundTrip(t, backend())
	b := backend()
	b.RedisPasswordFile, b.Debug, b.ConversationTTL = "", true, 0
	roundTrip(t, b)
	b.RedisURL, b.RedisSentinels, b.RedisMaster = "rediss://chat@redis:6379/2", []string{"a:26379", "[::1]:26379"}, "main"
	b.RedisCAFile = "/run/secrets/redis-ca.pem"
	roundTrip(t, b)
	b.RedisCAFile = ""
	b.RedisURL, b.RedisSentinels, b.RedisMaster, b.RedisCluster = "redis://redis:6379", nil, "", []string{"a:6379", "b:6379"}
	roundTrip(t, b)
	roundTrip(t, contract.Frontend{Common: common, BackendURL: "http://backend:8000", DomainFile: "/etc/frontend/a \"file\" = this.json"})
	m := ml()
	roundTrip(t, m)
	m.RedisURL, m.RedisSentinels, m.RedisMaster = "rediss://chat@redis:6379/2", []string{"a:26379"}, "main"
	m.RedisCAFile, m.RedisPasswordFile = "/etc/ca.pem", "/run/secrets/redis-password"
	roundTrip(t, m)
	roundTrip(t, m.WithoutRedis())
	if d := cmp.Diff(ml(), m.WithoutRedis()); d != "" {
		t.Errorf("WithoutRedis leaves something of it (-want +got):\n%s", d)
	}
}

func ml() contract.ML {
	return contract.ML{Common: common, OllamaURL: "http://ollama:11434", DefaultModel: "codexcontinue",
		ModelfilePath: "/models/ollama/codexcontinue/Modelfile", ModelfileDigest: strings.Repeat("0", 64), BaseModel: "tiny", ApplyModel: true,
		MaxParallel: 2, MaxQueue: 8, GenerationTimeout: time.Minute, KeepAlive: -1}
}

// TestValidateMLRedis: ml may have no Redis; one that it has is right.
func TestValidateMLRedis(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*contract.ML)
		want   string
	}{
		"password alone":    {func(m *contract.ML) { m.RedisPasswordFile = "/p" }, "REDIS_URL: is not set, but"},
		"Cluster alone":     {func(m *contract.ML) { m.RedisCluster = []string{"a:1"} }, "REDIS_URL: is not set, but"},
		"credentials":       {func(m *contract.ML) { m.RedisURL = "redis://:hunter2@redis:6379" }, "REDIS_URL: must not hold a password"},
		"relative password": {func(m *contract.ML) { m.RedisURL, m.RedisPasswordFile = "redis://redis:6379", "p" }, "REDIS_PASSWORD_FILE: "},
		"relative CA":       {func(m *contract.ML) { m.RedisURL, m.RedisCAFile = "rediss://redis:6379", "p" }, "REDIS_CA_FILE: "},
	} {
		t.Run(name, func(t *testing.T) {
			m := ml()
			tc.change(&m)
			if err := m.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
		})
	}
}

func TestRenderLeavesOutEmptyOptional(t *testing.T) {
	b := backend()
	b.RedisPasswordFile = ""
	vars, err := contract.Render(b)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := vars["REDIS_PASSWORD_FILE"]; ok {
		t.Errorf("REDIS_PASSWORD_FILE is set to %q, want it unset", v)
	}
}

func TestParseReportsEveryProblem(t *testing.T) {
	_, err := contract.Parse[contract.Backend]([]string{"LOG_LEVEL=info", "DEBUG=maybe", "REDIS_URL="})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"ENVIRONMENT", "LISTEN_ADDR", "REDIS_URL", "ML_SERVICE_URL", "Debug"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*contract.Backend)
		want   string
	}{
		"redis scheme":      {func(b *contract.Backend) { b.RedisURL = "http://redis:6379" }, `REDIS_URL: scheme "http" is none of redis, rediss`},
		"redis port":        {func(b *contract.Backend) { b.RedisURL = "redis://redis" }, "REDIS_URL: "},
		"redis credentials": {func(b *contract.Backend) { b.RedisURL = "redis://:hunter2@redis:6379" }, "REDIS_URL: must not hold a password"},
		"redis parameters":  {func(b *contract.Backend) { b.RedisURL += "?protocol=2" }, "REDIS_URL: takes no parameters"},
		"redis CA, no TLS":  {func(b *contract.Backend) { b.RedisCAFile = "/ca.pem" }, "REDIS_CA_FILE: is for TLS"},
		"relative redis CA": {func(b *contract.Backend) { b.RedisURL, b.RedisCAFile = "rediss://redis:6379", "ca.pem" }, "REDIS_CA_FILE: \"ca.pem\""},
		"sentinel alone":    {func(b *contract.Backend) { b.RedisSentinels = []string{"a:26379"} }, "REDIS_MASTER: "},
		"master alone":      {func(b *contract.Backend) { b.RedisMaster = "main" }, "REDIS_MASTER: "},
		"cluster address":   {func(b *contract.Backend) { b.RedisCluster = []string{"a"} }, `REDIS_CLUSTER: "a" is not host:port`},
		"cluster database":  {func(b *contract.Backend) { b.RedisURL, b.RedisCluster = "redis://redis:6379/1", []string{"a:1"} }, "REDIS_URL: a Redis Cluster"},
		"cluster, sentinel": {func(b *contract.Backend) {
			b.RedisMaster, b.RedisSentinels, b.RedisCluster = "m", []string{"a:1"}, []string{"a:1"}
		}, "REDIS_CLUSTER: is set beside"},
		"log level":       {func(b *contract.Backend) { b.LogLevel = "loud" }, "LOG_LEVEL: "},
		"listen":          {func(b *contract.Backend) { b.ListenAddr = "8000" }, "LISTEN_ADDR: "},
		"relative secret": {func(b *contract.Backend) { b.RedisPasswordFile = "secret" }, "REDIS_PASSWORD_FILE: "},
		"negative ttl":    {func(b *contract.Backend) { b.ConversationTTL = -1 }, "CONVERSATION_TTL: "},
		"drain":           {func(b *contract.Backend) { b.DrainTimeout = 0 }, "DRAIN_TIMEOUT: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := backend()
			tc.change(&b)
			err := b.Validate()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to hold %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows the password")
			}
		})
	}
}
