package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/job"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/keep"
	"github.com/prometheus/client_golang/prometheus"
)

// erased is an audit of one day, with the record of an erasure.
type erased struct{ at time.Time }

func (e erased) Days(context.Context) ([]string, error) {
	return []string{e.at.UTC().Format(time.DateOnly)}, nil
}

func (e erased) Page(_ context.Context, _ string, from int64) ([]string, error) {
	if from > 0 || time.Now().Before(e.at) {
		return nil, nil
	}
	return []string{auditlog.Key{}.Seal(auditlog.Record{Number: 1, ID: "A", Time: e.at,
		Action: auditlog.Erase, Outcome: auditlog.Done, Object: "ada"})}, nil
}

// newSchedule returns a schedule of a stack prod, which keeps in the directory what write makes.
func newSchedule(
	t *testing.T, d depot.Depot, audit job.Audit, write func(context.Context, io.Writer) error,
) *schedule {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	return &schedule{every: 24 * time.Hour, log: log, metrics: newMetrics(prometheus.NewRegistry()),
		job: job.New(job.Options{
			Stack: "prod", Depot: d, Keys: []age.Recipient{id.Recipient()}, Keep: keep.Rule{Last: 1},
			Parts: []job.Part{{Name: archive.Redis, Write: write}}, Audit: audit, Log: log, Now: time.Now,
		})}
}

// files returns the paths of what is in the place that the pattern says.
func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "prod", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestErasuresMeanwhile: what is erased while a backup is made, which takes hours, is kept within a
// minute.
func TestErasuresMeanwhile(t *testing.T) {
	dir := t.TempDir()
	d, err := depot.NewDirectory(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}

	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		begun := make(chan struct{})
		s := newSchedule(t, d, erased{time.Now().Add(time.Hour)},
			func(ctx context.Context, _ io.Writer) error {
				close(begun)
				<-ctx.Done()
				return errors.Join(ctx.Err(), io.ErrUnexpectedEOF)
			})
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.run(ctx)
		}()

		<-begun
		time.Sleep(time.Hour - time.Second)
		if got := files(t, dir, "erasures-*"); len(got) > 0 {
			t.Errorf("before there are %q", got)
		}
		time.Sleep(look + time.Second)
		if got := files(t, dir, "erasures-*"); len(got) != 1 {
			t.Errorf("a minute after there are %q", got)
		}
		stop()
		<-done
	})
}

// value returns that of a counter or a gauge.
func value(t *testing.T, m prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	all, err := reg.Gather()
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	got := all[0].GetMetric()[0]
	return got.GetCounter().GetValue() + got.GetGauge().GetValue()
}

// stuck is a depot that removes nothing.
type stuck struct{ depot.Depot }

var errStuck = errors.New("it is locked")

func (s stuck) Remove(context.Context, string) error { return errStuck }

// TestPruneFails: where older backups cannot be dropped there is a backup all the same, and no other
// one is due.
func TestPruneFails(t *testing.T) {
	dir := t.TempDir()
	d, err := depot.NewDirectory(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}

	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := newSchedule(t, stuck{d}, nil, func(_ context.Context, to io.Writer) error {
			_, err := io.WriteString(to, "REDIS")
			return err
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.run(ctx)
		}()

		time.Sleep(49 * time.Hour)
		stop()
		<-done
		if got := files(t, dir, "backup-*.json"); len(got) != 3 {
			t.Errorf("there are %q", got)
		}
		count := func(what string) float64 {
			return value(t, s.metrics.failures.WithLabelValues(what))
		}
		if count("backup") != 0 || count("prune") != 2 {
			t.Errorf("%v backups failed, and %v times older ones stayed", count("backup"), count("prune"))
		}
	})
}

// TestNone: where backups are gone the metric says so.
func TestNone(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	for _, tt := range []struct {
		at   time.Time
		want float64
	}{{time.Unix(5, 0), 5}, {time.Time{}, 0}} {
		if m.seen(tt.at); value(t, m.last) != tt.want {
			t.Errorf("%s: %v", tt.at, value(t, m.last))
		}
	}
}
