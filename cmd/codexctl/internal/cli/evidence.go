package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/infra/evidence"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) evidenceCommand() *cobra.Command {
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use:   "evidence STACK",
		Short: "Say what of a stack supports the safeguards of 45 CFR 164.312",
		Long: `Prints, as Markdown, a table for each technical safeguard of 45 CFR 164.312: the
rules of policy, the fields of the plan and the tests that support it, and what is
left to whoever operates the stack. It plans from the files alone, as "policy" does.

It says what supports a safeguard, never that a stack complies.

Exit codes: 0 everything that is named holds in this stack, 2 something does not,
1 it could not be checked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			target, err := targetFlag(on)
			if err != nil {
				return err
			}
			return a.evidence(c.Context(), args[0], target, asJSON)
		},
	}

	c.Flags().StringVar(&on, "target", "",
		"look at the plan for docker or kubernetes instead of the stack's own target")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return c
}

func (a *App) evidence(ctx context.Context, name string, on stacks.Target, asJSON bool) error {
	_, p, err := a.planOf(ctx, name, on)
	if err != nil {
		return err
	}

	view, err := workload.Of(p.Document)
	if err != nil {
		return err
	}

	r, err := evidence.Of(
		policy.Input{View: view, Stack: p.Stack, Root: plan.Root}, a.now())
	if err != nil {
		return err
	}

	if asJSON {
		err = writeJSON(a.out, r)
	} else if _, err = fmt.Fprint(a.out, r.Markdown()); err != nil {
		err = fmt.Errorf("evidence: %w", err)
	}
	if err != nil {
		return err
	}

	missing := r.Missing()
	for _, s := range missing {
		a.say("%s %s does not support what it should", s.Kind, s.Name)
	}
	if len(missing) > 0 {
		return exitError{exitDiffers}
	}

	return nil
}
