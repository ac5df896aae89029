package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestEgress lets the egress proxy out by its own way, and by no other, and with nothing that must
// not leave.
func TestEgress(t *testing.T) {
	stack, err := stacks.Load("healthcare", stacks.Settings{
		AssumeSecrets: true,
		SignIn: &stacks.SignInSettings{OIDC: &stacks.OIDCSettings{
			Issuer: "https://id.example.com", ClientID: "chat", Everybody: true,
		}},
	}, stacks.Checkout{FS: os.DirFS(projectRoot(t)), UID: 1000, GID: 1000})
	if err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		change func(*workload.Workload)
		want   string
	}{
		"as it is": {func(*workload.Workload) {}, ""},
		"as it is on a cluster": {func(w *workload.Workload) {
			w.WaysOut, w.Machine = []string{"any address port 443"}, nil
		}, ""},
		"on a cluster, to any port": {func(w *workload.Workload) {
			w.WaysOut = []string{"any address"}
		}, "any address"},
		"on a cluster, to others' pods": {func(w *workload.Workload) {
			w.WaysOut = []string{"other namespaces port 443"}
		}, "other namespaces port 443"},
		"another network": {func(w *workload.Workload) {
			w.WaysOut = append(w.WaysOut, "network own")
		}, "network own"},
		"another network's machine": {func(w *workload.Workload) {
			w.Machine = append(w.Machine, "own")
		}, "the machine's address on network own"},
		"a secret": {func(w *workload.Workload) {
			w.Containers[0].Mounts = []workload.Mount{{Kind: workload.Secrets, Path: "/run/secrets"}}
		}, "secrets in /run/secrets"},
		"a volume": {func(w *workload.Workload) {
			w.Containers[0].Mounts = []workload.Mount{{Kind: workload.Storage, Source: "redis-data"}}
		}, "the volume redis-data"},
		"Redis": {func(w *workload.Workload) {
			w.Containers[0].Env["REDIS_URL"] = "redis://redis:6379"
		}, "REDIS_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			view := onEngine(t, stack, nil)
			for i := range view.Workloads {
				if view.Workloads[i].Service == stacks.Egress {
					tt.change(&view.Workloads[i])
				}
			}

			var got []string
			for _, v := range check(t, stack, view).Violations {
				if v.Rule == "isolation" {
					got = append(got, v.What)
				}
			}
			if len(got) > 1 || (len(got) == 1) != (tt.want != "") ||
				!strings.Contains(strings.Join(got, ""), tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestSafeguardsStay holds that no setting takes a healthcare stack out of its rules: it shows
// another domain, and each rule still finds what it is there for.
func TestSafeguardsStay(t *testing.T) {
	no, another := false, "codexcontinue"
	for name, tt := range map[string]struct {
		settings stacks.Settings
		rule     string
		want     string
	}{
		"nobody signs in": {
			stacks.Settings{SignIn: &stacks.SignInSettings{}},
			"safeguards", "lets in people without sign-in",
		},
		"in the clear": {
			stacks.Settings{InternalTLS: &no}, "internal-tls", "speaks in the clear",
		},
		"without evals": {
			stacks.Settings{Model: stacks.ModelSettings{Evals: &no}},
			"evals", "has versions of the model serve without evals",
		},
		"a screen that is left": {
			stacks.Settings{Session: stacks.SessionSettings{Idle: time.Hour}},
			"safeguards", "keeps a session without use for longer than 15m0s",
		},
		"signed in for a month": {
			stacks.Settings{Session: stacks.SessionSettings{Life: 720 * time.Hour}},
			"safeguards", "keeps a session for longer than a week",
		},
		"records of a day": {
			stacks.Settings{Audit: &stacks.AuditSettings{Retention: 24 * time.Hour}},
			"safeguards", "drops records of who did what after 24h0m0s, which is less than six years",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.settings.Domain, tt.settings.AssumeSecrets = another, true
			stack, err := stacks.Load("healthcare", tt.settings,
				stacks.Checkout{FS: os.DirFS(projectRoot(t))})
			if err != nil {
				t.Fatal(err)
			}

			report := check(t, stack, onEngine(t, stack, nil))
			if !slices.ContainsFunc(report.Violations, func(v policy.Violation) bool {
				return v.Rule == tt.rule && v.What == tt.want
			}) {
				t.Errorf("%s does not say %q: %v", tt.rule, tt.want, report.Violations)
			}
		})
	}
}
