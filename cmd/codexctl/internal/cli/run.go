package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// runOptions choose what a one-off command is like, and how it runs.
type runOptions struct {
	execOptions
	secrets bool
	limit   time.Duration
}

func (a *App) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [-i] SERVICE -- COMMAND [ARG...]",
		Short: "Run a command once, in a container like those of a service",
		Long: `Runs the command in a container or pod of its own, which is gone afterwards. It is
made like one of the service that there is: its image, variables, user, networks,
files, limits and hardening. Its output and exit code are the command's. On a
terminal the command has it as well; elsewhere -i hands it the standard input.

It is no replica: it has no port, no health check, and nothing leads to it. It has
no secrets unless --secrets gives it those of the service. A volume that takes one
writer, such as Redis' own, it can only read.

It is removed when the command ends, at Ctrl-C, and after --limit. If this process
is killed, a cluster sees to the limit; on an engine it goes when its command ends,
or with the next "run", "up" or "down" after the limit. "status" shows it.

On a cluster without a terminal its errors are on the standard output as well. Its
output goes through the log of its pod there, which who may read logs can read, and a
collector of logs may keep: of a command that prints secrets see that none does. An
engine keeps nothing of it.

Where people sign in, the audit has it as it has "exec".`,
		Example: `  codexctl run -s prod redis -- redis-server --version
  codexctl run -s prod --secrets gate -- /gate audit verify`,
		Args: serviceAndCommand,
		RunE: func(c *cobra.Command, args []string) error {
			code, err := a.run(c.Context(), o, args[0], args[1:])
			if err == nil && code != 0 {
				return exitError{code}
			}
			return err
		},
	}

	o.flags(c)
	f := c.Flags()
	f.Lookup("replica").Usage = "the container or pod that it is like, by its name in `codexctl status`"
	f.BoolVar(&o.secrets, "secrets", false, "give it the service's secrets")
	f.DurationVar(&o.limit, "limit", 30*time.Minute, "how long the command may take, in whole seconds")
	return c
}

// run runs the command like the service and returns its exit code.
func (a *App) run(
	ctx context.Context, o runOptions, service string, command []string,
) (int, error) {
	if o.limit < time.Second || o.limit%time.Second != 0 {
		return 0, usageError{fmt.Errorf("--limit %s: must be whole seconds, and 1s at least", o.limit)}
	}

	t, stack, err := a.load(o.stack)
	if err != nil {
		return 0, err
	}
	if err := checkService(stack, service); err != nil {
		return 0, err
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return 0, err
	}
	defer p.Close()

	if err := a.removeOneOffs(ctx, p, a.overdue); err != nil {
		return 0, err
	}
	if o.secrets {
		a.warnOfLog(p)
	}

	list, err := t.replicas(ctx, p, service)
	if err != nil {
		return 0, err
	}

	like, err := chosen(list, o.replica)
	if err != nil && o.replica == "" {
		like, err = list[len(list)-1], nil // of a service that does not run well: the last that was made
	}
	if err != nil {
		return 0, err
	}

	once := onceOf(stack, *stack.Service(service), o, command)
	what := "run-" + service
	return a.recorded(ctx, t, stack, p, what, command[0], o.unrecorded, func() (int, error) {
		return a.withStreams(o.input, func(s running.Streams) (int, error) {
			return p.RunOnce(ctx, like, once, s)
		})
	})
}

// warnOfLog warns of a platform that logs what a command that runs once writes, before one that has
// secrets is run there.
func (a *App) warnOfLog(p platform) {
	if _, ok := p.(*onCluster); ok {
		a.err.Hanging(a.err.Paint(console.Yellow, "warning: "), "what the command writes is in its "+
			"pod's log, which a collector of logs may keep: have it print no secret")
	}
}

// onceOf returns the command with what it may have of the service.
func onceOf(
	stack stacks.Stack, svc stacks.Service, o runOptions, command []string,
) running.Once {
	once := running.Once{Args: command, Secrets: o.secrets, Limit: o.limit}
	for _, f := range svc.Files {
		if f.Secret != "" {
			once.SecretDirs = append(once.SecretDirs, path.Dir(f.Path))
		}
	}

	slices.Sort(once.SecretDirs)
	once.SecretDirs = slices.Compact(once.SecretDirs)
	for _, m := range svc.Mounts {
		v, ok := stack.Volume(m.Source)
		if ok && m.Kind == stacks.MountVolume && !m.ReadOnly && !v.SingleWriter {
			once.Writable = append(once.Writable, m.Target)
		}
	}

	return once
}

// overdue reports whether what runs a command once has had its time: a killed codexctl left it.
func (a *App) overdue(x running.OneOff) bool { return a.now().After(x.Until) }

// left reports, to who holds the lock of the stack, whether a killed codexctl left what runs a
// command once.
func (a *App) left(x running.OneOff) bool { return x.Locked || a.overdue(x) }

// removeOneOffs removes those for which which returns true of what runs a command once.
func (a *App) removeOneOffs(
	ctx context.Context, p platform, which func(running.OneOff) bool,
) error {
	list, err := p.OneOffs(ctx)
	if err != nil {
		return err
	}

	var errs []error
	for _, x := range list {
		if !which(x) {
			continue
		}

		a.say("removing %s, which runs a command once", x.Name)
		errs = append(errs, p.RemoveOneOff(ctx, x))
	}

	return errors.Join(errs...)
}
