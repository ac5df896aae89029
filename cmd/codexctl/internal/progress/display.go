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
)

const (
	redrawEvery = 100 * time.Millisecond

	// remindEvery is how often a step that lasts is mentioned again off a terminal.
	remindEvery = 15 * time.Second

	// quick is how long a build may take without a word about its steps: those that
	// are cached need none.
	quick = 2 * time.Second

	// maxActive is how many lines the live display takes at most.
	maxActive = 8

	// outputLines is how much of what a resource prints is kept for its failure.
	outputLines = 15
)

// Diagnostic is what the engine or a provider said.
type Diagnostic struct {
	URN, Message string

	// Output is what the resource printed last before it failed, such as the
	// compiler's words in a build.
	Output []string

	// service is the one that the resource's labels name; empty when they name none.
	service string
}

// Service is the service that the diagnostic is about; empty when it is about none.
func (d Diagnostic) Service() string {
	if d.service != "" {
		return d.service
	}
	return serviceOf(d.URN)
}

// Result is what came of an update or a preview.
type Result struct {
	// Steps that were done, or would be, in their order.
	Steps  []Step
	Errors []Diagnostic

	// Unchanged counts the resources with nothing to do.
	Unchanged int
}

// Display shows an update while it goes.
type Display struct {
	out   *console.Console
	now   func() time.Time
	start time.Time

	// quiet shows nothing while it goes: a preview tells at its end.
	quiet bool

	// notes are what a service's container says while it starts.
	notes <-chan Note

	// onStep is told of every step that begins and ends.
	onStep func(s Step, begins bool)
	active []*Step
	result Result
	warned map[string]bool
	drawn  int // lines on the screen that will be drawn again
}

// New makes a display that shows every step. now is the clock.
func New(out *console.Console, now func() time.Time) *Display {
	return &Display{out: out, now: now, start: now()}
}

// Note is what a service's container logged last, or that the service is ready.
type Note struct {
	Service, Text string
	Ready         bool
}

// WithNotes makes the display show the notes beside the containers that are starting.
func (d *Display) WithNotes(notes <-chan Note) *Display {
	d.notes = notes
	return d
}

// OnStep makes the display tell of every step that begins and ends.
func (d *Display) OnStep(f func(s Step, begins bool)) *Display {
	d.onStep = f
	return d
}

// Quiet makes a display that only collects the result.
func Quiet(out *console.Console, now func() time.Time) *Display {
	d := New(out, now)
	d.quiet = true
	return d
}

// Run shows the events until the channel or stop is closed, and returns what came of it.
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
			d.take(n)
		case <-tick.C:
			d.Tick()
		}
	}
}

// take shows what a service says, or ends the step that waits until it is ready.
func (d *Display) take(n Note) {
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

// finish counts what is still waited for: the update has ended, and says itself
// whether it went well.
func (d *Display) finish() Result {
	d.clear()
	for _, s := range d.active {
		if s.applied {
			d.result.Steps = append(d.result.Steps, *s)
		}
	}
	return d.result
}

// Handle takes in one event.
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
	if m.Op == apitype.OpSame && !strings.HasPrefix(m.Type, "pulumi:") && strings.Contains(m.Type, "/") {
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

	// Off a terminal only what may take long is announced.
	if !d.out.Terminal && s.Kind == "image" && s.Op != apitype.OpDelete && s.Op != apitype.OpDeleteReplaced {
		s.told = d.now()
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

		// Pulumi starts a cluster's workloads together, and the notes say when each is ready.
		if s.pods() && !s.Removes() && !failed && d.notes != nil {
			s.applied = true
			return
		}

		d.done(s, failed)
		return
	}
}

// done tells that a step has ended.
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
	case d.waitsFor(e.URN) != nil && e.Severity != "error":
		// The notes say it better: of the pod that is waited for, in its own words.
		if s := d.waitsFor(e.URN); s.note == "" {
			s.note = console.Plain(strings.ReplaceAll(message, "\n", " "))
		}
	case e.Severity == "warning":
		d.warn(message)
	case strings.Contains(e.URN, "::pulumi:pulumi:Stack::"): // what the program itself says
		d.print(message)
	default:
		for _, s := range d.active {
			if s.URN == e.URN {
				d.note(s, message)
			}
		}
	}
}

