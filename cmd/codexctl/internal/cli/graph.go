package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/infra/graph"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) graphCommand() *cobra.Command {
	var on string
	c := &cobra.Command{
		Use:   "graph [STACK]",
		Short: "Draw a stack: services, networks, volumes, what is exposed",
		Long: `Draws what "up" would provision, from the files alone, as a Mermaid flowchart:
GitHub and others render it in Markdown, in a code block named mermaid.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			target, err := targetFlag(on)
			if err != nil {
				return err
			}
			return a.graph(c.Context(), stackOf(args), target)
		},
	}

	c.Flags().StringVar(&on, "target", "",
		"draw the plan for docker or kubernetes instead of the stack's own target")
	return c
}

func (a *App) graph(ctx context.Context, name string, on stacks.Target) error {
	_, p, err := a.planOf(ctx, name, on)
	if err != nil {
		return err
	}

	view, err := workload.Of(p.Document)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(a.out, graph.Mermaid(view)); err != nil {
		return fmt.Errorf("graph: %w", err)
	}

	return nil
}
