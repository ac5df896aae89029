// Package evidence says what of a stack supports the technical safeguards of 45 CFR 164.312, item
// by item: rules of policy that its plan keeps, settings of what would be provisioned, and tests
// that hold a behaviour. It also says what is left to whoever operates the stack. It supports a
// judgement, and makes none.
package evidence

import (
	"fmt"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Kind is what a support refers to.
type Kind string

// The kinds of support.
const (
	// Rule is a rule of policy, asked about the stack's plan.
	Rule Kind = "rule"

	// Field is a variable of a service's environment, as the plan has it.
	Field Kind = "field"

	// Test is a test of this repository, which `.ci/run` runs if there is time.
	Test Kind = "test"
)

// Support is one thing that supports an item.
type Support struct {
	Kind Kind `json:"kind"`

	// Name is a rule's ID, services.SERVICE.VARIABLE of a field, or FOLDER.TestName.
	Name string `json:"name"`

	// What says what it does for the item.
	What string `json:"what"`

	// Value is that of a field. Holds reports whether the plan keeps all that the rule asks of any
	// stack, or the field has a value that supports the item; a test's result is for .ci/run to show.
	Value string `json:"value,omitempty"`
	Holds bool   `json:"holds"`

	// Exempt reports whether the rule is kept only as it does not ask that of this stack.
	Exempt bool `json:"exempt,omitempty"`
}

// Item is an item of the standard, with what supports it.
type Item struct {
	// Section is its number, like 164.312(a)(2)(iii).
	Section string `json:"section"`
	Title   string `json:"title"`

	// Addressable reports whether the standard lets an entity do something equivalent instead.
	Addressable bool `json:"addressable"`

	Supports []Support `json:"supports"`

	// Operator is what is left to whoever operates the stack on its target.
	Operator string `json:"operator"`
}

// Report is what supports the items in one stack, on one target.
type Report struct {
	Stack  string        `json:"stack"`
	Target stacks.Target `json:"target"`
	Items  []Item        `json:"items"`
}

// Missing returns the supports that this stack lacks.
func (r Report) Missing() []Support {
	var out []Support
	for _, item := range r.Items {
		for _, s := range item.Supports {
			if !s.Holds {
				out = append(out, s)
			}
		}
	}

	return out
}

// Of returns what supports the items in the stack that was planned.
func Of(in policy.Input, now time.Time) (Report, error) {
	checked, err := policy.Check(in, now)
	if err != nil {
		return Report{}, err
	}

	strict, err := policy.Check(in.Strict(), now)
	if err != nil {
		return Report{}, err
	}

	r := Report{Stack: in.View.Stack, Target: in.Target}
	for _, item := range standard {
		out := item.Item
		out.Supports = nil
		if more := item.on[in.Target]; more != "" {
			out.Operator += " " + more
		}
		for _, s := range item.claims {
			out.Supports = append(out.Supports, s.of(in.View, checked, strict))
		}

		r.Items = append(r.Items, out)
	}

	return r, nil
}

// claim is a support before a stack is looked at.
type claim struct {
	Support

	// service and variable are a field's; wants reports whether a value of it supports the item.
	service, variable string
	wants             func(value string) bool
}

// of returns what the claim is in a stack, whose plan was checked as it is and as a strict one.
func (c claim) of(view workload.View, checked, strict policy.Report) Support {
	s := c.Support
	switch s.Kind {
	case Rule:
		s.Holds = keeps(strict, s.Name)
		s.Exempt = !s.Holds && keeps(checked, s.Name)
	case Field:
		s.Value = variable(view, c.service, c.variable)
		s.Holds = s.Value != "" && c.wants(s.Value)
	case Test:
		s.Holds = true
	}

	return s
}

// keeps reports whether the rule found nothing. A waived violation is one, whatever its reason.
func keeps(r policy.Report, rule string) bool {
	return !slices.ContainsFunc(r.Violations,
		func(v policy.Violation) bool { return v.Rule == rule }) &&
		!slices.ContainsFunc(r.Waived,
			func(w policy.Waived) bool { return w.Rule == rule })
}

// variable returns the value that all containers of the service have, or "".
func variable(view workload.View, service, name string) string {
	value := ""
	for _, w := range view.Workloads {
		if w.Service != service {
			continue
		}

		for _, c := range w.Containers {
			if c.Init {
				continue
			}
			if v := c.Env[name]; value == "" || v == value {
				value = v
			} else {
				return ""
			}
		}
	}

	return value
}

func rule(id, what string) claim {
	return claim{Support: Support{Kind: Rule, Name: id, What: what}}
}

func field(service, variable, what string, wants func(string) bool) claim {
	name := fmt.Sprintf("services.%s.%s", service, variable)
	return claim{
		Support: Support{Kind: Field, Name: name, What: what},
		service: service, variable: variable, wants: wants,
	}
}

func test(folder, name, what string) claim {
	return claim{Support: Support{Kind: Test, Name: folder + "." + name, What: what}}
}

// one returns a function that reports whether a value is one of these.
func one(of ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(of, v) }
}

// within returns a function that reports whether a value is a duration of at most that.
func within(most time.Duration) func(string) bool {
	return func(v string) bool { return policy.Within(v, most) }
}
