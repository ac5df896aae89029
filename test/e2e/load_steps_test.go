package e2e

import (
	"fmt"
	"io"
	"time"

	"github.com/codexcontinue/codexcontinue/test/load"
)

// step is one thing that is done to a stack under load. What is noticed until the next one begins
// is its own.
type step struct {
	name string

	// at is when it began, and took how long it took.
	at   time.Time
	took time.Duration

	// before is what was counted until it began.
	before *load.Report
}

// mark begins a step.
func (l *loaded) mark(name string) {
	l.t.Helper()
	if name != "" {
		l.t.Log("step: " + name)
	}
	l.steps = append(l.steps, step{name: name, at: time.Now(), before: l.run.Report()})
}

// done ends the step that was begun last; the wait for the next one belongs to it.
func (l *loaded) done() {
	last := &l.steps[len(l.steps)-1]
	last.took = time.Since(last.at)
}

// noticed is what people noticed of a step.
type noticed struct {
	took, gap       time.Duration
	failed, refused int
}

// noticed are the steps' figures, in their order. The last mark has none: it is the end.
func (l *loaded) noticed() []noticed {
	var out []noticed
	for i := range len(l.steps) - 1 {
		s, next := l.steps[i], l.steps[i+1]
		out = append(out, noticed{
			took: s.took, gap: l.report.GapIn(s.at, next.at),
			failed:  next.before.FailureCount() - s.before.FailureCount(),
			refused: next.before.Refused.Count - s.before.Refused.Count,
		})
	}

	return out
}

// printSteps writes what people noticed of each step, for one stack or for several that were put
// through the same.
func printSteps(w io.Writer, all ...*loaded) {
	figures := make([][]noticed, len(all))
	for i, l := range all {
		figures[i] = l.noticed()
	}

	fmt.Fprintf(w, "\n%-38s", "Step: s, failed, refused, s without text")
	for _, l := range all {
		fmt.Fprintf(w, "  %26s", l.stack)
	}

	for n := range figures[0] {
		fmt.Fprintf(w, "\n  %-36s", short(all[0].steps[n].name, 36))
		for i := range all {
			if n < len(figures[i]) {
				f := figures[i][n]
				fmt.Fprintf(w, "  %6.1f %6d %6d %5.1f",
					f.took.Seconds(), f.failed, f.refused, f.gap.Seconds())
			}
		}
	}

	fmt.Fprintln(w)
}

func short(s string, width int) string { return s[:min(len(s), width)] }
