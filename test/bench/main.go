// Command bench compares this project with what people would use without it, in the same run and on
// the same machine: provisioning with docker compose and the plain Pulumi CLI, the services on
// their own, the time that each hop adds to an answer of Ollama, what sign-in costs, and how long
// `codexctl diff` takes. It prints tables to stdout and its progress to stderr; docs/benchmarks.md
// explains how to read them. `make bench` runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for the clean-up
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// absentError is returned when something that a section measures is missing on the machine.
type absentError struct{ peer, todo string }

func (e absentError) Error() string { return e.peer + " is absent: " + e.todo }

// sections are in the order in which they run.
var sections = []string{"provisioning", "services", "hops", "api", "sign-in", "diff"}

// bench is one run.
type bench struct {
	tools

	// root is the repository, dir a temporary folder.
	root, dir string
	rounds    int
	overlays  []string

	// require makes a skipped section an error.
	require  bool
	progress io.Writer
	report   *report
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("n", 3, "rounds of each measurement; the tables show medians")
	only := flags.String("sections", strings.Join(sections, ","), "what to measure")
	overlays := flags.String("overlays", "dev,prod", "stacks that are provisioned")
	file := flags.String("json", "", "also write every sample to this file")
	require := flags.Bool("require", false,
		"fail where a section is skipped because something is absent")
	if err := flags.Parse(args); err != nil {
		return err
	}

	if flags.NArg() > 0 || *rounds < 1 {
		return errors.New("usage: bench [-n ROUNDS] [-sections LIST] [-overlays LIST] [-json " +
			"FILE] [-require]; ROUNDS is 1 or more")
	}

	chosen, err := list("sections", *only, sections)
	if err != nil {
		return err
	}

	stackKinds, err := list("overlays", *overlays, []string{"dev", "prod"})
	if err != nil {
		return err
	}

	b := &bench{
		rounds:   *rounds,
		overlays: stackKinds,
		require:  *require,
		progress: stderr,
		tools:    newTools(environ),
	}

	if b.root, err = repository(ctx); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "codexcontinue-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()

	// The services in containers read the checkout in it as another user.
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}

	b.report = newReport(b.rounds)

	var failed []error
	for _, s := range sections {
		if !slices.Contains(chosen, s) {
			continue
		}

		b.say("%s", s)
		var err error
		switch s {
		case "provisioning":
			err = b.provisioning(ctx)
		case "services":
			err = b.services(ctx)
		case "hops":
			err = b.hops(ctx)
		case "api":
			err = b.api(ctx)
		case "sign-in":
			err = b.signIn(ctx)
		case "diff":
			err = b.diff(ctx)
		}

		var absent absentError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &absent):
			failed = append(failed, b.skip(s, absent))
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", s, err))
		}
	}

	b.report.finish()
	if err := b.report.print(stdout); err != nil {
		return err
	}

	if *file != "" {
		text, err := json.MarshalIndent(b.report, "", "  ")
		if err == nil {
			err = os.WriteFile(*file, append(text, '\n'), 0o644)
		}
		failed = append(failed, err)
	}

	return errors.Join(failed...)
}

// skip reports that something was not measured, which is an error if everything is required.
func (b *bench) skip(what string, absent absentError) error {
	b.report.Skipped = append(b.report.Skipped, skipped{what, absent.Error()})
	if b.require {
		return fmt.Errorf("%s: %w", what, absent)
	}
	return nil
}

// list splits a comma-separated list and returns an error for unknown elements.
func list(name, text string, known []string) ([]string, error) {
	out := strings.Split(text, ",")
	for _, x := range out {
		if !slices.Contains(known, x) {
			return nil, fmt.Errorf("-%s: %q is none of %s", name, x, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// repository returns the root of the checkout around the working directory.
func repository(ctx context.Context) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}

	for d := dir; ; d = filepath.Dir(d) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if _, err := os.Stat(filepath.Join(d, "Pulumi.yaml")); err == nil {
			return d, nil
		}

		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no Pulumi.yaml in %s or above: run the bench inside the repository",
				dir)
		}
	}
}

// machine describes the machine of the measurements.
type machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`

	// LoadBefore and LoadAfter are the load averages of the last minute; empty
	// if the system has none.
	LoadBefore string    `json:"load_before,omitempty"`
	LoadAfter  string    `json:"load_after,omitempty"`
	Start      time.Time `json:"start"`
}

func thisMachine() machine {
	return machine{
		OS:         runtime.GOOS,
		Arch:       runtime.GOARCH,
		CPUs:       runtime.NumCPU(),
		LoadBefore: load(),
		Start:      time.Now().UTC().Truncate(time.Second),
	}
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
