package mlenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/google/go-cmp/cmp"
)

func valid() *mlenv.Config {
	return &mlenv.Config{
		Common: contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":5000",
			DrainTimeout: time.Minute},
		OllamaURL:         "http://ollama:11434",
		DefaultModel:      "codexcontinue",
		ModelfilePath:     "/models/ollama/codexcontinue/Modelfile",
		ModelfileDigest:   strings.Repeat("0", 64),
		EvalsDigest:       strings.Repeat("1", 64),
		BaseModel:         "tiny",
		EmbeddingModel:    "nomic-embed-text",
		ApplyModel:        true,
		MaxParallel:       2,
		MaxQueue:          8,
		GenerationTimeout: time.Minute,
		KeepAlive:         -1,
	}
}

func TestRoundTrip(t *testing.T) {
	for _, redis := range []contract.OptionalRedis{
		{},
		{RedisURL: "rediss://chat@redis:6379/2", RedisSentinels: []string{"a:26379"},
			RedisMaster: "main"},
	} {
		want := valid()
		want.OptionalRedis = redis
		environ, err := contract.Environ(want)
		if err != nil {
			t.Fatal(err)
		}

		got, err := contract.Parse[mlenv.Config](environ)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, &got); d != "" {
			t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*mlenv.Config){
		"DRAIN_TIMEOUT: ":      func(c *mlenv.Config) { c.DrainTimeout = 0 },
		"OLLAMA_API_URL: ":     func(c *mlenv.Config) { c.OllamaURL = "http://ollama" },
		"MODELFILE_PATH: ":     func(c *mlenv.Config) { c.ModelfilePath = "Modelfile" },
		"MAX_PARALLEL: ":       func(c *mlenv.Config) { c.MaxParallel = 0 },
		"MAX_QUEUE: ":          func(c *mlenv.Config) { c.MaxQueue = -1 },
		"GENERATION_TIMEOUT: ": func(c *mlenv.Config) { c.GenerationTimeout = 0 },
		"REDIS_URL: ":          func(c *mlenv.Config) { c.RedisMaster = "main" },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}
