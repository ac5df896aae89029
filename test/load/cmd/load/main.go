// Command load puts people in front of a stack and says what they lost; see the package load. The
// table goes to stdout, its progress to stderr. The exit code is 1 when anything was lost, doubled
// or failed, 2 when it could not be run.
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
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/test/load"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
	}
	os.Exit(code)
}

// run returns the exit code. The first interrupt ends the load early, and what was sent is looked
// for.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o load.Options
	flags.StringVar(&o.URL, "url", "http://127.0.0.1:8080", "address of the stack")
	flags.BoolVar(&o.Remote, "remote", false, "take an address that is not of this machine")
	flags.IntVar(&o.People, "people", 8, "people who ask short questions and look around")
	flags.IntVar(&o.Answers, "answers", 0, "long answers that are written at any time")
	flags.IntVar(
		&o.Streams,
		"streams",
		0,
		"event streams that are open on the long answers (default: one on each)",
	)

	flags.DurationVar(&o.Long, "long", 30*time.Second, "time that a long answer takes")
	flags.DurationVar(&o.Duration, "duration", time.Minute, "end after this time; 0 is no bound")
	flags.IntVar(&o.Requests, "requests", 0, "end after so many requests; 0 is no bound")
	flags.Float64Var(&o.Rate, "rate", 40, "requests a second at most, of all people together")
	flags.IntVar(&o.Turns, "turns", 5, "questions in one conversation")
	flags.Uint64Var(&o.Seed, "seed", 1, "makes what people do repeatable")
	flags.BoolVar(
		&o.Resend,
		"resend",
		false,
		"send a message again, under its key, when its reply was lost; counted",
	)

	expect := flags.String(
		"expect",
		"count",
		"what the model answers: count (test/slowmodel), or sentence (test/tinymodel)",
	)

	asJSON := flags.Bool("json", false, "write the report as JSON")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}

	switch {
	case flags.NArg() > 0:
		return 2, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case *expect == "sentence":
		o.Sentence = tinymodel.Answer
	case *expect != "count":
		return 2, fmt.Errorf("expect: %q is neither count nor sentence", *expect)
	case o.Streams == 0:
		o.Streams = o.Answers
	}

	if o.Duration == 0 && o.Requests == 0 {
		return 2, errors.New("duration and requests: one of them must be set")
	}

	o.Progress = func(line string) { fmt.Fprintln(stderr, line) }
	r, err := load.Start(context.Background(), o)
	if err != nil {
		return 2, err
	}

	select {
	case <-ctx.Done():
	case <-r.Done():
	}

	fmt.Fprintln(stderr, "looking whether everything is there")
	report := r.Stop()
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = report.Print(stdout)
	}

	if err != nil {
		return 2, err
	}
	if err := report.Err(); err != nil {
		return 1, errors.New("something was lost, doubled or failed")
	}

	return 0, nil
}
