package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
)

const (
	// resolveEvery is how often apply looks whether all replicas are there.
	resolveEvery = time.Second
	// reach is how long it waits for them unless the command says otherwise: a node that has to be started, with drivers,
	// takes minutes. When one is replaced meanwhile its address never answers again, and the next try finds the new one.
	reach = 15 * time.Minute
	// pause lies between the first try and the second, twice as long between those after: three tries more wait longer than a
	// registry takes to fail over.
	pause = 10 * time.Second
	// atOnce is how many replicas download and make the model at once.
	atOnce = 4
)

// apply makes the model once in every replica of Ollama, for a job beside the service or a person. A version that a
// replica has already is left alone, so two of these at once, or one after the other, do no harm.
func apply(ctx context.Context, args, environ []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("ml model apply", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	want, timeout, tries := flags.Int("replicas", 1, ""), flags.Duration("timeout", reach, ""), flags.Int("tries", 1, "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *want < 1 || *timeout <= 0 || *tries < 1 {
		return &build.FinalError{Err: errors.New("usage: ml model apply " + applyFlags + ", with N of 1 or more")}
	}
	cfg, err := contract.Parse[contract.ML](environ)
	if err != nil {
		return &build.FinalError{Err: err}
	}
	log := logging.New(stderr, "ml", cfg.LogLevel, cfg.Debug)
	out := &lines{w: stderr}
	return retry(ctx, *tries, pause, out, func() error { return applyOnce(ctx, cfg, *want, *timeout, log, out) })
}

// retry calls try until it succeeds, or fails in a way that another try does not mend, so many times at most.
func retry(ctx context.Context, tries int, pause time.Duration, out *lines, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if _, final := errors.AsType[*build.FinalError](err); err == nil || final || n == tries || ctx.Err() != nil {
			return err
		}
		out.print(fmt.Sprintf("try %d of %d failed: %v. The next one is in %s", n, tries, strings.ReplaceAll(err.Error(), "\n", "; "), pause))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// applyOnce makes the model in the replicas that there are now: one whose address is gone makes the try fail, and the next
// one finds its successor.
func applyOnce(ctx context.Context, cfg contract.ML, want int, timeout time.Duration, log *slog.Logger, out *lines) error {
	pool, err := replicas.New(replicas.Options{URL: cfg.OllamaURL, Parallel: cfg.MaxParallel, Log: log})
	if err != nil {
		return err
	}
	addresses, err := awaitReplicas(ctx, pool, want, timeout, out)
	if err != nil {
		return err
	}
	opts := options(cfg)
	opts.Reach = timeout
	errs, slots := make([]error, len(addresses)), make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			name := ""
			if len(addresses) > 1 {
				name = address + ": "
			}
			err := build.New(opts, pool.Client(address), log, progress(name, out)).Apply(ctx)
			if err != nil {
				errs[i] = fmt.Errorf("ollama at %s: %w", address, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitReplicas waits until the name stands for so many replicas: a headless Service names those alone that are ready.
func awaitReplicas(ctx context.Context, pool *replicas.Pool, want int, timeout time.Duration, out *lines) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not within %s: look at those that are missing", timeout))
	defer cancel()
	for said := ""; ; {
		addresses, err := pool.Addresses(ctx)
		if err == nil && len(addresses) >= want {
			return addresses, nil
		}
		line := fmt.Sprintf("waiting for %d replicas of Ollama: %d are there", want, len(addresses))
		if err != nil {
			line = "waiting for Ollama: " + err.Error()
		}
		if line != said {
			said = line
			out.print(line)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", line, context.Cause(ctx))
		case <-time.After(resolveEvery):
		}
	}
}

// progress prints each new state as a line.
func progress(prefix string, out *lines) func(mlapi.Build) {
	last := ""
	return func(s mlapi.Build) {
		line := prefix + s.State + " " + s.Detail
		if s.Total > 0 {
			line = fmt.Sprintf("%s%s %d%% of %d MB", prefix, s.State, 100*s.Completed/s.Total, s.Total/1e6)
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
