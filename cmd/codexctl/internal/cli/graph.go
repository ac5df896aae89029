package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/infra/graph"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) graphCommand() *cobra.Command {
	var on, format string
	c := &cobra.Command{
		Use:   "graph [STACK]",
		Short: "Draw a stack: services, networks, volumes, what is exposed",
		Long: `Draws what "up" would provision, from the files alone: as Mermaid, which GitHub
and others render in Markdown, or as SVG.

  codexctl graph prod --format svg >prod.svg`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			target, err := targetFlag(on)
			if err != nil {
				return err
			}
			return a.graph(c.Context(), stackOf(args), target, format)
		},
	}
	c.Flags().StringVar(&format, "format", "mermaid", "mermaid or svg")
	c.Flags().StringVar(&on, "target", "", "draw the plan for docker or kubernetes instead of the stack's own target")
	return c
}

func (a *App) graph(ctx context.Context, name string, on stacks.Target, format string) error {
	draw, ok := map[string]func(graph.Graph) string{"mermaid": graph.Graph.Mermaid, "svg": graph.Graph.SVG}[format]
	if !ok {
		return usageError{fmt.Errorf("--format %q: the formats are mermaid and svg", format)}
	}
	t, err := a.target(name)
	if err != nil {
		return err
	}
	p, err := plan.Of(ctx, t.project.Root, t.file.Name, plan.OfOptions{Target: on})
	if err != nil {
		return err
	}
	view, err := workload.Of(p.Document)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(a.out, draw(graph.New(view))); err != nil {
		return fmt.Errorf("graph: %w", err)
	}
	return nil
}
