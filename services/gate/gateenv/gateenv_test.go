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
		KnowledgeURL:      "http://knowledge:7000",
		MLServiceURL:      "http://ml:5000",
		RawCompletions:    true,
		Title:             "CodexContinue",
		EdgeHost:          "edge",
		SignIn:            gateenv.None,
		SessionIdle:       time.Hour,
		SessionLife:       24 * time.Hour,
		GenerationTimeout: time.Minute,
	}
}

// provided is the environment of a gate with an OpenID provider.
func provided() *gateenv.Config {
	c := valid()
	c.Collections = contract.Models{"handbook": nil, "wards": {"nurses", "research"}}
	c.SignIn, c.PublicURL = gateenv.OIDC, "https://chat.example.com"
	c.Provider = gateenv.Provider{
		Issuer:           "https://id.example.com/realms/team",
		ClientID:         "codexcontinue",
		ClientSecretFile: "/run/secrets/oidc-client-secret",
		ProviderCAFile:   "/etc/oidc-ca/ca.pem",
		Scopes:           gateenv.Names{"groups"},
		GroupsClaim:      "groups",
		AllowedGroups:    gateenv.Names{"team", "CN=a,OU=b", `quote "`},
		AdminGroups:      gateenv.Names{"maintainers"},
	}
	c.Models = contract.Models{"m": {}, "n:7b": {"research", `quote "`}}

	return c
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []*gateenv.Config{valid(), provided()} {
		environ, err := contract.Environ(want)
		if err != nil {
			t.Fatal(err)
		}

		got, err := contract.Parse[gateenv.Config](environ)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, &got); d != "" {
			t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
		}
	}
}

// TestGroups holds that the gate keeps the groups that something is for, and each once.
func TestGroups(t *testing.T) {
	want := []string{"nurses", `quote "`, "research"}
	if d := cmp.Diff(want, provided().Groups()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if groups := valid().Groups(); len(groups) != 0 {
		t.Errorf("where nothing is for groups it keeps %q", groups)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*gateenv.Config){
		"LOG_LEVEL: ":          func(c *gateenv.Config) { c.LogLevel = "loud" },
		"REDIS_URL: ":          func(c *gateenv.Config) { c.RedisURL = "redis" },
		"FRONTEND_URL: ":       func(c *gateenv.Config) { c.FrontendURL = "http://frontend" },
		"ML_SERVICE_URL: ":     func(c *gateenv.Config) { c.MLServiceURL = "ml:5000" },
		"KNOWLEDGE_URL: ":      func(c *gateenv.Config) { c.KnowledgeURL = "knowledge:7000" },
		"SIGN_IN: ":            func(c *gateenv.Config) { c.SignIn = "word" },
		"SESSION_IDLE: ":       func(c *gateenv.Config) { c.SessionIdle = 0 },
		"SESSION_LIFE: ":       func(c *gateenv.Config) { c.SessionLife = -time.Hour },
		"GENERATION_TIMEOUT: ": func(c *gateenv.Config) { c.GenerationTimeout = 0 },
		"EDGE_HOST: ":          func(c *gateenv.Config) { c.EdgeHost = "edge:8080" },
		"PUBLIC_URL: ":         func(c *gateenv.Config) { c.PublicURL = "chat.example.com" },
		"MODELS: is set":       func(c *gateenv.Config) { c.Models = contract.Models{"m": {"a"}} },
		"OIDC_ISSUER: is set":  func(c *gateenv.Config) { c.Issuer = "https://id.example.com" },

		"COLLECTIONS: is set": func(c *gateenv.Config) {
			c.KnowledgeURL, c.Collections = "", contract.Models{"a": nil}
		},
		"COLLECTIONS: names groups": func(c *gateenv.Config) {
			c.Collections = contract.Models{"a": {"b"}}
		},
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want it to begin with %q", err, want)
		}
	}
}

// TestValidateProvider checks what is said of the variables of an OpenID provider; "" is nothing.
func TestValidateProvider(t *testing.T) {
	type config = gateenv.Config
	for name, tt := range map[string]struct {
		change func(*config)
		want   string
	}{
		"as it is":      {func(*config) {}, ""},
		"public client": {func(c *config) { c.ClientSecretFile = "" }, ""},
		"loopback": {func(c *config) {
			c.Issuer, c.PublicURL = "http://127.0.0.1:5556", "http://localhost:8080"
		}, ""},
		"admins alone": {func(c *config) { c.AllowedGroups = nil }, ""},
		"everybody": {func(c *config) {
			c.AllowedGroups, c.AdminGroups, c.GroupsClaim, c.Everybody = nil, nil, "", true
		}, ""},
		"everybody, and admins": {func(c *config) { c.AllowedGroups, c.Everybody = nil, true }, ""},
		"everybody, and some": {func(c *config) {
			c.Everybody = true
		}, "OIDC_ALLOWED_GROUPS: set"},
		"nobody": {func(c *config) { c.AllowedGroups, c.AdminGroups = nil, nil },
			"OIDC_ALLOWED_GROUPS: set"},
		"no issuer": {func(c *config) { c.Issuer = "" }, `OIDC_ISSUER: "" is no issuer`},
		"plain issuer": {func(c *config) {
			c.Issuer = "http://id.example.com"
		}, "OIDC_ISSUER: "},
		"issuer's query": {func(c *config) { c.Issuer += "?a=b" }, "OIDC_ISSUER: "},
		"issuer's user": {func(c *config) {
			c.Issuer = "https://u:p@id.example.com"
		}, "OIDC_ISSUER: "},
		"no client": {func(c *config) { c.ClientID = "" }, "OIDC_CLIENT_ID: is not set"},
		"no claim": {func(c *config) {
			c.GroupsClaim = ""
		}, "OIDC_GROUPS_CLAIM: is not set"},
		"relative secret": {func(c *config) {
			c.ClientSecretFile = "s"
		}, "OIDC_CLIENT_SECRET_FILE: "},
		"relative CA": {func(c *config) { c.ProviderCAFile = "s" }, "OIDC_CA_FILE: "},
		"no address":  {func(c *config) { c.PublicURL = "" }, "PUBLIC_URL: is not set"},
		"plain address": {func(c *config) {
			c.PublicURL = "http://chat.example.com"
		}, "PUBLIC_URL: "},
		"with a path": {func(c *config) { c.PublicURL += "/" }, "PUBLIC_URL: "},
		"with a user": {func(c *config) {
			c.PublicURL = "https://a@chat.example.com"
		}, "PUBLIC_URL: "},
	} {
		t.Run(name, func(t *testing.T) {
			c := provided()
			tt.change(c)
			err := c.Validate()
			if (err == nil) != (tt.want == "") ||
				err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want it to begin with %q", err, tt.want)
			}
		})
	}
}
