package gateenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/google/go-cmp/cmp"
)

func valid() *gateenv.Config {
	return &gateenv.Config{
		Common: contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":8003",
			DrainTimeout: time.Minute},
		RequiredRedis:     contract.RequiredRedis{RedisURL: "redis://redis:6379/0"},
		FrontendURL:       "http://frontend:8501",
		MLServiceURL:      "http://ml:5000",
		RawCompletions:    true,
		Title:             "CodexContinue",
		SignIn:            gateenv.None,
		GenerationTimeout: time.Minute,
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}

	got, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*gateenv.Config){
		"LOG_LEVEL: ":          func(c *gateenv.Config) { c.LogLevel = "loud" },
		"REDIS_URL: ":          func(c *gateenv.Config) { c.RedisURL = "redis" },
		"FRONTEND_URL: ":       func(c *gateenv.Config) { c.FrontendURL = "http://frontend" },
		"ML_SERVICE_URL: ":     func(c *gateenv.Config) { c.MLServiceURL = "ml:5000" },
		"SIGN_IN: ":            func(c *gateenv.Config) { c.SignIn = "word" },
		"GENERATION_TIMEOUT: ": func(c *gateenv.Config) { c.GenerationTimeout = 0 },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}
