package frontendenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/google/go-cmp/cmp"
)

func valid() *frontendenv.Config {
	return &frontendenv.Config{
		Common: contract.Common{Environment: "dev", LogLevel: "info", ListenAddr: ":8501",
			DrainTimeout: time.Minute},
		BackendURL: "http://backend:8000",
		DomainFile: "/etc/frontend/domain.json",

		ConversationTTL: time.Hour,
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}

	got, err := contract.Parse[frontendenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*frontendenv.Config){
		"LOG_LEVEL: ":        func(c *frontendenv.Config) { c.LogLevel = "loud" },
		"BACKEND_URL: ":      func(c *frontendenv.Config) { c.BackendURL = "http://backend" },
		"CONVERSATION_TTL: ": func(c *frontendenv.Config) { c.ConversationTTL = -1 },
		"DOMAIN_FILE: ":      func(c *frontendenv.Config) { c.DomainFile = "domain.json" },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}
