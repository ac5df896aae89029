package targets_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/targets"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestGaps checks that what the plans let through is what the stack says and what Gaps
// names, and nothing else.
func TestGaps(t *testing.T) {
	eachStack(t, func(t *testing.T, s described) {
		for _, target := range both {
			facts := kubernetesFacts
			if target == stacks.Docker {
				facts = dockerFacts
			}

			let := map[string]bool{}
			for fact, value := range facts(t, recordFacts(t, s.Stack, target, s.root)) {
				service, what, _ := strings.Cut(fact, "/")
				switch {
				case s.Service(service) == nil: // the Job that makes the model
				case strings.HasPrefix(what, "may reach "), strings.HasPrefix(what,
					"programs in ") && value == "true":
					let[fact] = true
				case what == "leaves to" && (value == "anywhere" || strings.Contains(value, "/0 ")):
					let[fact] = true
				}
			}

			said := map[string]bool{}
			for _, svc := range s.Services {
				for _, c := range svc.Calls {
					said[svc.Name+"/may reach "+c] = true
				}

				for _, m := range svc.Mounts {
					if m.Kind == stacks.MountTmpfs &&
						(m.Exec || m.ReadOnly && target == stacks.Kubernetes) {
						said[svc.Name+"/programs in "+m.Target] = true
					}
				}

				for _, o := range svc.Outside {
					if o.Host == "" {
						said[svc.Name+"/leaves to"] = true
					}
				}
			}

			gap := func(fact string) {
				if said[fact] {
					t.Errorf("%s: a gap tells of %s, which the stack says", target, fact)
				}
				said[fact] = true
			}

			for _, g := range targets.Gaps(s.Stack, target) {
				if !strings.HasPrefix(g.Path, "services."+g.Service+".") {
					t.Errorf("%s: the path is %q", g.Service, g.Path)
				}

				switch g.Field {
				case "Service.Calls":
					list, _, _ := strings.Cut(strings.TrimPrefix(g.Lets, "reaches "), " too")
					for _, other := range strings.Split(list, ", ") {
						gap(g.Service + "/may reach " + other)
					}
				// of a service that may say to reach some of that
				case "Outside.Host", "Outside.Port":
					said[g.Service+"/leaves to"] = true
				case "Mount.Exec":
					gap(g.Service + "/programs in " + strings.TrimPrefix(g.Path,
						"services."+g.Service+".mounts."))
				default:
					t.Errorf("a gap of %s, of which the plans say nothing", g.Field)
				}
			}

			if d := cmp.Diff(slices.Sorted(maps.Keys(let)), slices.Sorted(maps.Keys(said))); d != "" {
				t.Errorf("%s (-what the plan lets through +what is said):\n%s", target, d)
			}
		}
	})
}

// TestGapsAreInTheTable checks that each field which a target does not enforce has gaps, in one
// stack at least, and that the table says so of each that has.
func TestGapsAreInTheTable(t *testing.T) {
	stack := labStack(t, labRoot(t))
	for _, target := range both {
		found := map[string]bool{}
		for _, g := range targets.Gaps(stack, target) {
			found[g.Field] = true
			o := find(t, g.Field).on(target)
			if o.fate != fateUnenforced &&
				!strings.Contains(strings.ToLower(o.text), "not enforced") {
				t.Errorf("%s: %s has a gap, and the table says %q", target, g.Field, o)
			}
		}

		for _, r := range table(t) {
			field := r.field
			if field == "Outside.Host" && target == stacks.Docker {
				field = "Outside.Port" // one gap is about both
			}

			if r.on(target).fate == fateUnenforced && !found[field] {
				t.Errorf("%s: by the table %s is not enforced, and there is no gap", target,
					r.field)
			}
		}
	}
}
