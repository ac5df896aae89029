package backendenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/google/go-cmp/cmp"
)

func valid() *backendenv.Config {
	return &backendenv.Config{
		Common: contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":8000",
			DrainTimeout: time.Minute},
		RequiredRedis:     contract.RequiredRedis{RedisURL: "redis://redis:6379/0"},
		MLServiceURL:      "http://ml:5000",
		KnowledgeURL:      "http://knowledge:7000",
		DefaultModel:      "codexcontinue",
		ConversationTTL:   time.Hour,
		GenerationTimeout: 10 * time.Minute,
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}

	got, err := contract.Parse[backendenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*backendenv.Config){
		"LOG_LEVEL: ":          func(c *backendenv.Config) { c.LogLevel = "loud" },
		"REDIS_URL: ":          func(c *backendenv.Config) { c.RedisURL = "redis://redis" },
		"ML_SERVICE_URL: ":     func(c *backendenv.Config) { c.MLServiceURL = "http://ml" },
		"KNOWLEDGE_URL: ":      func(c *backendenv.Config) { c.KnowledgeURL = "knowledge" },
		"CONVERSATION_TTL: ":   func(c *backendenv.Config) { c.ConversationTTL = -1 },
		"GENERATION_TIMEOUT: ": func(c *backendenv.Config) { c.GenerationTimeout = 0 },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}
