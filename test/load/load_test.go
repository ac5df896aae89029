//go:build unix

package load_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/load"
	"github.com/codexcontinue/codexcontinue/test/load/chaos"
)

// variable asks for the tests that keep this machine busy for minutes: `make load` sets it.
const variable = "CODEXCONTINUE_LOAD"

// TestKills has people ask and read while each service in turn is killed: nothing that was
// acknowledged is lost, and no answer is cut.
func TestKills(t *testing.T) {
	if os.Getenv(variable) == "" {
		t.Skip("it keeps the machine busy for minutes: `make load` runs it")
	}

	s := startProcesses(t)
	services := []string{"gate", "frontend", "backend", "ml", "ollama", "redis"}
	if s.edge {
		services = append(services, "edge")
	}

	r, err := load.Start(
		t.Context(),
		load.Options{
			URL:     s.url,
			People:  8,
			Answers: 6,
			Streams: 15,
			Long:    12 * time.Second,
			Rate:    60,
			Seed:    1,
			Resend:  true,
		},
	)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// An answer takes 12 s or a little more and is taken over three times at most: fewer kills fall
	// into it. And text flows again before the next one.
	schedule := chaos.Schedule{
		Seed:     1,
		Services: services,
		Rounds:   2,
		Between:  6 * time.Second,
		Spread:   2 * time.Second,
		Timeout:  30 * time.Second,
	}

	kills, err := schedule.Run(ctx, s.kill, s.healthy, nil)
	if err != nil {
		t.Error(err)
	}

	report := r.Stop()
	t.Log(text(t, report))
	for _, k := range kills {
		gap := report.GapIn(k.At, k.At.Add(time.Second))
		t.Logf("%s; no text for %.1f s", k, gap.Seconds())
	}

	if err := report.Lost(); err != nil {
		t.Error(err)
	}

	if report.Acknowledged < 30 || report.LongAsked < 6 {
		t.Errorf(
			"%d questions, %d of them long, are too few to tell anything",
			report.Acknowledged,
			report.LongAsked,
		)
	}

	// An open connection of the edge is cut when it is killed, and nobody can send what was on it
	// again but its sender.
	if report.Refused.Longest > 5*time.Second {
		t.Errorf("connections were refused for %s", report.Refused.Longest)
	}
}

// TestQuiet: where nobody is killed nothing fails, so what TestKills counts is what the kills do.
func TestQuiet(t *testing.T) {
	if os.Getenv(variable) == "" {
		t.Skip("it keeps the machine busy: `make load` runs it")
	}

	s := startProcesses(t)
	r, err := load.Start(
		t.Context(),
		load.Options{
			URL:      s.url,
			People:   8,
			Answers:  4,
			Streams:  10,
			Long:     5 * time.Second,
			Duration: 12 * time.Second,
			Rate:     60,
			Seed:     1,
		},
	)
	if err != nil {
		t.Fatal(err)
	}

	<-r.Done()
	report := r.Stop()
	t.Log(text(t, report))
	if err := report.Err(); err != nil {
		t.Error(err)
	}

	if report.ExactAnswers != report.Acknowledged || report.Acknowledged < 20 ||
		report.Reconnects > 0 ||
		report.LongGaps > 0 {
		t.Errorf(
			"%d of %d answers are right, %d streams broke, %d had gaps",
			report.ExactAnswers,
			report.Acknowledged,
			report.Reconnects,
			report.LongGaps,
		)
	}
}

func text(t *testing.T, r *load.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	return "\n" + b.String()
}
