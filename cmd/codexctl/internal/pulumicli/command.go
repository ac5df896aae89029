package pulumicli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// grace is how long an interrupted update may take to finish its step and write its state.
// Killing it earlier would leave a locked state and a container that no state knows. A second
// interrupt ends it at once.
const grace = 3 * time.Minute

// ErrHopeless is the cause with which the context of an update that cannot succeed is
// cancelled. The CLI finishes its step and writes its state, as after an interrupt, but no
// interrupt is reported.
var ErrHopeless = errors.New("the update cannot succeed")

// Command runs one Pulumi CLI for the Automation API. Unlike the Automation API's own command it
// gives an interrupted update time, and uses the environment of the caller.
type Command struct {
	// Path is the path of the program.
	Path    string
	version semver.Version
	environ environ.Vars
	say     func(format string, args ...any)
}

var _ auto.PulumiCommand = (*Command)(nil)

// Version returns the version of the CLI.
func (c *Command) Version() semver.Version { return c.version }

// Run implements auto.PulumiCommand: it runs the CLI non-interactively in dir and returns its
// output and exit code.
func (c *Command) Run(
	ctx context.Context, dir string, stdin io.Reader, outs, errs []io.Writer, extra []string,
	args ...string,
) (string, string, int, error) {
	if !slices.Contains(args, "--non-interactive") {
		args = append([]string{"--non-interactive"}, args...)
	}

	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Dir, cmd.Stdin = dir, stdin
	cmd.Env = append(slices.Clone(c.environ), extra...)
	// The CLI looks for its own plugins beside itself.
	path := filepath.Dir(c.Path)
	if rest := environ.Vars(cmd.Env).Get("PATH"); rest != "" {
		path += string(filepath.ListSeparator) + rest
	}

	cmd.Env = append(cmd.Env, "PULUMI_AUTOMATION_API=true", "PULUMI_SKIP_UPDATE_CHECK=true",
		"PATH="+path)
	var stdout, stderr bytes.Buffer
	cmd.Stdout = io.MultiWriter(append(slices.Clone(outs), &stdout)...)
	cmd.Stderr = io.MultiWriter(append(slices.Clone(errs), &stderr)...)
	// The terminal's Ctrl-C is kept from the CLI: it would get two interrupts, and ends at once at
	// the second.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ended := make(chan struct{})
	cmd.Cancel = func() error {
		if !errors.Is(context.Cause(ctx), ErrHopeless) { // its caller reports why
			c.say("interrupted: pulumi finishes the step it is at; again ends it at once and " +
				"leaves the state locked")
		}
		go passSecondInterrupt(cmd, ended)
		return cmd.Process.Signal(os.Interrupt)
	}

	cmd.WaitDelay = grace
	err := cmd.Run()
	close(ended)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		code = -2 // as the Automation API's own, for "did not run"
	}

	return stdout.String(), stderr.String(), code, err
}

// passSecondInterrupt passes a second interrupt on, at which the CLI ends at once.
func passSecondInterrupt(cmd *exec.Cmd, ended <-chan struct{}) {
	second := make(chan os.Signal, 1)
	signal.Notify(second, os.Interrupt)
	defer signal.Stop(second)
	select {
	case <-second:
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended meanwhile
	case <-ended:
	}
}

// askVersion returns what `pulumi version` prints.
func askVersion(ctx context.Context, path string, env []string) (semver.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = append(slices.Clone(env), "PULUMI_SKIP_UPDATE_CHECK=true")
	out, err := cmd.Output()
	if err != nil {
		return semver.Version{}, fmt.Errorf("%s version: %w", path, err)
	}

	v, err := semver.ParseTolerant(strings.TrimSpace(string(out)))
	if err != nil {
		return semver.Version{}, fmt.Errorf("%s says its version is %q", path,
			strings.TrimSpace(string(out)))
	}

	return v, nil
}
