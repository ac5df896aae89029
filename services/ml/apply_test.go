package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
)

func TestApplyArguments(t *testing.T) {
	for _, args := range [][]string{{"model", "apply", "--replicas"}, {"model", "apply", "--replicas", "0"}, {"model", "apply", "now"}, {"model", "apply", "--force"}} {
		if err := run(t.Context(), args, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "usage: ml model apply [--replicas N] [--timeout 15m]") {
			t.Errorf("%v: got %v", args, err)
		}
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
