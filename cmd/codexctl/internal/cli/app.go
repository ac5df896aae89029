// Package cli implements the commands of codexctl: their arguments, the order of their steps and
// their output. Data goes to stdout, everything else to stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Exit codes.
const (
	exitFailed      = 1
	exitDiffers     = 2 // a check found something: violations, changes
	exitUsage       = 64
	exitInterrupted = 130
)

// exitError ends a command that has printed its result with an exit code.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// errReported is returned by a command that failed and has printed why.
var errReported = errors.New("reported")

// usageError wraps an error in the command line.
type usageError struct{ error }

// App holds what the commands share.
type App struct {
	environ  environ.Vars
	in       io.Reader
	out, err *console.Console
	now      func() time.Time

	// stateAnnounced reports whether the place of the state has been printed.
	stateAnnounced bool

	// dir is the folder in which, and above which, the project is looked for.
	dir string
}

// Run runs the command line and returns the exit code.
func Run(ctx context.Context, args, env []string, in io.Reader, stdout, stderr io.Writer) int {
	a := &App{environ: env, in: in, now: time.Now}
	a.out, a.err = console.New(stdout, a.getenv), console.New(stderr, a.getenv)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var answer exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &answer):
		return answer.code
	case ctx.Err() != nil:
		if !errors.Is(err, errReported) {
			a.err.Printf("%s", a.err.Paint(console.Red, "interrupted"))
		}
		return exitInterrupted
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		a.fail(err)
		return exitUsage
	}

	a.fail(err)
	return exitFailed
}

// fail prints an error; each line of a joined one is an error of its own.
func (a *App) fail(err error) {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, " ") {
			a.err.Printf("%s", line)
			continue
		}
		a.err.Printf("%s%s", a.err.Paint(console.Red, "error: "), line)
	}
}

// say prints a line about progress to stderr.
func (a *App) say(format string, args ...any) { a.err.Printf(format, args...) }

func (a *App) getenv(name string) string { return a.environ.Get(name) }

// The groups of `codexctl help`.
const (
	groupStack   = "stack"
	groupPlan    = "plan"
	groupRunning = "running"
	groupSources = "sources"
	groupHelp    = "help"
)

func (a *App) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "codexctl",
		Short: "Provision, watch and repair a CodexContinue stack",
		Long: `codexctl provisions a stack with the Pulumi program of this repository and shows
what runs. It works on the same project, config and state as a plain pulumi; see
"codexctl env".`,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       noArgs,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	c.PersistentFlags().StringVarP(&a.dir, "cwd", "C", ".",
		"look for the project in this folder and above it")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see `%s --help`", err, c.CommandPath())}
	})
	c.AddGroup(&cobra.Group{ID: groupStack, Title: "A stack:"},
		&cobra.Group{ID: groupPlan, Title: "A plan, from the files alone:"},
		&cobra.Group{ID: groupRunning, Title: "What runs:"},
		&cobra.Group{ID: groupSources, Title: "The sources:"},
		&cobra.Group{ID: groupHelp, Title: "Help:"})

	c.SetHelpCommandGroupID(groupHelp)
	c.CompletionOptions.HiddenDefaultCmd = true
	add := func(group string, commands ...*cobra.Command) {
		for _, x := range commands {
			x.GroupID = group
			x.DisableFlagsInUseLine = true
			c.AddCommand(x)
		}
	}

	add(groupStack, a.upCommand(), a.previewCommand(), a.downCommand(), a.outputsCommand(),
		a.historyCommand(), a.rollbackCommand(), a.unlockCommand(), a.imagesCommand(), a.modelCommand(),
		a.bundleCommand(),
		a.certificatesCommand())
	add(groupPlan, a.planCommand(), a.diffCommand(), a.policyCommand(),
		a.evidenceCommand(), a.graphCommand(), a.exportCommand())
	add(groupRunning, a.statusCommand(), a.logsCommand(), a.restartCommand(), a.scaleCommand(),
		a.maintenanceCommand(), a.forwardCommand(), a.execCommand(), a.runCommand(),
		a.userCommand(), a.usageCommand(), a.auditCommand(), a.knowledgeCommand(),
		a.learnCommand(), a.backupCommand(), a.restoreCommand())
	add(groupSources, a.testCommand(), a.lintCommand(), a.newCommand())
	add(groupHelp, a.doctorCommand(), a.envCommand(), a.versionCommand())
	return c
}

// defaultStack is the stack of a command line that names none.
const defaultStack = "dev"

// stackArg takes at most one argument, the stack.
func stackArg(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("one stack at a time, not %s: see `%s --help`",
			strings.Join(args, " and "), c.CommandPath())}
	}
	return nil
}

func stackOf(args []string) string {
	if len(args) == 0 {
		return defaultStack
	}
	return args[0]
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}

	text := fmt.Sprintf("unknown command %q", args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		text += ": did you mean " + strings.Join(near, " or ") + "?"
	}

	return usageError{fmt.Errorf("%s: see `%s --help`", text, c.CommandPath())}
}

// serviceArg takes exactly one argument, the service.
func serviceArg(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("name one service, such as backend: see `%s --help`",
			c.CommandPath())}
	}
	return nil
}

// cacheDir returns the user's cache folder, or "" if there is no home.
func (a *App) cacheDir() string {
	if d := a.getenv("XDG_CACHE_HOME"); d != "" {
		return d
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache")
	}
	return ""
}
