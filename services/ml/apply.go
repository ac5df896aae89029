package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

const (
	// resolveEvery is how often apply looks whether all replicas are there.
	resolveEvery = time.Second

	// reach is how long it waits for them unless the command says otherwise: a node that has to be
	// started, with drivers, takes minutes.
	reach = 15 * time.Minute

	// pause is the pause after the first try, and doubles after each. Four tries wait longer than a
	// registry takes to fail over.
	pause = 10 * time.Second

	// atOnce is how many replicas download and make the model at once.
	atOnce = 4
)

// apply makes the model once in every replica of Ollama, for a job beside the service or a
// person. A version that a replica has already is left alone, so two of these at once, or one
// after the other, do no harm.
func apply(ctx context.Context, args, environ []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("ml model apply", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	want, tries := flags.Int("replicas", 1, ""), flags.Int("tries", 1, "")
	timeout := flags.Duration("timeout", reach, "")
	again := flags.Bool("again", false, "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *want < 1 || *timeout <= 0 ||
		*tries < 1 {
		return &build.FinalError{Err: errors.New(
			"usage: ml model apply " + applyFlags + ", with N of 1 or more")}
	}

	cfg, err := contract.Parse[mlenv.Config](environ)
	if err != nil {
		return &build.FinalError{Err: err}
	}

	log := logging.New(stderr, "ml", cfg.LogLevel, cfg.Debug)
	out := &lines{w: stderr}
	return retry(ctx, *tries, pause, out, func() error {
		opts := options(cfg)
		opts.Reach, opts.Again = *timeout, *again
		return applyOnce(ctx, cfg, opts, *want, log, out)
	})
}

// retry calls try so many times at most, until it succeeds or fails with a *build.FinalError.
func retry(
	ctx context.Context, tries int, pause time.Duration, out *lines, try func() error,
) error {
	for n := 1; ; n++ {
		err := try()
		if _, final := errors.AsType[*build.FinalError](err); err == nil || final || n == tries ||
			ctx.Err() != nil {
			return err
		}

		out.print(fmt.Sprintf("try %d of %d failed: %v. The next one is in %s", n, tries,
			strings.ReplaceAll(err.Error(), "\n", "; "), pause))
		if !outage.Pause(ctx, pause) {
			return err
		}

		pause *= 2
	}
}

// applyOnce makes the model in every replica.
func applyOnce(
	ctx context.Context, cfg mlenv.Config, opts build.Options, want int, log *slog.Logger,
	out *lines,
) error {
	pool, err := ollamas(cfg, log)
	if err != nil {
		return err
	}

	slots := make(chan struct{}, atOnce)
	return everywhere{
		want:    want,
		timeout: opts.Reach,
		find:    pool.Addresses,
		out:     out,
		make: func(ctx context.Context, address string) error {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return ctx.Err()
			}

			prefix := ""
			if want > 1 {
				prefix = address + ": "
			}

			return build.New(opts, pool.Client(address), log, progress(prefix, out)).Apply(ctx)
		},
	}.run(ctx)
}

// ollamas returns the replicas of Ollama, for a command that asks each of them itself.
func ollamas(cfg mlenv.Config, log *slog.Logger) (*replicas.Pool, error) {
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return nil, &build.FinalError{Err: err}
	}

	return replicas.New(replicas.Options{
		URL: cfg.OllamaURL, TLS: who.Client(), Parallel: cfg.MaxParallel, Log: log,
	})
}

// everywhere does something once at each replica that a name stands for: a headless Service names
// those that are ready.
type everywhere struct {
	want    int           // how many replicas there have to be
	timeout time.Duration // bounds the wait for them
	find    func(ctx context.Context) ([]string, error)
	make    func(ctx context.Context, address string) error
	out     *lines
}

// attempt is what goes on at one address.
type attempt struct {
	stop context.CancelFunc
	done chan struct{}
	err  error // when done
}

func (a *attempt) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// run returns when it is done at all replicas that there are at the time. It also
// begins at a replica that comes meanwhile, and ends its work at one that goes, whose
// address never answers again.
func (e everywhere) run(ctx context.Context) error {
	deadline := time.Now().Add(e.timeout)
	at := map[string]*attempt{}
	defer func() {
		for _, a := range at {
			a.stop()
			<-a.done
		}
	}()

	for printed := ""; ; {
		addresses, err := e.find(ctx)
		if err == nil {
			e.follow(ctx, at, addresses)
		}

		line := fmt.Sprintf("waiting for %d replicas of Ollama: %d are there",
			e.want, len(addresses))
		if err != nil {
			line = "waiting for Ollama: " + err.Error()
		}

		all := err == nil && len(addresses) >= e.want
		if !all && line != printed {
			printed = line
			e.out.print(line)
		}

		if ended, failed := outcome(at); ended && (all || failed != nil && ctx.Err() == nil) {
			return failed
		}
		if !all && time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: look at those that are missing", line, e.timeout)
		}

		select {
		case <-ctx.Done():
			if all {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%s: %w", line, context.Cause(ctx))
		case <-time.After(resolveEvery):
		}
	}
}

// follow begins at the addresses that are new, and ends what goes on at those that are gone.
func (e everywhere) follow(ctx context.Context, at map[string]*attempt, addresses []string) {
	for address, a := range at {
		if !slices.Contains(addresses, address) {
			a.stop()
			<-a.done
			delete(at, address)
			e.out.print(address + ": is gone")
		}
	}

	for _, address := range addresses {
		if at[address] != nil {
			continue
		}

		ctx, stop := context.WithCancel(ctx)
		a := &attempt{stop: stop, done: make(chan struct{})}
		at[address] = a
		go func() {
			defer close(a.done)
			if err := e.make(ctx, address); err != nil {
				a.err = fmt.Errorf("ollama at %s: %w", address, err)
			}
		}()
	}
}

// outcome reports whether every attempt has ended, and returns the errors of those that failed.
func outcome(at map[string]*attempt) (ended bool, failed error) {
	var errs []error
	for _, address := range slices.Sorted(maps.Keys(at)) {
		if !at[address].ended() {
			return false, nil
		}
		errs = append(errs, at[address].err)
	}

	return len(at) > 0, errors.Join(errs...)
}

// progress prints each new state as a line.
func progress(prefix string, out *lines) func(mlapi.Build) {
	last := ""
	return func(s mlapi.Build) {
		line := prefix + s.State + " " + s.Detail
		if s.Total > 0 {
			line = fmt.Sprintf("%s%s %d%% of %d MB",
				prefix, s.State, 100*s.Completed/s.Total, s.Total/1e6)
		}

		if line != last {
			last = line
			out.print(line)
		}
	}
}

// lines writes whole lines of several at once.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) print(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, line)
}
