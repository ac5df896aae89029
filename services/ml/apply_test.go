package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
)

func TestApplyArguments(t *testing.T) {
	for _, args := range [][]string{
		{"model", "apply", "--replicas"}, {"model", "apply", "--replicas", "0"},
		{"model", "apply", "now"}, {"model", "apply", "--tries", "0"},
		{"model", "apply", "--force"},
	} {
		if err := run(t.Context(), args, nil, io.Discard,
			io.Discard); err == nil || !strings.Contains(err.Error(),
			"usage: ml model apply [--replicas N] [--timeout 15m] [--tries N]") {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

// TestRetry: what may come right is tried again, until the tries are used up; what may not, or a
// job that is stopped, is not.
func TestRetry(t *testing.T) {
	again, final := errors.New("registry is away"), error(&build.FinalError{Err: errors.New("no such model")})
	for name, tc := range map[string]struct {
		errs  []error // of each try
		tries int
		stop  bool
		calls int
		want  error
	}{
		"at once":      {errs: []error{nil}, tries: 4, calls: 1},
		"at the third": {errs: []error{again, again, nil}, tries: 4, calls: 3},
		"never":        {errs: []error{again, again, again, again}, tries: 4, calls: 4, want: again},
		"one try":      {errs: []error{again}, tries: 1, calls: 1, want: again},
		"in vain":      {errs: []error{final}, tries: 4, calls: 1, want: final},
		"in vain at a replica": {
			errs:  []error{again, errors.Join(again, fmt.Errorf("ollama at b: %w", final))},
			tries: 4,
			calls: 2,
			want:  final,
		},
		"stopped": {errs: []error{again}, tries: 4, stop: true, calls: 1, want: again},
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
	if err == nil || !strings.Contains(err.Error(),
		"waiting for 3 replicas of Ollama: 1 are there") ||
		!strings.Contains(out.String(), "waiting for 3 replicas") {
		t.Errorf("got %v after:\n%s", err, out.String())
	}
}

// TestEverywhere follows replicas that come and go while the model is made: with the clock of the
// bubble, nothing waits.
func TestEverywhere(t *testing.T) {
	broken := errors.New("no space left")
	for name, tc := range map[string]struct {
		found   [][]string // of each look; the last one stays
		takes   map[string]time.Duration
		fails   map[string]error
		want    int
		made    []string // that were made to the end
		after   time.Duration
		err     string
		printed string
	}{
		"all at once": {found: [][]string{{"a", "b"}}, want: 2, made: []string{"a", "b"}, after: time.Second},
		"one comes late": {
			found:   [][]string{{"a"}, {"a"}, {"a", "b"}},
			want:    2,
			made:    []string{"a", "b"},
			after:   3 * time.Second,
			printed: "waiting for 2 replicas of Ollama: 1 are there",
		},
		"one is not wanted": {
			found: [][]string{{"a"}, {"a", "b"}},
			want:  1,
			takes: map[string]time.Duration{"a": 2500 * time.Millisecond, "b": 5500 * time.Millisecond},
			made:  []string{"a", "b"},
			after: 7 * time.Second,
		},
		"one goes": {
			found:   [][]string{{"a", "b"}, {"a", "b"}, {"a"}},
			want:    1,
			takes:   map[string]time.Duration{"b": time.Hour},
			made:    []string{"a"},
			after:   2 * time.Second,
			printed: "b: is gone",
		},
		"one is replaced": {
			found:   [][]string{{"a", "b"}, {"a"}, {"a", "c"}},
			want:    2,
			takes:   map[string]time.Duration{"b": time.Hour},
			made:    []string{"a", "c"},
			after:   3 * time.Second,
			printed: "b: is gone",
		},
		"one fails": {
			found: [][]string{{"a", "b"}},
			want:  2,
			fails: map[string]error{"b": broken},
			made:  []string{"a"},
			after: time.Second,
			err:   "ollama at b: no space left",
		},
		"one fails and goes": {
			found: [][]string{{"a", "b"}, {"a"}},
			want:  1,
			takes: map[string]time.Duration{"a": 3500 * time.Millisecond},
			fails: map[string]error{"b": broken},
			made:  []string{"a"},
			after: 4 * time.Second,
		},
		"too few, too long": {
			found: [][]string{{"a"}},
			want:  2,
			made:  []string{"a"},
			after: 61 * time.Second,
			err:   "waiting for 2 replicas of Ollama: 1 are there: not within 1m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var made []string
				var out bytes.Buffer
				looks, start := 0, time.Now()
				err := everywhere{want: tc.want, timeout: time.Minute, out: &lines{w: &out},
					find: func(context.Context) ([]string, error) {
						looks++
						return tc.found[min(looks, len(tc.found))-1], nil
					},
					make: func(ctx context.Context, address string) error {
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(max(tc.takes[address], time.Millisecond)): // after the look
						}

						mu.Lock()
						defer mu.Unlock()
						if tc.fails[address] == nil {
							made = append(made, address)
						}

						return tc.fails[address]
					}}.run(t.Context())

				slices.Sort(made)
				if !slices.Equal(made, tc.made) {
					t.Errorf("made at %v, want %v", made, tc.made)
				}
				if got := time.Since(start); got != tc.after {
					t.Errorf("it took %s, want %s", got, tc.after)
				}

				if got := fmt.Sprint(err); tc.err == "" && err != nil ||
					!strings.Contains(got, tc.err) {
					t.Errorf("error: %v, want %q", err, tc.err)
				}

				if !strings.Contains(out.String(), tc.printed) {
					t.Errorf("it printed %q, want %q", out.String(), tc.printed)
				}
			})
		})
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

	await(t, func() bool {
		return run(t.Context(), []string{"healthcheck"}, environ, io.Discard, io.Discard) == nil
	})
	client := backend(t, environ)
	await(t, func() bool {
		return strings.Contains(state(t, client, url), "waiting for the model job, which makes m:")
	})

	ready := func() error {
		return run(t.Context(), []string{"healthcheck", url + "/ready"}, nil, io.Discard,
			io.Discard)
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
