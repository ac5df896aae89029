package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// execOptions choose where a command runs, and how.
type execOptions struct {
	stack, replica    string
	input, unrecorded bool
}

func (a *App) execCommand() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec [-i] SERVICE -- COMMAND [ARG...]",
		Short: "Run a command in a container of a service",
		Long: `Runs the command in a container of the service that runs well, or in the one that
--replica names, as that container's user. Its output and exit code are the
command's. On a terminal the command has it as well; elsewhere -i hands it the
standard input.

The images of the stack's own services have no shell: they hold one program, such
as /backend. Those of redis, ollama and edge have theirs.

Where people sign in, the audit has who ran which program in which service, and
how it ended. It has no arguments. A command that cannot be recorded is refused,
unless --unrecorded is set.`,
		Example: `  codexctl exec -s prod ollama -- ollama ps
  codexctl exec -s prod edge -- caddy validate --config /etc/caddy/Caddyfile`,
		Args: serviceAndCommand,
		RunE: func(c *cobra.Command, args []string) error {
			code, err := a.exec(c.Context(), o, args[0], args[1:])
			if err == nil && code != 0 {
				return exitError{code}
			}
			return err
		},
	}

	o.flags(c)
	return c
}

func (o *execOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.stack, "stack", "s", defaultStack, "the stack")
	f.StringVar(&o.replica, "replica", "", "the container or pod, by its name in `codexctl status`")
	f.BoolVarP(&o.input, "stdin", "i", false, "hand the standard input to the command")
	f.BoolVar(&o.unrecorded, "unrecorded", false, "run it also if the audit cannot have it")
}

// serviceAndCommand takes a service, and after -- a command.
func serviceAndCommand(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	if dash < 0 || dash == len(args) {
		return usageError{fmt.Errorf("write the command after --, as in `codexctl %s "+
			"ollama -- ollama ps`: see `%s --help`", c.Name(), c.CommandPath())}
	}
	return serviceArg(c, args[:dash])
}

// exec runs the command in the service and returns its exit code.
func (a *App) exec(
	ctx context.Context, o execOptions, service string, command []string,
) (int, error) {
	t, stack, err := a.load(o.stack)
	if err != nil {
		return 0, err
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return 0, err
	}
	defer p.Close()

	list, err := t.replicas(ctx, p, service)
	if err != nil {
		return 0, err
	}

	in, err := chosen(list, o.replica)
	if err != nil {
		return 0, err
	}

	return a.recorded(ctx, t, stack, p, service, command[0], o.unrecorded, func() (int, error) {
		return a.withStreams(o.input, func(s running.Streams) (int, error) {
			return p.Stream(ctx, in, command, s)
		})
	})
}

// recorded calls run, and records before it that the program begins in what, and after it how it
// ended, where the stack has an audit. What cannot be recorded is not run, unless anyway is set.
func (a *App) recorded(
	ctx context.Context, t target, stack stacks.Stack, p platform, what, program string, anyway bool,
	run func() (int, error),
) (int, error) {
	if !stack.Audited() {
		return run()
	}

	ended, err := recordCommand(ctx, t, stack, p, what, program)
	if err != nil {
		if !anyway {
			return 0, fmt.Errorf("the audit cannot have this command, so it is not run: %w; "+
				"--unrecorded runs it all the same", err)
		}
		a.say("the audit does not have this command: %v", err)
		return run()
	}

	code, err := run()
	if failed := ended(code, err); failed != nil {
		a.say("the audit does not have how the command ended: %v", failed)
	}

	return code, err
}

// withStreams calls run with the streams of this process. It has the terminal for no longer than
// that: without one, as in a record that takes its time, Ctrl-C ends all.
func (a *App) withStreams(
	input bool, run func(s running.Streams) (int, error),
) (int, error) {
	streams, restore, err := a.streams(input)
	if err != nil {
		return 0, err
	}
	defer restore()

	return run(streams)
}

// chosen returns the replica of the name, or one that runs well if it is empty.
func chosen(list []running.Replica, name string) (running.Replica, error) {
	at := slices.IndexFunc(list, func(r running.Replica) bool { return r.Name == name })
	if name == "" {
		at = slices.IndexFunc(list, func(r running.Replica) bool { return r.Healthy })
	}

	switch {
	case at >= 0:
		return list[at], nil
	case name != "":
		return running.Replica{}, fmt.Errorf("--replica: there is no %s: name one of %s", name,
			strings.Join(namesOf(list), ", "))
	}

	return running.Replica{}, fmt.Errorf("none of %s runs well: name one with --replica",
		strings.Join(namesOf(list), ", "))
}

// recordCommand records that a program is about to be run, and returns what records how it ended.
func recordCommand(
	ctx context.Context, t target, stack stacks.Stack, p platform, what, program string,
) (ended func(code int, err error) error, err error) {
	record := func(ctx context.Context, more ...string) (string, error) {
		g, err := healthyGate(ctx, t, stack, p)
		if err != nil {
			return "", err
		}
		return g.run(ctx, append([]string{"audit", "command", operator(), what, program},
			more...)...)
	}

	first, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	id, err := record(first)
	if err != nil {
		return nil, err
	}

	return func(code int, err error) error {
		outcome := strconv.Itoa(code)
		if err != nil {
			outcome = "unknown" // it may go on
		}

		// Somebody who interrupts the command is recorded all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		_, err = record(ctx, id, outcome)
		return err
	}, nil
}

// recordTimeout bounds how long it may take to record that a command begins, or how it ended.
const recordTimeout = 20 * time.Second

// streams returns those of this process for a command: with the terminal, if there is one, or the
// standard input if it is asked for. restore gives the terminal back.
func (a *App) streams(input bool) (s running.Streams, restore func(), err error) {
	s = running.Streams{Out: a.out.Writer, Err: a.err.Writer}
	in, isFile := a.in.(*os.File)
	out, shown := a.out.Writer.(*os.File)
	if !isFile || !shown || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		if input {
			s.In = a.in
		}
		return s, func() {}, nil
	}

	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return s, nil, fmt.Errorf("terminal: %w", err)
	}

	sizes, stop := follow(out)
	s.In, s.Sizes = io.Reader(in), sizes
	return s, func() {
		stop()
		_ = term.Restore(int(in.Fd()), before)
	}, nil
}

// follow returns the size of the terminal, and each new one, until it is stopped.
func follow(terminal *os.File) (sizes <-chan running.Size, stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	changed <- syscall.SIGWINCH // the first
	done, out := make(chan struct{}), make(chan running.Size)
	go func() {
		defer close(out)
		for {
			select {
			case <-done:
				return
			case <-changed:
			}

			width, height, err := term.GetSize(int(terminal.Fd()))
			if err != nil {
				continue
			}

			select {
			case <-done:
				return
			case out <- running.Size{Width: uint16(width), Height: uint16(height)}:
			}
		}
	}()

	return out, func() {
		signal.Stop(changed)
		close(done)
	}
}
