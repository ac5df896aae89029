package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestKnowledge checks that healthcare with documents keeps every rule on both targets, and that
// its documents are held to those that it could break.
func TestKnowledge(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stacks.Stack, *stacks.Service)
		want   string // the rule that is broken
	}{
		"as it is": {func(*stacks.Stack, *stacks.Service) {}, ""},
		"in clear text": {func(_ *stacks.Stack, svc *stacks.Service) {
			shared := svc.Contract.(*knowledgeenv.Config).Shared()
			shared.TLSCertificateFile, shared.TLSAuthoritiesFile, shared.TLSCallers = "", "", nil
		}, "internal-tls"},
		"with a way out": {func(s *stacks.Stack, svc *stacks.Service) {
			s.Networks = append(s.Networks, stacks.Network{Name: "open"})
			svc.Networks = append(svc.Networks, "open")
			svc.Outside = []stacks.Outside{{Port: 443, Reason: "a slip"}}
		}, "isolation"},
	} {
		for _, target := range plan.Targets {
			t.Run(name+" on "+string(target), func(t *testing.T) {
				stack, err := stacks.Load("healthcare", stacks.Settings{
					Target: target, AssumeSecrets: true,
					Knowledge: &stacks.KnowledgeSettings{
						Collections: map[string][]string{"wards": {"nurses"}},
					},
				}, stacks.Checkout{FS: os.DirFS(projectRoot(t))})
				if err != nil {
					t.Fatal(err)
				}
				tt.change(&stack, stack.Service(stacks.Knowledge))

				var view workload.View
				if target == stacks.Docker {
					view = onEngine(t, stack, nil)
				} else {
					view = onCluster(t, stack, record(t, stack))
				}

				var broken []string
				for _, v := range check(t, stack, view).Violations {
					if v.Subject != stacks.Knowledge {
						t.Errorf("%s: %s %s", v.Rule, v.Subject, v.What)
					}
					broken = append(broken, v.Rule)
				}
				// A service may break a rule in more than one way.
				if got := strings.Join(slices.Compact(broken), " "); got != tt.want {
					t.Errorf("broken is %q, want %q", got, tt.want)
				}
			})
		}
	}
}
