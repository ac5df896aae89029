package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

const (
	redrawEvery = 100 * time.Millisecond

	// remindEvery is the time after which a step that lasts is printed again without a terminal.
	remindEvery = 15 * time.Second

	// quick is how long a build may take before its steps are printed: those that
	// are cached need no line.
	quick = 2 * time.Second

	// maxActive bounds the lines of the live display.
	maxActive = 8

	// outputLines is how many lines of a resource's output are kept for its failure.
	outputLines = 15
)

// Diagnostic is a message of the engine or a provider.
type Diagnostic struct {
	URN, Message string

	// Output is what the resource printed last before it failed, such as a compiler's errors.
	Output []string

	// service is the service in the resource's labels, or "".
	service string
}

// Service returns the service that the diagnostic is about, or "".
func (d Diagnostic) Service() string {
	if d.service != "" {
		return d.service
	}
	return serviceOf(d.URN)
}

// Result is the result of an update or a preview.
type Result struct {
	// Steps are the steps that were done, or would be, in their order.
	Steps  []Step
	Errors []Diagnostic

	// Unchanged counts the resources with nothing to do.
	Unchanged int
}

// Display shows the progress of an update.
type Display struct {
	out   *console.Console
	now   func() time.Time
	start time.Time

	// quiet is set to show nothing while it goes on: a preview prints its result at the end.
	quiet bool

	// notes are what starting containers log.
	notes <-chan running.Note

	// onStep is called when a step begins and when it ends. It may be nil.
	onStep func(s Step, begins bool)
	active []*Step
	result Result
	warned map[string]bool
	drawn  int // lines on the screen that will be drawn again
}

// New returns a display that shows every step. now is the clock.
func New(out *console.Console, now func() time.Time) *Display {
	return &Display{out: out, now: now, start: now()}
}

// WithNotes makes the display show the notes beside the containers that are starting.
func (d *Display) WithNotes(notes <-chan running.Note) *Display {
	d.notes = notes
	return d
}

// OnStep makes the display call f when a step begins and when it ends.
func (d *Display) OnStep(f func(s Step, begins bool)) *Display {
	d.onStep = f
	return d
}

// Quiet returns a display that only collects the result.
func Quiet(out *console.Console, now func() time.Time) *Display {
	d := New(out, now)
	d.quiet = true
	return d
}

// Run shows the events until the channel or stop is closed, and returns the result.
func (d *Display) Run(ch <-chan events.EngineEvent, stop <-chan struct{}) Result {
	every := time.Second
	if d.out.Terminal {
		every = redrawEvery
	}

	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				return d.finish()
			}
			d.Handle(e.EngineEvent)
		case <-stop:
			return d.finish()
		case n := <-d.notes:
			d.handleNote(n)
		case <-tick.C:
			d.Tick()
		}
	}
}

// handleNote shows the note, or ends the step that waits until its service is ready.
func (d *Display) handleNote(n running.Note) {
	for _, s := range slices.Clone(d.active) {
		switch {
		case !s.Workload() || s.Service() != n.Service:
		case !n.Ready:
			s.note = console.Plain(n.Text)
		case s.applied:
			d.done(s, false)
			if d.drawn == 0 {
				d.draw()
			}
		}
	}
}

// finish adds the steps that wait for their pods to the result: the update has ended, and reports
// itself whether it succeeded.
func (d *Display) finish() Result {
	d.clear()
	for _, s := range d.active {
		if s.applied {
			d.result.Steps = append(d.result.Steps, *s)
		}
	}
	return d.result
}

// Handle processes one event.
func (d *Display) Handle(e apitype.EngineEvent) {
	switch {
	case e.ResourcePreEvent != nil:
		d.begin(e.ResourcePreEvent.Metadata)
	case e.ResOutputsEvent != nil:
		d.end(e.ResOutputsEvent.Metadata, false)
	case e.ResOpFailedEvent != nil:
		d.end(e.ResOpFailedEvent.Metadata, true)
	case e.DiagnosticEvent != nil:
		d.diagnose(*e.DiagnosticEvent)
	case e.ErrorEvent != nil:
		d.result.Errors = append(d.result.Errors, Diagnostic{Message: e.ErrorEvent.Error})
	case e.ProgressEvent != nil:
		p := e.ProgressEvent
		if p.Done {
			d.print(d.line(d.now(), "plugin", p.ID, "installed", ""))
		}
	}

	if d.drawn == 0 { // a line was printed; else the next tick is soon enough
		d.draw()
	}
}

