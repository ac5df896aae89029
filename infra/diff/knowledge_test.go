package diff_test

import (
	"os"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/diff"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestKnowledge holds that a reviewer sees who may read which documents, and that a stack gets them.
func TestKnowledge(t *testing.T) {
	with := func(collections map[string][]string) func(*stacks.Stack) {
		return func(s *stacks.Stack) {
			settings := stacks.Settings{
				AssumeSecrets: true, SignIn: &stacks.SignInSettings{Accounts: true},
			}
			if collections != nil {
				settings.Knowledge = &stacks.KnowledgeSettings{Collections: collections}
			}

			loaded, err := stacks.Load("prod", settings,
				stacks.Checkout{FS: os.DirFS(repository(t))})
			if err != nil {
				t.Fatal(err)
			}
			*s = loaded
		}
	}

	none := with(nil)
	nurses := with(map[string][]string{"wards": {"nurses"}})
	all := with(map[string][]string{"wards": nil})
	for _, target := range plan.Targets {
		said := func(before, after func(*stacks.Stack)) string {
			var text strings.Builder
			r := compare(t,
				[]plan.Document{recorded(t, repository(t), "prod", target, before)},
				[]plan.Document{recorded(t, repository(t), "prod", target, after)})
			if err := diff.Text(&text, r, 100, nil); err != nil {
				t.Fatal(err)
			}
			return text.String() + diff.Markdown(r)
		}

		for what, tt := range map[string]struct {
			text string
			want []string
		}{
			"opened":  {said(nurses, all), []string{`{"wards":["nurses"]}`, `{"wards":null}`}},
			"brought": {said(none, nurses), []string{"knowledge", "knowledge-data"}},
		} {
			for _, want := range tt.want {
				if !strings.Contains(tt.text, want) {
					t.Errorf("%s on %s: the diff lacks %s:\n%s", what, target, want, tt.text)
				}
			}
		}
	}
}
