package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
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

	gate := stack.Service(stacks.Gate)
	if gate == nil {
		return fmt.Errorf("stack %s has no %s", t.file.Name, stacks.Gate)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	replica, err := t.healthyGate(ctx, p)
	if err != nil {
		return err
	}

	command := append([]string{gate.Health.Command[0], "usage"}, words...)
	code, output, err := p.Exec(ctx, replica, command)
	if err != nil {
		return err
	}
	if code != 0 {
		return errors.New(strings.TrimPrefix(output, stacks.Gate+": "))
	}

	a.out.Printf("%s", output)
	return nil
}

// healthyGate returns one of the stack's gates that runs well.
func (t target) healthyGate(ctx context.Context, p platform) (running.Replica, error) {
	list, err := t.replicas(ctx, p, stacks.Gate)
	if err != nil {
		return running.Replica{}, err
	}

	i := slices.IndexFunc(list, func(r running.Replica) bool { return r.Healthy })
	if i < 0 {
		return running.Replica{}, fmt.Errorf("%s of stack %s does not run well yet: "+
			"`codexctl status %s`", stacks.Gate, t.file.Name, t.name)
	}

	return list[i], nil
}