func (d *Display) begin(m apitype.StepEventMetadata) {
	if m.Op == apitype.OpSame && !strings.HasPrefix(m.Type, "pulumi:") &&
		strings.Contains(m.Type, "/") {
		d.result.Unchanged++
	}

	s, ok := newStep(m, d.now())
	if !ok {
		if s.Op == apitype.OpSame && s.pods() && d.onStep != nil {
			d.onStep(s, false) // it may not be ready, whoever made it
		}
		return
	}

	d.active = append(d.active, &s)
	if d.onStep != nil {
		d.onStep(s, true)
	}

	// Without a terminal only what may take long is announced.
	if !d.out.Terminal && s.Kind == "image" && s.Op != apitype.OpDelete &&
		s.Op != apitype.OpDeleteReplaced {
		s.shown = d.now()
		d.print(d.line(d.now(), s.Kind, s.Name, s.going, ""))
	}
}

func (d *Display) end(m apitype.StepEventMetadata, failed bool) {
	for _, s := range d.active {
		if s.URN != m.URN || s.Op != m.Op || s.applied {
			continue
		}

		s.Failed = failed
		if d.onStep != nil {
			d.onStep(*s, false)
		}

		// Pulumi starts a cluster's workloads together, and the notes report when each is ready.
		if s.pods() && !s.Removes() && !failed && d.notes != nil {
			s.applied = true
			return
		}

		d.done(s, failed)
		return
	}
}

// done prints that a step has ended.
func (d *Display) done(s *Step, failed bool) {
	d.active = slices.DeleteFunc(d.active, func(x *Step) bool { return x == s })
	d.result.Steps = append(d.result.Steps, *s)
	took, text, paint := d.now().Sub(s.started), s.done, console.Green
	if failed {
		text, paint = "failed "+s.going, console.Red
	}
	if took >= time.Second {
		text += fmt.Sprintf(" (%.1fs)", took.Seconds())
	}
	if !s.minor || failed || took >= time.Second {
		d.print(d.line(d.now(), s.Kind, s.Name, text, paint))
	}
}

func (d *Display) diagnose(e apitype.DiagnosticEvent) {
	message := strings.TrimSpace(uncoloured(e.Message))
	switch {
	case message == "":
	case e.Severity == "error":
		d.result.Errors = append(d.result.Errors, d.diagnostic(e.URN, message))
	case d.waitsFor(e.URN) != nil:
		// The notes of the pod itself are better.
		if s := d.waitsFor(e.URN); s.note == "" {
			s.note = console.Plain(strings.ReplaceAll(message, "\n", " "))
		}
	case e.Severity == "warning":
		d.warn(message)
	case strings.Contains(e.URN, "::pulumi:pulumi:Stack::"): // from the program itself
		d.print(message)
	default:
		for _, s := range d.active {
			if s.URN == e.URN {
				d.note(s, message)
			}
		}
	}
}

// waitsFor returns the step of a cluster's workload that is waited for, or nil. What its provider
// warns of meanwhile is what it waits for, and may be over in a moment.
func (d *Display) waitsFor(urn string) *Step {
	for _, s := range d.active {
		if s.URN == urn && s.Workload() && s.Kind != "container" {
			return s
		}
	}
	return nil
}

// diagnostic returns the message with the service and the output of its resource.
func (d *Display) diagnostic(urn, message string) Diagnostic {
	out := Diagnostic{URN: urn, Message: message}
	for _, s := range d.result.Steps {
		if s.URN == urn {
			out.service = s.service
		}
	}

	for _, s := range d.active {
		if s.URN == urn {
			out.service, out.Output = s.service, s.output
		}
	}

	return out
}

// warn shows a warning once. Warnings that a plugin is on PATH are left out: that is its owner's
// choice, and every use repeats them.
func (d *Display) warn(message string) {
	if d.warned[message] || strings.HasPrefix(message, "using pulumi-") &&
		strings.Contains(message, " from $PATH") {
		return
	}

	if d.warned == nil {
		d.warned = map[string]bool{}
	}

	d.warned[message] = true
	if strings.Contains(message, "pending operations from previous deployment") {
		message = "an earlier update was killed at its work; `codexctl up --refresh` compares " +
			"the state with what runs"
	}

	if !d.quiet {
		d.clear()
		d.out.Hanging(d.out.Paint(console.Yellow, "warning: "), console.Plain(message))
	}
}

