// Package policy holds what no stack may do, as rules over a plan: over what would be provisioned,
// not over what a stack claims. A rule is one small function; a stack may waive a single violation,
// with a reason and until a date.
package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Rule is one thing that no stack may do.
type Rule struct {
	// ID names the rule in reports and waivers; it never changes.
	ID string

	// Reason is why, Fix what to do about a violation.
	Reason, Fix string
	check       func(Input) []Finding
}

// Input is what the rules look at.
type Input struct {
	workload.View

	// Stack is what was planned; rules ask it only for reasons that a plan does not carry.
	Stack stacks.Stack

	// Root is how the plan names the project's root: an absolute path, or plan.Root.
	Root string
}

// Strict returns the input as of a stack that no rule asks less of than of others: it keeps its data
// to itself, is not for development, has nothing before the edge that ends TLS, and has not chosen
// ratings. What a rule finds there alone is what it lets pass in this stack.
func (in Input) Strict() Input {
	in.Stack.Safeguarded, in.Stack.Development = true, false
	in.Stack.TrustedProxies, in.Stack.Route = nil, nil
	in.Stack.RatingsChosen = false
	return in
}

// Finding is one place where a rule is broken.
type Finding struct {
	// Subject is the service, volume or network that breaks it.
	Subject string `json:"subject"`
	// What it does.
	What string `json:"what"`
}

// Violation is a finding of a rule.
type Violation struct {
	Rule string `json:"rule"`
	Finding
	Reason string `json:"reason"`
	Fix    string `json:"fix"`
}

// Waived is a violation that a waiver of the stack lets pass.
type Waived struct {
	Violation
	Waiver Waiver `json:"waiver"`
}

// Waiver is why and how long: Expires is the first day on which it is void, as 2006-01-02.
type Waiver struct {
	Reason  string `json:"reason"`
	Expires string `json:"expires"`
}

// Report is what the rules found in one plan. Its JSON form is for programs: fields are
// added, never changed.
type Report struct {
	Stack  string        `json:"stack"`
	Target stacks.Target `json:"target"`

	// Rules is how many were asked.
	Rules      int         `json:"rules"`
	Violations []Violation `json:"violations"`
	Waived     []Waived    `json:"waived"`
}

// WaiverRule is the rule that waivers themselves have to keep; it cannot be waived.
const WaiverRule = "waiver"

// longestWaiver is how far ahead a waiver may expire: a longer one would never be looked at again.
const longestWaiver = 366 * 24 * time.Hour

// Rules returns all rules, sorted by ID. WaiverRule is among them.
func Rules() []Rule {
	all := slices.Concat(exposureRules, containerRules, secretRules, isolationRules,
		internalTLSRules, storageRules, availabilityRules, clusterRules, modelRules, []Rule{{
			ID:     WaiverRule,
			Reason: "a waiver that nobody needs or renews hides the next violation",
			Fix: "remove the waiver, or renew its date and reason in the stack's overlay; " +
				"at most a year ahead",
			check: func(Input) []Finding { return nil },
		}})

	slices.SortFunc(all, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Check asks every rule. A waiver of the stack lets the violations of its rule by its subject pass
// until the day it expires; one that is expired, unused or of an unknown rule is a violation
// itself. A waiver without a reason is an error.
func Check(in Input, now time.Time) (Report, error) {
	waivers := in.Stack.Waivers
	for _, w := range waivers {
		if strings.TrimSpace(w.Reason) == "" || w.Subject == "" || w.Expires.IsZero() {
			return Report{}, fmt.Errorf(
				"waivers.%s: needs a subject, a reason and the day it expires on", w.Rule)
		}
	}

	rules := map[string]Rule{}
	r := Report{
		Stack:      in.View.Stack,
		Target:     in.Target,
		Violations: []Violation{},
		Waived:     []Waived{},
	}

	used := make([]bool, len(waivers))
	for _, rule := range Rules() {
		rules[rule.ID] = rule
		for _, f := range distinct(rule.check(in)) {
			v := rule.violation(f)
			i := slices.IndexFunc(waivers, func(w stacks.Waiver) bool {
				return w.Rule == rule.ID && w.Subject == f.Subject && now.Before(w.Expires)
			})
			if i < 0 {
				r.Violations = append(r.Violations, v)
				continue
			}

			used[i] = true
			waiver := Waiver{waivers[i].Reason, waivers[i].Expires.Format(time.DateOnly)}
			r.Waived = append(r.Waived, Waived{v, waiver})
		}
	}

	r.Rules = len(rules)

	for i, w := range waivers {
		date, what := w.Expires.Format(time.DateOnly), ""
		switch _, known := rules[w.Rule]; {
		case !known || w.Rule == WaiverRule:
			what = fmt.Sprintf("waives %s, which is no rule that can be waived", w.Rule)
		case !now.Before(w.Expires):
			what = fmt.Sprintf("waives %s, but has expired on %s", w.Rule, date)
		case !used[i]:
			what = fmt.Sprintf("waives %s, which it does not break", w.Rule)
		case w.Expires.Sub(now) > longestWaiver:
			what = fmt.Sprintf("waives %s until %s, more than a year ahead", w.Rule, date)
		default:
			continue
		}

		r.Violations = append(r.Violations, rules[WaiverRule].violation(Finding{w.Subject, what}))
	}

	return r, nil
}

func (r Rule) violation(f Finding) Violation {
	return Violation{Rule: r.ID, Finding: f, Reason: r.Reason, Fix: r.Fix}
}

// distinct sorts the findings: replicas that are resources of their own have the same ones.
func distinct(all []Finding) []Finding {
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(all)
}

// workloads makes a check of one that returns what is wrong with a workload.
func workloads(check func(Input, workload.Workload) []string) func(Input) []Finding {
	return func(in Input) []Finding {
		var out []Finding
		for _, w := range in.Workloads {
			for _, what := range check(in, w) {
				out = append(out, Finding{w.Service, what})
			}
		}
		return out
	}
}

// container is one of a workload of what the rules look at.
type container struct {
	workload.Container
	workload workload.Workload
	in       Input
}

// containers makes a check of one that returns what is wrong with a container.
func containers(check func(container) []string) func(Input) []Finding {
	return workloads(func(in Input, w workload.Workload) []string {
		var out []string
		for _, c := range w.Containers {
			for _, what := range check(container{c, w, in}) {
				if c.Name != "" && len(w.Containers) > 1 {
					what = "container " + c.Name + " " + what
				}
				out = append(out, what)
			}
		}

		return out
	})
}

// mounts makes a check of one that returns what is wrong with a mount of a container.
func mounts(check func(Input, workload.Mount) []string) func(Input) []Finding {
	return containers(func(c container) []string {
		var out []string
		for _, m := range c.Mounts {
			out = append(out, check(c.in, m)...)
		}
		return out
	})
}

// when returns what is wrong, or nothing unless it is so.
func when(broken bool, format string, args ...any) []string {
	if !broken {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}
