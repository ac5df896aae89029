package knowledgeenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/google/go-cmp/cmp"
)

func valid() *knowledgeenv.Config {
	return &knowledgeenv.Config{
		Common: contract.Common{Environment: "healthcare", LogLevel: "info", ListenAddr: ":7000",
			DrainTimeout: time.Minute},
		RequiredRedis:  contract.RequiredRedis{RedisURL: "redis://knowledge@redis:6379/0"},
		MLServiceURL:   "http://ml:5000",
		DataDir:        "/data",
		Collections:    knowledgeenv.Collections{"guidelines": nil, "staff": {"nurses", "doctors"}},
		EmbeddingModel: "nomic-embed-text",
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}
	got, err := contract.Parse[knowledgeenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*knowledgeenv.Config){
		"ML_SERVICE_URL: ": func(c *knowledgeenv.Config) { c.MLServiceURL = "ml" },
		"DATA_DIR: ":       func(c *knowledgeenv.Config) { c.DataDir = "data" },
		"COLLECTIONS: names no": func(c *knowledgeenv.Config) {
			c.Collections = knowledgeenv.Collections{}
		},
		`COLLECTIONS: "../x" is no name`: func(c *knowledgeenv.Config) {
			c.Collections = knowledgeenv.Collections{"../x": nil}
		},
		`COLLECTIONS: "a-" is no name`: func(c *knowledgeenv.Config) {
			c.Collections = knowledgeenv.Collections{"a-": nil}
		},
		`COLLECTIONS: "` + strings.Repeat("a", 41): func(c *knowledgeenv.Config) {
			c.Collections = knowledgeenv.Collections{strings.Repeat("a", 40): nil,
				strings.Repeat("a", 41): nil}
		},
		"COLLECTIONS: a: a group": func(c *knowledgeenv.Config) {
			c.Collections = knowledgeenv.Collections{"a": {""}}
		},
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestReadable(t *testing.T) {
	c := valid().Collections
	for _, tt := range []struct {
		name   string
		groups []string
		want   bool
	}{
		{"guidelines", nil, true}, {"guidelines", []string{"x"}, true},
		{"staff", nil, false}, {"staff", []string{"x"}, false},
		{"staff", []string{"x", "doctors"}, true},
		{"other", []string{"doctors"}, false},
	} {
		if got := c.Readable(tt.name, tt.groups); got != tt.want {
			t.Errorf("%s by %q: %v", tt.name, tt.groups, got)
		}
	}
}