// note keeps what a resource printed while a step works on it, such as a build's output. Without a
// terminal the steps of a build are printed as they come, and the rest is left to the reminder.
func (d *Display) note(s *Step, message string) {
	lines := strings.Split(message, "\n")
	// BuildKit's own records begin with the digest of a step. Everything else is the output
	// of the step's program.
	if !strings.HasPrefix(message, "digest: ") {
		for _, l := range lines {
			s.output = append(s.output, console.Plain(l))
		}
		s.output = s.output[max(0, len(s.output)-outputLines):]
	}

	s.note = strings.TrimSpace(console.Plain(lines[len(lines)-1]))
	if d.out.Terminal {
		return
	}

	for _, l := range lines {
		if l = strings.TrimSpace(console.Plain(l)); buildStep(l) && !s.steps[l] &&
			d.now().Sub(s.started) >= quick {
			if s.steps == nil {
				s.steps = map[string]bool{}
			}
			s.steps[l] = true
			s.shown = d.now()
			d.print(d.line(d.now(), s.Kind, s.Name, l, console.Dim))
		}
	}
}

// buildStep reports whether a line of BuildKit's or the classic builder's output begins a
// step of a Dockerfile.
func buildStep(line string) bool {
	rest, ok := strings.CutPrefix(line, "#")
	if ok {
		_, rest, _ = strings.Cut(rest, " ")
		return strings.HasPrefix(rest, "[") && strings.Contains(rest, "/") &&
			!strings.Contains(rest, "[internal]")
	}

	return strings.HasPrefix(line, "[") && strings.Contains(line, "/") &&
		strings.Contains(line, "] ") && !strings.HasPrefix(line, "[internal]") ||
		strings.HasPrefix(line, "Step ") && strings.Contains(line, " : ")
}

// Tick redraws the display, or without a terminal prints the steps that last.
func (d *Display) Tick() {
	if d.out.Terminal {
		d.draw()
		return
	}

	for _, s := range d.active {
		last := s.started
		if s.shown.After(last) {
			last = s.shown
		}
		if d.now().Sub(last) < remindEvery {
			continue
		}

		s.shown = d.now()
		text := "still " + s.going + " (" + console.Elapsed(d.now().Sub(s.started)) + ")"
		if s.note != "" {
			text += ": " + s.note
		}

		d.print(d.line(d.now(), s.Kind, s.Name, text, console.Dim))
	}
}

// line returns a line such as "0:12 container backend healthy (3.1s)", cut to the width.
func (d *Display) line(at time.Time, kind, name, text string, paint console.Paint) string {
	head := fmt.Sprintf("%5s  %-9s  %-14s  ", console.Elapsed(at.Sub(d.start)), kind, name)
	text = console.Cut(text, d.out.Width()-console.Width(head))
	return head + d.out.Paint(paint, text)
}

// print writes a line that stays, above the redrawn ones.
func (d *Display) print(line string) {
	if d.quiet {
		return
	}
	d.clear()
	d.out.Printf("%s", line)
}

// clear removes the redrawn lines from the screen.
func (d *Display) clear() {
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\r\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// draw shows the steps that go on now.
func (d *Display) draw() {
	if !d.out.Terminal {
		return
	}

	d.clear()
	now := d.now()
	if d.quiet || len(d.active) == 0 {
		text := fmt.Sprintf("%5s  thinking", console.Elapsed(now.Sub(d.start)))
		d.out.Printf("%s", d.out.Paint(console.Dim, text))
		d.drawn = 1
		return
	}

	var b strings.Builder

	for i, s := range d.active {
		if i == maxActive {
			fmt.Fprintf(&b, "%5s  and %d more\n", "", len(d.active)-i)
			d.drawn++
			break
		}

		text := fmt.Sprintf("%s %.0fs", s.going, now.Sub(s.started).Seconds())
		if s.note != "" {
			text += "  " + s.note
		}

		fmt.Fprintf(&b, "%s\n", d.line(now, s.Kind, s.Name, text, console.Yellow))
		d.drawn++
	}

	fmt.Fprint(d.out, b.String())
}

// uncoloured returns the text without the engine's colour marks.
func uncoloured(text string) string { return colors.Never.Colorize(text) }
