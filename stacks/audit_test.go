package stacks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestAudit holds that acts are recorded wherever people sign in, under a key that both services
// have, where the stack has a secret.
func TestAudit(t *testing.T) {
	accounts := &stacks.SignInSettings{Accounts: true}
	for name, tt := range map[string]struct {
		stack    string
		settings stacks.Settings
		want     contract.Auditing
	}{
		"nobody signs in": {"dev", stacks.Settings{}, contract.Auditing{}},
		"dev":             {"dev", stacks.Settings{SignIn: accounts}, contract.Auditing{Audit: true}},
		"prod": {"prod", stacks.Settings{SignIn: accounts, AssumeSecrets: true},
			contract.Auditing{Audit: true, AuditKeyFile: "/run/secrets/audit-key"}},
		"logged": {
			"healthcare", stacks.Settings{
				SignIn: accounts, AssumeSecrets: true, Audit: &stacks.AuditSettings{Log: true},
			},
			contract.Auditing{
				Audit: true, AuditLog: true, AuditKeyFile: "/run/secrets/audit-key",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			stack := load(t, tt.stack, tt.settings)
			keys := map[string]bool{}
			for _, service := range []string{stacks.Gate, stacks.Backend} {
				svc := stack.Service(service)
				if got := *svc.Contract.(contract.Audited).AuditVariables(); got != tt.want {
					t.Errorf("%s has %+v", service, got)
				}

				at := slices.IndexFunc(svc.Files, func(f stacks.File) bool {
					return f.Path == tt.want.AuditKeyFile
				})
				if (at >= 0) != (tt.want.AuditKeyFile != "") {
					t.Errorf("%s has the key: %v", service, at >= 0)
				}
				if at >= 0 {
					keys[svc.Files[at].Text("the password of Redis")] = true
				}
			}

			if len(keys) > 1 || keys["the password of Redis"] {
				t.Errorf("the keys are %v", keys)
			}
		})
	}
}

func TestAuditSettings(t *testing.T) {
	for value, want := range map[string]string{
		`{"log": true}`:                     "",
		`{"log": true, "retention": "24h"}`: "",
		`{"retention": "23h59m"}`:           "codexcontinue:audit.retention: \"23h59m\" is no duration",
		`{"retention": "400 days"}`:         "codexcontinue:audit.retention: \"400 days\" is no duration",
		`{"log": "yes"}`:                    "codexcontinue:audit.log: must be true or false",
		`{"logs": true}`:                    "codexcontinue:audit.logs: unknown key: did you mean log?",
		"on":                                "codexcontinue:audit: must be an object",
	} {
		s, err := stacks.DecodeSettings(map[string]string{"audit": value}, nil)
		if want == "" && (err != nil || !s.Audit.Log) {
			t.Errorf("%s: %+v, %v", value, s.Audit, err)
		}
		if want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v", value, err)
		}
	}

	_, err := stacks.Load("dev", stacks.Settings{Audit: &stacks.AuditSettings{}}, checkout())
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:audit: is set, and nobody") {
		t.Errorf("an audit of nobody: %v", err)
	}
}

// TestAuditRetention holds how long records are kept, and that nobody is told a time that nothing
// holds to.
func TestAuditRetention(t *testing.T) {
	accounts := &stacks.SignInSettings{Accounts: true}
	week := &stacks.AuditSettings{Retention: 7 * 24 * time.Hour}
	another := &stacks.RedisSettings{URL: "rediss://redis.example.com:6379/0"}
	for name, tt := range map[string]struct {
		stack    string
		settings stacks.Settings
		want     []string // what follows the configuration in Redis' command
		refused  bool
	}{
		"prod":          {"prod", stacks.Settings{SignIn: accounts}, []string{"34560000"}, false},
		"six years":     {"healthcare", stacks.Settings{}, []string{"189388800"}, false},
		"a week":        {"healthcare", stacks.Settings{Audit: week}, []string{"604800"}, false},
		"nobody":        {"prod", stacks.Settings{}, nil, false},
		"another Redis": {"healthcare", stacks.Settings{Redis: another}, nil, false},
		"no password": {
			"dev", stacks.Settings{SignIn: accounts},
			[]string{"--include", "/etc/redis/users.conf"}, false,
		},

		"a week without a password": {
			"dev", stacks.Settings{SignIn: accounts, Audit: week}, nil, true,
		},
		"a week in another Redis": {
			"healthcare", stacks.Settings{Redis: another, Audit: week}, nil, true,
		},
	} {
		tt.settings.AssumeSecrets = true
		stack, err := stacks.Load(tt.stack, tt.settings, checkout())
		if tt.refused {
			const want = "codexcontinue:audit.retention: is set, and nothing drops records here"
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}

		var got []string
		if r := stack.Service(stacks.Redis); r != nil {
			at := slices.Index(r.Command, "/etc/redis/redis.conf")
			got = r.Command[at+1:]
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: Redis is told %q", name, got)
		}
	}
}
