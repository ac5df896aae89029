package stacks_test

import (
	"slices"
	"strings"
	"testing"

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
		`{"log": true}`:  "",
		`{"log": "yes"}`: "codexcontinue:audit.log: must be true or false",
		`{"logs": true}`: "codexcontinue:audit.logs: unknown key: did you mean log?",
		"on":             "codexcontinue:audit: must be an object",
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
