package outage_test

import (
	"context"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/outage"
)

func TestFailed(t *testing.T) {
	const patience, impatience = 10 * time.Second, time.Second
	start := time.Now()
	o := outage.New(patience, impatience)
	failed := func(at, want time.Duration) {
		t.Helper()
		if got := o.Failed(start.Add(at)); got != want {
			t.Errorf("after %s callers wait %s, want %s", at, got, want)
		}
	}

	failed(0, patience)
	failed(6*time.Second, patience)
	failed(11*time.Second, impatience) // away for longer than patience
	failed(20*time.Second, impatience)

	o.Answered()
	failed(21*time.Second, patience)

	failed(time.Hour, patience) // nobody has asked meanwhile
	failed(time.Hour+9*time.Second, patience)
	failed(time.Hour+18*time.Second, impatience)
}

func TestPause(t *testing.T) {
	if !outage.Pause(t.Context(), time.Millisecond) {
		t.Error("a pause was cut short")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if outage.Pause(ctx, time.Hour) {
		t.Error("a pause outlives its context")
	}
}
