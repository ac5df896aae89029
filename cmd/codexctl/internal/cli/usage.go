package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *App) usageCommand() *cobra.Command {
	var days int
	var asJSON bool
	c := &cobra.Command{
		Use:   "usage [STACK]",
		Short: "Show how many questions and tokens each person has used",
		Long: `Shows how many questions each person has asked, on the page and by programs, and
how many tokens were read and written for them, those first who have used most. Days
begin at midnight UTC, and 40 of them are kept. It runs inside one of the stack's gates.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"--days", strconv.Itoa(days)}
			if asJSON {
				words = append(words, "--json")
			}
			return a.usage(c.Context(), stackOf(args), words)
		},
	}

	c.Flags().IntVar(&days, "days", 30, "how many days, today included")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// usage runs `gate usage` with the words in one of the stack's gates.
func (a *App) usage(ctx context.Context, name string, words []string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	output, err := g.run(ctx, append([]string{"usage"}, words...)...)
	if err != nil {
		return err
	}

	a.out.Printf("%s", output)
	return nil
}
