package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
)

func (a *App) restartCommand() *cobra.Command {
	var stack string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "restart SERVICE",
		Short: "Restart a service's containers, one after the other",
		Long: `Restarts the containers of the service one after the other. Each gets its time to
finish what it is at, and must be healthy before the next one goes.`,
		Args: serviceArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.restart(c.Context(), stack, args[0], timeout)
		},
	}
	c.Flags().StringVarP(&stack, "stack", "s", defaultStack, "the stack")
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long each container may take to become healthy")
	return c
}

func (a *App) restart(ctx context.Context, name, service string, timeout time.Duration) error {
	t, eng, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer eng.Close()
	list, err := t.replicas(ctx, eng, service)
	if err != nil {
		return err
	}
	for i, c := range list {
		start := a.now()
		err := eng.Restart(ctx, c, timeout)
		if errors.Is(err, engine.ErrUnhealthy) {
			p := failure.Problem{Service: service, What: err.Error(), Container: c.Name}
			if rest := len(list) - i - 1; rest > 0 {
				p.Todo = fmt.Sprintf("the other %d were left as they are", rest)
			}
			if p.Log, err = eng.LastLines(ctx, c.ID, failure.LogLines); err != nil {
				p.Log = []string{err.Error()}
			}
			failure.Print(a.err, []failure.Problem{p})
			return errReported
		}
		if err != nil {
			return err
		}
		a.say("%s is healthy again after %.1fs", c.Name, a.now().Sub(start).Seconds())
	}
	return nil
}
