package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/internal/job"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/keep"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// look is the time between two looks at what is to be done: erasures are written down that
	// often.
	look = time.Minute

	// lastPause is the longest time between two tries to make a backup.
	lastPause = 30 * time.Minute

	// longest bounds one backup.
	longest = 12 * time.Hour

	// farewell bounds what is written down when the service is stopped: an engine waits ten seconds.
	farewell = 5 * time.Second
)

// schedule makes backups when they are due.
type schedule struct {
	job       *job.Job
	every, at time.Duration
	log       *slog.Logger
	metrics   *metrics

	failures int
	notUntil time.Time // after failures
}

// run makes backups, and writes down erasures, which wait for no backup, until the context ends.
func (s *schedule) run(ctx context.Context) {
	var working sync.WaitGroup
	working.Go(func() { s.watch(ctx) })
	s.pruned(ctx, s.job.Clean(ctx)) // it may be what fills the place
	for {
		s.step(ctx, time.Now())
		if !outage.Pause(ctx, look) {
			break
		}
	}
	working.Wait()
}

// watch writes down what is erased until the context ends, and then what was since it last looked, as
// the stack may go with its volumes.
func (s *schedule) watch(ctx context.Context) {
	for {
		s.erasures(ctx)
		if !outage.Pause(ctx, look) {
			break
		}
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	s.erasures(ctx)
}

// erasures writes down what was erased since the last time.
func (s *schedule) erasures(ctx context.Context) {
	if err := s.job.Erasures(ctx); err != nil && ctx.Err() == nil {
		s.metrics.failures.WithLabelValues("erasures").Inc()
		s.log.ErrorContext(ctx, "erasures are not kept", "error", err)
	}
}

// step makes a backup if one is due at the time.
func (s *schedule) step(ctx context.Context, now time.Time) {
	last, err := s.job.Last(ctx)
	if err == nil {
		s.metrics.seen(last)
	}
	if err == nil && (keep.Due(last, s.every, s.at).After(now) || now.Before(s.notUntil)) {
		return
	}

	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, longest)
		defer cancel()
		var made time.Time
		if made, err = s.create(ctx); err == nil {
			s.metrics.seen(made)
			s.pruned(ctx, s.job.Prune(ctx))
		}
	}
	if err == nil {
		s.failures, s.notUntil = 0, time.Time{}
		return
	}
	if ctx.Err() != nil {
		return
	}

	pause := min(look<<min(s.failures, 10), lastPause)
	s.failures++
	s.notUntil = now.Add(pause)
	s.metrics.failures.WithLabelValues("backup").Inc()
	s.log.ErrorContext(ctx, "no backup", "error", err, "again_in", pause.String())
}

// create makes a backup, and returns when it was begun if there is one.
func (s *schedule) create(ctx context.Context) (time.Time, error) {
	_, summary, err := s.job.Create(ctx)
	if err != nil {
		return time.Time{}, err
	}
	s.metrics.bytes.Set(float64(summary.Bytes))
	s.metrics.took.Set(summary.Ended.Sub(summary.Begun).Seconds())
	return summary.Begun, nil
}

// pruned notes whether what need not be kept was dropped. That it was not makes no backup less.
func (s *schedule) pruned(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.metrics.failures.WithLabelValues("prune").Inc()
		s.log.ErrorContext(ctx, "what need not be kept is not dropped", "error", err)
	}
}

// metrics tell whether there are backups.
type metrics struct {
	last, bytes, took prometheus.Gauge
	failures          *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		last: f.NewGauge(prometheus.GaugeOpts{Name: "backup_last_timestamp_seconds",
			Help: "When the last backup that is there was begun; 0 if there is none."}),
		bytes: f.NewGauge(prometheus.GaugeOpts{Name: "backup_last_bytes",
			Help: "Size of the last backup that this process made."}),
		took: f.NewGauge(prometheus.GaugeOpts{Name: "backup_last_duration_seconds",
			Help: "How long the last backup took that this process made."}),
		failures: f.NewCounterVec(prometheus.CounterOpts{Name: "backup_failures_total",
			Help: "What failed, by what it was: backup, erasures or prune."}, []string{"what"}),
	}
	for _, what := range []string{"backup", "erasures", "prune"} {
		m.failures.WithLabelValues(what)
	}
	return m
}

// seen notes when the last backup was begun; zero is for none.
func (m *metrics) seen(last time.Time) {
	seconds := 0.0
	if !last.IsZero() {
		seconds = float64(last.Unix())
	}
	m.last.Set(seconds)
}
