package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) maintenanceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "maintenance on|off [STACK]",
		Short: "Show people a page while something is done to a stack",
		Long: `"on" closes the stack to people and their programs: a page, or an error, says so, with
503 and Retry-After, until "off". Answers that are being written go on to their end,
and who follows one sees it. The health checks and the state of the stack are
answered as ever, so "up" and "status" work meanwhile. The notice is in the stack's
Redis: it outlives every container, and no plan or preview shows it.

Both run inside one of the stack's gates. Where people sign in the audit has who ran
them.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	var message string
	on := &cobra.Command{
		Use:     "on [STACK]",
		Short:   "Put the page up",
		Example: `  codexctl maintenance on prod --message "New disks: back at 14:00 UTC."`,
		Args:    stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("message") && message == "" {
				return usageError{fmt.Errorf("--message: is empty: leave it out for the usual text")}
			}
			return a.maintain(c.Context(), stackOf(args), true, message)
		},
	}
	on.Flags().StringVarP(&message, "message", "m", "",
		"what people read, one line of at most 500 characters; everybody may see it")

	off := &cobra.Command{
		Use:   "off [STACK]",
		Short: "Take the page down",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.maintain(c.Context(), stackOf(args), false, "")
		},
	}

	for _, x := range []*cobra.Command{on, off} {
		x.DisableFlagsInUseLine = true
		c.AddCommand(x)
	}
	return c
}

func (a *App) maintain(ctx context.Context, name string, on bool, message string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	words := []string{"maintenance", "off", operator()}
	if on {
		words[1] = "on"
		if message != "" {
			words = append(words, message)
		}
	}
	if _, err := g.run(ctx, words...); err != nil {
		return err
	}

	if on {
		a.say("people see the page within a second, until `codexctl maintenance off %s`", t.name)
	} else {
		a.say("stack %s is open within a second", t.file.Name)
	}
	return nil
}

// notice is what people read instead of the site.
type notice struct {
	Message string    `json:"message"`
	By      string    `json:"by"`
	Since   time.Time `json:"since"`
}

// notice returns what people read instead of the stack's site, or nil. Nobody reads anything where
// no gate runs well.
func (a *App) notice(
	ctx context.Context, t target, stack stacks.Stack, p platform,
) (*notice, error) {
	g, err := healthyGate(ctx, t, stack, p)
	if err != nil {
		return nil, nil // status shows what does not run well
	}

	said, err := g.run(ctx, "maintenance")
	if err != nil {
		return nil, err
	}

	var n *notice
	if err := json.Unmarshal([]byte(said), &n); err != nil {
		return nil, fmt.Errorf("the gate said %q", console.Plain(said))
	}
	return n, nil
}
