package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
)

func TestApplyArguments(t *testing.T) {
	for _, args := range [][]string{{"model", "apply", "--replicas"}, {"model", "apply", "--replicas", "0"}, {"model", "apply", "now"}, {"model", "apply", "--tries", "0"}, {"model", "apply", "--force"}} {
		if err := run(t.Context(), args, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "usage: ml model apply [--replicas N] [--timeout 15m] [--tries N]") {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

// TestRetry: what may come right is tried again, until the tries are used up; what may not, or a job that is stopped, is not.
func TestRetry(t *testing.T) {
	again, final := errors.New("registry is away"), error(&build.FinalError{Err: errors.New("no such model")})
	for name, tc := range map[string]struct {
		errs  []error // of each try
		tries int
		stop  bool
		calls int
		want  error
	}{
		"at once":              {errs: []error{nil}, tries: 4, calls: 1},
		"at the third":         {errs: []error{again, again, nil}, tries: 4, calls: 3},
		"never":                {errs: []error{again, again, again, again}, tries: 4, calls: 4, want: again},
		"one try":              {errs: []error{again}, tries: 1, calls: 1, want: again},
		"in vain":              {errs: []error{final}, tries: 4, calls: 1, want: final},
		"in vain at a replica": {errs: []error{again, errors.Join(again, fmt.Errorf("ollama at b: %w", final))}, tries: 4, calls: 2, want: final},
		"stopped":              {errs: []error{again}, tries: 4, stop: true, calls: 1, want: again},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			calls := 0
			var out bytes.Buffer
			err := retry(ctx, tc.tries, time.Microsecond, &lines{w: &out}, func() error {
				if tc.stop {
					cancel()
				}
				calls++
				return tc.errs[calls-1]
			})
			if calls != tc.calls || !errors.Is(err, tc.want) {
				t.Errorf("%d tries ended with %v, want %d and %v", calls, err, tc.calls, tc.want)
			}
			if said := strings.Count(out.String(), " failed: "); said != calls-1 {
				t.Errorf("%d tries and %d lines: %s", calls, said, out.String())
			}
		})
	}
}

// TestApplyAwaitsReplicas stops a job whose replicas do not come: it says what it waited for.
func TestApplyAwaitsReplicas(t *testing.T) {
	environ, _ := project(t, "http://127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, []string{"model", "apply", "--replicas", "3"}, environ, io.Discard, &out)
	if err == nil || !strings.Contains(err.Error(), "waiting for 3 replicas of Ollama: 1 are there") || !strings.Contains(out.String(), "waiting for 3 replicas") {
		t.Errorf("got %v after:\n%s", err, out.String())
	}
}

// TestAwaitsTheJob: where a job makes the model, the service lives without it and is ready with it.
func TestAwaitsTheJob(t *testing.T) {
	s := ollamatest.Start(t)
	environ, url := project(t, s.URL)
	environ = append(environ, "APPLY_MODEL=false")
	ctx, stop := context.WithCancel(t.Context())
	var logs output
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, environ, io.Discard, &logs) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	await(t, func() bool { return run(t.Context(), []string{"healthcheck"}, environ, io.Discard, io.Discard) == nil })
	var status bytes.Buffer
	await(t, func() bool {
		status.Reset()
		return run(t.Context(), []string{"model", "status"}, environ, &status, io.Discard) == nil && strings.Contains(status.String(), "waiting for the model job, which makes m:")
	})
	ready := func() error {
		return run(t.Context(), []string{"healthcheck", url + "/ready"}, nil, io.Discard, io.Discard)
	}
	if err := ready(); err == nil {
		t.Error("ready without its model")
	}
	// Another model of the name is not the one that was planned.
	s.Tiny(t, "m", "")
	if err := ready(); err == nil {
		t.Error("ready with a model of another digest")
	}
	var out output
	if err := run(t.Context(), []string{"model", "apply", "--replicas", "1"}, environ, io.Discard, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	await(t, func() bool { return ready() == nil })
}
