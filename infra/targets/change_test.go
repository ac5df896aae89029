package targets_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// expected returns the field's fate on the target, and what shows it.
func (e edit) expected(t *testing.T, target stacks.Target) (is fate, at string) {
	t.Helper()
	is, at = find(t, e.field).on(target).fate, e.docker
	changed := e.dockerFate
	if target == stacks.Kubernetes {
		at, changed = e.kubernetes, e.kubernetesFate
	}
	if changed != "" {
		is = changed
	}

	return is, at
}

// changed returns the lab's stack with the given changes.
func changed(t *testing.T, root string, changes ...func(*stacks.Stack)) stacks.Stack {
	t.Helper()
	s := labStack(t, root)
	for _, change := range changes {
		if change != nil {
			change(&s)
		}
	}

	return s
}

// TestEveryFieldChanges changes each field, and sees what each target makes of it.
func TestEveryFieldChanges(t *testing.T) {
	root := labRoot(t)
	for _, target := range both {
		if err := labStack(t, root).Validate(); err != nil {
			t.Fatal(err)
		}

		lab := mustRecord(t, labStack(t, root), target, root)
		shown := map[string]bool{}
		for i, e := range edits {
			if e.only != "" && e.only != target {
				continue
			}

			fate, at := e.expected(t, target)
			if find(t, e.field).on(target).fate == fate {
				shown[e.field] = true
			}

			t.Run(fmt.Sprintf("%s/%d %s", target, i, e.field), func(t *testing.T) {
				resources, err := record(changed(t, root, e.before, e.change), target, root)
				if fate == fateRefused || e.err != "" {
					want := e.err
					if want == "" {
						want = fmt.Sprintf("%s: the %s target cannot express it: ", at, target)
					}
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("got %v, want it to hold %q", err, want)
					}

					return
				}

				if err != nil {
					t.Fatal(err)
				}

				before := lab
				if e.before != nil {
					before = mustRecord(t, changed(t, root, e.before), target, root)
				}

				different := differences(t, before, resources)
				switch {
				case fate != fateRendered && at != "":
					t.Errorf("the table says %q, and the edit expects a change of %s", fate, at)
				case fate != fateRendered && len(different) > 0:
					t.Errorf("the table says %q, but the plan changes: %v", fate, different)
				case fate == fateRendered && !slices.ContainsFunc(different, func(d string) bool {
					return at != "" && strings.HasSuffix(d, at)
				}):
					t.Errorf("%q does not change, but %q does", at, different)
				}
			})
		}

		for _, field := range fields() {
			if !shown[field] {
				t.Errorf("no edit shows what becomes of %s on %s", field, target)
			}
		}
	}
}

// differences returns the resources, as "type name", that are not the same in both plans.
func differences(t *testing.T, before, after []plan.Resource) []string {
	t.Helper()
	text := func(list []plan.Resource) map[string]string {
		out := map[string]string{}
		for _, r := range list {
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			out[r.Type+" "+r.Name] = string(b)
		}

		return out
	}

	b, a := text(before), text(after)
	var out []string
	for name := range b {
		if a[name] != b[name] {
			out = append(out, name)
		}
	}

	for name := range a {
		if _, ok := b[name]; !ok {
			out = append(out, name)
		}
	}

	slices.Sort(out)
	return out
}
