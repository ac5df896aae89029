package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
)

func (a *App) previewCommand() *cobra.Command {
	var expectNone bool
	c := &cobra.Command{
		Use:   "preview [STACK]",
		Short: "Show what up would change, without changing it",
		Long: `Shows what "up" would change, without changing it. A stack that breaks a rule of
"policy" is refused, as "up" refuses it.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.preview(c.Context(), stackOf(args), expectNone)
		},
	}

	c.Flags().BoolVar(&expectNone, "expect-no-changes", false, "fail when anything would change")
	return c
}

func (a *App) preview(ctx context.Context, name string, expectNone bool) error {
	if err := a.holdPolicy(ctx, name); err != nil {
		return err
	}

	t, stack, p, err := a.open(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	s, err := a.session(ctx, t, true)
	if err != nil {
		return a.explainError(err, t.name)
	}

	result, err := s.Preview(ctx, progress.Quiet(a.err, a.now))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}

		problems := failure.Explain(ctx, result.Errors, nil, name, serviceNames(stack))
		if len(problems) == 0 {
			return a.explainError(err, t.name)
		}

		failure.Print(a.err, problems)
		return errReported
	}

	plan := merge(result.Steps)
	printPlan(a.out, plan)
	a.say("%s", summary(plan, result.Unchanged))
	if expectNone && len(plan) > 0 {
		return errors.New("preview: changes were not expected")
	}

	return nil
}

// change is what happens to one resource. Replacing it is one change of several steps.
type change struct {
	progress.Step
	what string
	gap  bool // whether the old one goes before the new one is there
}

// merge returns one change for the steps of each resource, in the order in which they began.
func merge(steps []progress.Step) []change {
	var out []change
	at := map[string]int{}
	for _, s := range steps {
		what := map[apitype.OpType]string{
			apitype.OpCreate: "create", apitype.OpUpdate: "update", apitype.OpDelete: "delete",
			apitype.OpCreateReplacement: "replace", apitype.OpDeleteReplaced: "replace",
		}[s.Op]
		if what == "" {
			what = string(s.Op)
		}

		if i, ok := at[s.URN]; ok {
			if what == "replace" {
				out[i].what = what
			}
			if len(s.Changed) > len(out[i].Changed) {
				out[i].Changed = s.Changed
			}
			continue
		}

		at[s.URN] = len(out)
		gap := s.Op == apitype.OpDeleteReplaced // else it comes last
		out = append(out, change{Step: s, what: what, gap: gap})
	}

	return out
}

var changeSigns = map[string]struct {
	sign  string
	paint console.Paint
}{
	"create":  {"+", console.Green},
	"update":  {"~", console.Yellow},
	"replace": {"±", console.Yellow},
	"delete":  {"-", console.Red},
}

func printPlan(out *console.Console, plan []change) {
	for _, c := range plan {
		sign := changeSigns[c.what]
		line := fmt.Sprintf("%-1s %-8s %-10s %s", sign.sign, c.what, c.Kind, c.Name)
		if c.gap {
			line += ", the old one first"
		}
		if len(c.Changed) > 0 && (c.what == "update" || c.what == "replace") {
			line += "  [" + strings.Join(c.Changed, ", ") + "]"
		}
		out.Printf("%s",
			out.Paint(sign.paint, console.Cut(line, max(out.Width(), console.DefaultWidth))))
	}
}

// summary returns how many resources would change, by kind of change.
func summary(plan []change, unchanged int) string {
	if len(plan) == 0 {
		return fmt.Sprintf("nothing would change: %d resources are as they should be", unchanged)
	}

	n := map[string]int{}
	for _, c := range plan {
		n[c.what]++
	}

	var parts []string
	for _, what := range []string{"create", "update", "replace", "delete"} {
		if n[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n[what], what))
		}
	}

	return strings.Join(append(parts, fmt.Sprintf("%d unchanged", unchanged)), ", ")
}
