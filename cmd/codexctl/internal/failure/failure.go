// Package failure turns what went wrong in an update into what a person can act on: which service,
// its last log lines, what to do.
package failure

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// LogLines is how many of a failing container's last log lines are shown.
const LogLines = 20

// Problem is one thing that is wrong.
type Problem struct {
	// Service is empty if the problem is not one of a single service.
	Service string
	What    string

	// Todo tells how to go on.
	Todo string

	// Container is the name of the container whose last lines Log holds.
	Container string
	Log       []string

	// complete is set if What is enough: no log would tell more.
	complete bool
}

// Source is where a stack runs.
type Source interface {
	// Replicas lists the replicas of a service, or of all services if service is empty.
	Replicas(ctx context.Context, service string) ([]running.Replica, error)

	// LastLines returns the last n lines that the replica logged.
	LastLines(ctx context.Context, r running.Replica, n int) ([]string, error)
}

// AddLog adds the last lines that the replica logged, or why they cannot be had.
func (p *Problem) AddLog(ctx context.Context, from Source, r running.Replica) {
	var err error
	p.Container = r.Name
	if p.Log, err = from.LastLines(ctx, r, LogLines); err != nil {
		p.Log = []string{err.Error()}
	}
}

// Explain returns the problems behind the errors of an update and the state of its replicas. stack
// is the stack's name on the command line, services are its services. src may be nil if nothing
// answers.
func Explain(
	ctx context.Context, errs []progress.Diagnostic, src Source, stack string, services []string,
) []Problem {
	var out []Problem
	seen := map[string]bool{}
	known := map[string]bool{}
	for _, s := range services {
		known[s] = true
	}

	settled := false
	for _, e := range errs {
		for _, part := range gateErrors(e.Message) {
			e.Message = part.message
			p := recognise(e, stack, known)
			if known[part.service] {
				p.Service, settled = part.service, true
			}

			if key := p.Service + "\x00" + p.What; p.What != "" && !seen[key] {
				seen[key] = true
				out = append(out, p)
			}
		}
	}

	if src != nil {
		out = withReplicas(ctx, src, out, settled)
	}

	return out
}

// gateError is the error of one service from the program's own wait for health, in
// infra/docker/gate.go.
type gateError struct{ service, message string }

// gateLine matches the service, and what follows to the end of the line.
var gateLine = regexp.MustCompile(`(?m)services\.([a-z][a-z0-9-]*): (container \S+ is .*)$`)

// gateErrors splits an error of that wait into those of the services it names. Any other message is
// one without a service.
func gateErrors(message string) []gateError {
	var out []gateError
	for _, m := range gateLine.FindAllStringSubmatch(message, -1) {
		out = append(out, gateError{service: m[1], message: m[2]})
	}

	if out == nil {
		out = []gateError{{message: message}}
	}

	return out
}

// recognise returns the problem behind a diagnostic, or one without What if it tells nothing new.
func recognise(e progress.Diagnostic, stack string, known map[string]bool) Problem {
	p := Problem{}
	if s := e.Service(); known[s] {
		p.Service = s
	}

	message := tidy(e.Message)
	if p.What, p.Todo = cluster.Refusal(message, stack, p.Service); p.What != "" {
		p.complete = true
		return p
	}

	for _, r := range rules {
		m := r.match.FindStringSubmatchIndex(message)
		if m == nil {
			continue
		}

		expand := func(tmpl string) string {
			tmpl = strings.NewReplacer("$service", p.Service, "$stack", stack).Replace(tmpl)
			// ${1}${2}: a group that did not match is empty.
			tmpl = groups.ReplaceAllString(tmpl, "$${$1}")
			return string(r.match.ExpandString(nil, tmpl, message, m))
		}

		p.What, p.Todo = expand(r.what), expand(r.todo)
		p.complete = r.todo != ""
		if r.todo == "" || strings.Contains(r.what, "build") {
			said := append(slices.Clone(e.Output), lastLines(message, 12))
			p.What += ":\n" + indent(strings.Join(said, "\n"))
		}

		return p
	}

	if !summary.MatchString(message) {
		p.What = message
	}

	return p
}

var groups = regexp.MustCompile(`\$(\d)`)

// summary matches what Pulumi's engine reports at the end, of errors that it has reported already.
var summary = regexp.MustCompile(
	`^(?:update failed|preview failed|destroy failed|resource monitor shut down)`)

// noise matches what each layer puts before a message, which is of no use to a person.
var noise = regexp.MustCompile(`(?m)^(?:\s*error: )?(?:an unhandled error occurred: |` +
	`program failed: |waiting for RPCs: |rpc error: code = \w+ desc = |` +
	`sdk-v2/provider2\.go:\d+: |sdk\.helper_schema: |\d+ errors? occurred:\s*|` +
	`go inline source runtime error, an unhandled error occurred: |\* |[*\s]+)+`)

// tidy returns the message without noise, control sequences and empty lines.
func tidy(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		line = strings.TrimRight(console.Plain(noise.ReplaceAllString(line, "")), " ")
		if line != "" {
			kept = append(kept, line)
		}
	}

	return strings.Join(kept, "\n")
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }

// withReplicas adds to the problems the logs of the replicas behind them, and the replicas that are
// not well and that no error named. If the causes are settled, those only suffer from them and are
// left out.
func withReplicas(ctx context.Context, src Source, problems []Problem, settled bool) []Problem {
	list, err := src.Replicas(ctx, "")
	if err != nil {
		return problems
	}

	for _, r := range list {
		if r.Healthy || r.Created {
			continue
		}

		i := -1
		for j, p := range problems {
			if p.Service == r.Service && (p.Container == "" || p.complete) {
				i = j
			}
		}

		if i >= 0 && problems[i].complete {
			continue
		}

		if i < 0 {
			if r.Starting || settled {
				continue // interrupted while it starts: nothing is known to be wrong
			}

			i = len(problems)
			problems = append(problems, Problem{
				Service: r.Service,
				What:    "the container is not well",
			})
		}

		p := &problems[i]
		p.What += "\n" + indent(r.Condition)
		if p.Todo == "" {
			p.Todo = r.Todo
		}

		p.AddLog(ctx, src, r)
	}

	return problems
}

// Print writes the problems.
func Print(out *console.Console, problems []Problem) {
	for _, p := range problems {
		head := "error: "
		if p.Service != "" {
			head += p.Service + ": "
		}

		out.Printf("%s%s", out.Paint(console.Red, head), p.What)
		if p.Container != "" && len(p.Log) == 0 {
			out.Printf("  %s logged nothing", p.Container)
		} else if p.Container != "" {
			out.Printf("  the last lines of %s:", p.Container)
		}

		for _, l := range p.Log {
			out.Printf("    %s", console.Plain(l))
		}

		if p.Todo != "" {
			out.Printf("  what to do: %s", p.Todo)
		}
	}
}
