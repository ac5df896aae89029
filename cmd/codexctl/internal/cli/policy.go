package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) policyCommand() *cobra.Command {
	var on string
	var all, asJSON, rules bool
	c := &cobra.Command{
		Use:   "policy [STACK]",
		Short: "Check a stack's plan against the rules for every stack",
		Long: `Checks what "up" would provision against the rules that every stack has to keep:
no public port besides the edge, limits everywhere, no secret in an environment,
and so on (--rules lists them). It plans from the files alone, without an engine,
a cluster, a login or a passphrase.

A stack's overlay can waive a rule for one service, with a reason and a date.

Exit codes: 0 all rules are kept, 2 there are violations, 1 it could not be checked.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			target, err := targetFlag(on)
			switch {
			case err != nil:
				return err
			case rules:
				return a.listRules(asJSON)
			case all && (len(args) > 0 || on != ""):
				return usageError{fmt.Errorf("--all checks every stack for every target: leave " +
					"out the stack and --target")}
			case all:
				return a.policyAll(c.Context(), asJSON)
			}

			return a.policy(c.Context(), stackOf(args), target, asJSON)
		},
	}

	c.Flags().StringVar(&on, "target", "",
		"check the plan for docker or kubernetes instead of the stack's own target")
	c.Flags().BoolVar(&all, "all", false, "check every stack for every target")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&rules, "rules", false, "list the rules")
	return c
}

// targetFlag parses the value of --target; "" stands for the stack's own target.
func targetFlag(name string) (stacks.Target, error) {
	if t := stacks.Target(name); t == "" || slices.Contains(plan.Targets, t) {
		return t, nil
	}
	return "", usageError{fmt.Errorf("--target %q: the targets are %s and %s",
		name, stacks.Docker, stacks.Kubernetes)}
}

func (a *App) policy(ctx context.Context, name string, on stacks.Target, asJSON bool) error {
	_, p, err := a.planOf(ctx, name, on)
	if err != nil {
		return err
	}

	r, err := a.checkPolicy(p)
	if err != nil {
		return err
	}

	return a.printPolicy([]policy.Report{r}, asJSON)
}

// policyAll checks every stack for every target. A target that is not the
// stack's own may refuse it.
func (a *App) policyAll(ctx context.Context, asJSON bool) error {
	project, err := project.Find(a.dir)
	if err != nil {
		return err
	}

	var reports []policy.Report
	names, err := project.Stacks()
	if err != nil {
		return err
	}

	for _, name := range names {
		own, err := plan.Of(ctx, project.Root, name, plan.OfOptions{})
		if err != nil {
			return err
		}

		for _, target := range plan.Targets {
			p := own
			if target != own.Document.Target {
				if p, err = plan.Of(ctx, project.Root, name, plan.OfOptions{Target: target}); err != nil {
					a.say("%s on %s was not checked: %s", name, target, err)
					continue
				}
			}

			r, err := a.checkPolicy(p)
			if err != nil {
				return err
			}

			reports = append(reports, r)
		}
	}

	return a.printPolicy(reports, asJSON)
}

func (a *App) checkPolicy(p plan.Plan) (policy.Report, error) {
	view, err := workload.Of(p.Document)
	if err != nil {
		return policy.Report{}, err
	}
	return policy.Check(policy.Input{View: view, Stack: p.Stack, Root: plan.Root}, a.now())
}

func (a *App) printPolicy(reports []policy.Report, asJSON bool) error {
	broken := 0
	for _, r := range reports {
		broken += len(r.Violations)
	}

	if asJSON {
		if err := writeJSON(a.out, reports); err != nil {
			return err
		}
	} else {
		for _, r := range reports {
			a.printReport(r)
		}
	}

	if broken > 0 {
		return exitError{exitDiffers}
	}

	return nil
}

// holdPolicy returns an error, once it has printed the violations, if the plan of the stack breaks
// a rule.
func (a *App) holdPolicy(ctx context.Context, name string) error {
	_, p, err := a.planOf(ctx, name, "")
	if err != nil {
		return err
	}

	return a.refuseViolations(p)
}

// refuseViolations returns an error, once it has printed the violations, if the plan breaks a rule.
func (a *App) refuseViolations(p plan.Plan) error {
	r, err := a.checkPolicy(p)
	if err != nil || len(r.Violations) == 0 {
		return err
	}

	a.printViolations(a.err, r)
	a.say("Nothing was done: the policy forbids %s. Correct that, or waive it in the\nstack's "+
		"overlay: docs/policy.md.", count(len(r.Violations), "thing"))

	return errReported
}

// printViolations prints the violations, each with its reason and what to do.
func (a *App) printViolations(out *console.Console, r policy.Report) {
	for _, v := range r.Violations {
		out.Printf("%s %s on %s: %s %s",
			out.Paint(console.Red, "✗ "+v.Rule), r.Stack, r.Target, v.Subject, v.What)
		paragraph(out, "why", v.Reason)
		paragraph(out, "fix", v.Fix)
	}
}

// printReport prints the violations to stdout, and the rest to stderr.
func (a *App) printReport(r policy.Report) {
	where := fmt.Sprintf("%s on %s", r.Stack, r.Target)
	a.printViolations(a.out, r)
	for _, w := range r.Waived {
		a.say("%s %s: %s %s",
			a.err.Paint(console.Yellow, "waived "+w.Rule), where, w.Subject, w.What)
		a.err.Hanging("  ", fmt.Sprintf("until %s: %s", w.Waiver.Expires, w.Waiver.Reason))
	}

	a.say("%s: %s, %s, %d waived", where, count(r.Rules, "rule"),
		count(len(r.Violations), "violation"), len(r.Waived))
}

func paragraph(out *console.Console, head, text string) {
	out.Hanging("  "+out.Paint(console.Dim, head)+"  ", text)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listRules prints every rule with its reason.
func (a *App) listRules(asJSON bool) error {
	all := policy.Rules()
	if asJSON {
		type rule struct {
			ID     string `json:"id"`
			Reason string `json:"reason"`
			Fix    string `json:"fix"`
		}

		out := []rule{}
		for _, r := range all {
			out = append(out, rule{r.ID, r.Reason, r.Fix})
		}

		return writeJSON(a.out, out)
	}

	for _, r := range all {
		a.out.Printf("%s", a.out.Paint(console.Bold, r.ID))
		paragraph(a.out, "why", strings.ToUpper(r.Reason[:1])+r.Reason[1:])
		paragraph(a.out, "fix", r.Fix)
	}

	return nil
}
