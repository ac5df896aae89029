package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

func (a *App) downCommand() *cobra.Command {
	var volumes, yes bool
	c := &cobra.Command{
		Use:   "down [STACK]",
		Short: "Remove a stack, but keep its volumes",
		Long: `Removes the stack's containers and networks (default: dev). The volumes with the
conversations and the models stay, and the next up finds them, unless --volumes
says otherwise.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.down(c.Context(), stackOf(args), volumes, yes)
		},
	}

	c.Flags().BoolVar(&volumes, "volumes", false,
		"remove the volumes as well: conversations, documents and models are lost")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before removing volumes")
	return c
}

func (a *App) down(ctx context.Context, name string, volumes, yes bool) error {
	start := a.now()
	t, p, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	stack := t.file.Name
	if volumes && !yes {
		if err := a.confirmVolumes(ctx, p, stack); err != nil {
			return err
		}
	}

	release, err := a.lock(ctx, p, t.name, "down")
	if err != nil {
		return err
	}
	defer release()

	// Any would keep networks and volumes from being removed.
	all := func(running.OneOff) bool { return true }
	if err := a.removeOneOffs(ctx, p, all); err != nil {
		return err
	}

	removed := 0
	s, err := a.session(ctx, t, false)
	switch {
	case errors.Is(err, deploy.ErrNoStack):
		// What runs nevertheless is in the state of another backend.
		list, err := p.Replicas(ctx, "")
		if err == nil && len(list) > 0 {
			err = p.Foreign(list)
		}
		if err != nil {
			return err
		}
	case err != nil:
		return a.explainError(err, t.name)
	default:
		result, err := s.Destroy(ctx, progress.New(a.err, a.now))
		if err != nil {
			return a.explainDown(ctx, t.name, result, err)
		}
		removed = len(merge(result.Steps))
	}

	names, err := p.Volumes(ctx)
	if err != nil {
		return err
	}

	if volumes {
		for _, v := range names {
			if err := p.RemoveVolume(ctx, v); err != nil {
				return err
			}
			a.say("removed volume %s", v)
		}

		if err := p.Clear(ctx); err != nil {
			return err
		}
	} else if len(names) > 0 {
		a.say("kept: %s", strings.Join(names, ", "))
		a.say("`codexctl up %s` finds them again, `codexctl down --volumes %s` removes them",
			name, name)
	}

	if removed == 0 {
		a.say("stack %s was not up", stack)
		return nil
	}

	a.say("%s down in %s", stack, console.Elapsed(a.now().Sub(start)))
	return nil
}

func (a *App) explainDown(
	ctx context.Context, name string, result progress.Result, err error,
) error {
	var e *deploy.Error
	if errors.As(err, &e) && e.Interrupted {
		a.say("interrupted: `codexctl down %s` goes on from here", name)
		return errReported
	}

	problems := failure.Explain(ctx, result.Errors, nil, name, nil)
	if len(problems) == 0 || errors.As(err, &e) && e.Locked {
		return a.explainError(err, name)
	}

	failure.Print(a.err, problems)
	a.say("What was removed is gone: `codexctl down %s` goes on from here.", name)
	return errReported
}

// confirmVolumes asks whether the volumes may be deleted. It returns an error if there is
// no terminal to ask on.
func (a *App) confirmVolumes(ctx context.Context, p platform, stack string) error {
	if !a.asks() {
		return usageError{errors.New("--volumes deletes conversations, documents and models, and " +
			"there is no terminal to ask on: add --yes")}
	}

	list, err := p.Volumes(ctx)
	if err != nil {
		return err
	}

	for _, v := range list {
		a.say("  %s", v)
	}

	question := fmt.Sprintf("Delete these volumes of stack %s with all conversations, documents and "+
		"models? Type the stack's name: ", stack)
	if !a.typed(question, stack) {
		return errors.New("nothing was removed")
	}

	return nil
}

// asks reports whether there is a terminal to ask on.
func (a *App) asks() bool {
	f, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// typed asks the question, and reports whether the answer is the word.
func (a *App) typed(question, word string) bool {
	fmt.Fprint(a.err, question)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	return strings.TrimSpace(line) == word
}
