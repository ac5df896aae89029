package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
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
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute,
		"how long each container may take to become healthy")
	return c
}

func (a *App) restart(ctx context.Context, name, service string, timeout time.Duration) error {
	t, p, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	release, err := a.lock(ctx, p, t.name, "restart")
	if err != nil {
		return err
	}
	defer release()

	if _, err := t.replicas(ctx, p, service); err != nil {
		return err
	}

	err = p.Restart(ctx, service, timeout, func(name string, took time.Duration) {
		a.say("%s is healthy after %.1fs", name, took.Seconds())
	})
	var sick *running.UnhealthyError
	if !errors.As(err, &sick) {
		return err
	}

	problem := failure.Problem{Service: service, What: err.Error()}
	if sick.Left > 0 {
		problem.Todo = fmt.Sprintf("the other %d were left as they are", sick.Left)
	}

	problem.AddLog(ctx, p, sick.Replica)

	failure.Print(a.err, []failure.Problem{problem})
	return errReported
}