// waitsFor is the workload of a cluster that is waited for: what its provider warns of meanwhile is
// what it waits for, and may be over in a moment.
func (d *Display) waitsFor(urn string) *Step {
	for _, s := range d.active {
		if s.URN == urn && s.Workload() && s.Kind != "container" {
			return s
		}
	}
	return nil
}

// diagnostic adds what is known of the resource: it is at work still, or was until now.
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

// warn shows a warning once. That a plugin is on PATH is its owner's choice,
// and told with every use.
func (d *Display) warn(message string) {
	if d.warned[message] || strings.HasPrefix(message, "using pulumi-") && strings.Contains(message, " from $PATH") {
		return
	}
	if d.warned == nil {
		d.warned = map[string]bool{}
	}

	d.warned[message] = true
	if strings.Contains(message, "pending operations from previous deployment") {
		message = "an earlier update was killed at its work; `codexctl up --refresh` compares the state with what runs"
	}

	for i, line := range console.Wrap(console.Plain(message), d.out.Width()-9) {
		if i == 0 {
			d.print(d.out.Paint(console.Yellow, "warning: ") + line)
			continue
		}
		d.print("         " + line)
	}
}

// note keeps what a resource said while it is at work, such as a build's output; off a terminal the
// steps of a build are told as they come, the rest is left to the reminder.
func (d *Display) note(s *Step, message string) {
	lines := strings.Split(message, "\n")
	// BuildKit's own records begin with the digest of a step; everything else is what the
	// step's program prints.
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
		if l = strings.TrimSpace(console.Plain(l)); buildStep(l) && !s.steps[l] && d.now().Sub(s.started) >= quick {
			if s.steps == nil {
				s.steps = map[string]bool{}
			}
			s.steps[l] = true
			s.told = d.now()
			d.print(d.line(d.now(), s.Kind, s.Name, l, console.Dim))
		}
	}
}

// buildStep says whether a line of BuildKit's or the classic builder's output begins a
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

// Tick redraws, or off a terminal mentions what lasts.
func (d *Display) Tick() {
	if d.out.Terminal {
		d.draw()
		return
	}

	for _, s := range d.active {
		last := s.started
		if s.told.After(last) {
			last = s.told
		}
		if d.now().Sub(last) < remindEvery {
			continue
		}

		s.told = d.now()
		text := "still " + s.going + " (" + console.Elapsed(d.now().Sub(s.started)) + ")"
		if s.note != "" {
			text += ": " + s.note
		}

		d.print(d.line(d.now(), s.Kind, s.Name, text, console.Dim))
	}
}

// line is "0:12  container  backend       healthy (3.1s)", cut to the width.
func (d *Display) line(at time.Time, kind, name, text string, paint console.Paint) string {
	head := fmt.Sprintf("%5s  %-9s  %-14s  ", console.Elapsed(at.Sub(d.start)), kind, name)
	text = console.Cut(text, d.out.Width()-len([]rune(head)))
	return head + d.out.Paint(paint, text)
}

// print writes a line that stays, above those that are redrawn.
func (d *Display) print(line string) {
	if d.quiet {
		return
	}
	d.clear()
	d.out.Printf("%s", line)
}

// clear takes the redrawn lines off the screen.
func (d *Display) clear() {
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\r\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// draw shows what is going on now.
func (d *Display) draw() {
	if !d.out.Terminal {
		return
	}

	d.clear()
	var b strings.Builder
	now := d.now()
	if d.quiet || len(d.active) == 0 {
		fmt.Fprintf(&b, "%s\n",
			d.out.Paint(console.Dim,
				fmt.Sprintf("%5s  thinking", console.Elapsed(now.Sub(d.start)))))
		d.drawn = 1
		fmt.Fprint(d.out, b.String())
		return
	}

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

// uncoloured takes out the engine's colour marks.
func uncoloured(text string) string { return colors.Never.Colorize(text) }
