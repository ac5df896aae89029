package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// unlockTimeout bounds giving back the lock, also after an interrupt.
const unlockTimeout = 10 * time.Second

// lock makes this process the one that deploys the stack until it calls release, which may be
// called twice. Its error says who is. Pulumi's own lock guards its state for the time of an
// update; this one also guards what comes before and after it, such as the removal of half-made
// containers, and what needs no Pulumi. The lock of a process of this machine that is gone is taken
// over.
func (a *App) lock(
	ctx context.Context, p platform, name, command string,
) (release func(), err error) {
	me := running.Holder{
		ID: rand.Text(), User: operator(), Host: hostname(), PID: os.Getpid(),
		Command: "codexctl " + command + " " + name, Since: a.now().UTC().Truncate(time.Second),
	}
	now, err := p.Lock(ctx, me)
	if err != nil {
		return nil, err
	}

	if now.ID != me.ID && gone(now) {
		a.say("%s: process %d here, which ran `%s`, is gone: taking its lock", p.Name(), now.PID,
			console.Plain(now.Command))
		if err := p.Unlock(ctx, now); err != nil {
			return nil, err
		}
		if now, err = p.Lock(ctx, me); err != nil {
			return nil, err
		}
	}

	if now.ID != me.ID {
		return nil, fmt.Errorf("lock: %s has it: wait for it, as one at a time may change a stack\n"+
			"  if it does not run any more, free the stack and run the command again:\n"+
			"    codexctl unlock %s", a.holds(now), name)
	}

	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if err := p.Unlock(ctx, me); err != nil {
			a.say("the lock is left: %v: free it with `codexctl unlock %s`", err, name)
		}
	}), nil
}

// holds describes who holds a lock, and since when.
func (a *App) holds(h running.Holder) string {
	return fmt.Sprintf("`%s` of %s@%s (process %d), since %s, for %s", console.Plain(h.Command),
		console.Plain(h.User), console.Plain(h.Host), h.PID,
		h.Since.Format("2006-01-02 15:04 MST"), console.Age(a.now().Sub(h.Since)))
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// gone reports whether the holder was a process of this machine that runs no more. Of another
// machine's nothing is known.
func gone(h running.Holder) bool {
	return h.Host == hostname() && h.Host != "unknown" &&
		errors.Is(syscall.Kill(h.PID, 0), syscall.ESRCH)
}

func (a *App) unlockCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "unlock [STACK]",
		Short: "Free a stack that a killed deploy has left locked",
		Long: `Says who holds the lock of the stack, and removes it, and Pulumi's own. One deploy
at a time may change a stack: be sure that the one that holds it does not run any
more. One that runs on this machine is left alone, unless --force is set.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.unlock(c.Context(), stackOf(args), force)
		},
	}

	c.Flags().BoolVar(&force, "force", false, "also if it runs on this machine")
	return c
}

func (a *App) unlock(ctx context.Context, name string, force bool) error {
	t, p, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	h, held, err := p.Holder(ctx)
	if err != nil {
		return err
	}

	if held && h.Host == hostname() && !gone(h) && !force {
		return fmt.Errorf("lock: %s has it, and runs here: interrupt it, or add --force", a.holds(h))
	}

	// Pulumi's first: while its lock is there nothing goes on.
	s, err := a.session(ctx, t, false)
	switch {
	case errors.Is(err, deploy.ErrNoStack):
	case err != nil:
		return a.explainError(err, t.name)
	default:
		if err := s.Cancel(ctx); err != nil {
			return a.explainError(err, t.name)
		}
	}

	if !held {
		a.say("nobody holds the lock of stack %s: Pulumi's own is gone, if there was one", t.file.Name)
		return nil
	}
	if err := p.Unlock(ctx, h); err != nil {
		return err
	}

	a.say("removed the lock of %s", a.holds(h))
	return nil
}
