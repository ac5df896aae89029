// Package failure turns what went wrong in an update into what a person can act on: which service, its last log lines,
// what to do.
package failure

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// LogLines is how many of a failing container's last log lines are shown.
const LogLines = 20

// Problem is one thing that is wrong.
type Problem struct {
	// Service is empty when the problem is not one of a single service.
	Service string
	What    string
	// Todo says how to go on.
	Todo string
	// Container names whose log Log is: its last lines.
	Container string
	Log       []string
	// complete says that what is known is enough: no log would tell more.
	complete bool
}

// Source tells what runs of the stack, and what it logged.
type Source interface {
	// Replicas lists those of a service, or of all with an empty one.
	Replicas(ctx context.Context, service string) ([]running.Replica, error)
	LastLines(ctx context.Context, r running.Replica, n int) ([]string, error)
}

// rule recognises a kind of failure by the words of whoever reported it: the engine, the docker provider, BuildKit or
// Pulumi. They have no codes.
type rule struct {
	match *regexp.Regexp
	// what and todo may refer to the match's groups ($1), to the service ($service) and to the stack ($stack).
	what, todo string
}

var rules = []rule{
	{
		regexp.MustCompile(`(?i)Bind for (?:[0-9.]+|\[?::\]?):(\d+) failed: port is already allocated|listen tcp\S* \S*?:(\d+): bind: address already in use`),
		"the host port $1$2 is taken", "stop what holds it (`ss -ltnp 'sport = :$1$2'` or `docker ps` name it), or choose another port in the stack's settings",
	},
	{
		regexp.MustCompile(`(?i)Cannot connect to the Docker daemon at (\S+?)[.;]? |failed to connect to any docker daemon|Error pinging Docker server`),
		"the Docker engine went away", "start Docker and run the command again",
	},
	{
		regexp.MustCompile(`(?is)unable to (?:find or )?pull image ([^\s:]+(?:[:@][^\s:]+)?)|pull access denied for ([^\s,]+)|([^\s"]+): not found.*failed to resolve|failed to resolve (?:reference|source metadata for) "?([^\s":]+(?::[^\s":]+)?)`),
		"the image $1$2$3$4 cannot be pulled", "check the way to its registry with `docker pull $1$2$3$4`; without one, load it with `docker load`, or make an equivalent with `make images`",
	},
	{
		regexp.MustCompile(`(?i)no space left on device`),
		"the engine's disk is full", "make room: `docker system df` shows what takes it, `docker builder prune` and `docker image prune` free it",
	},
	{
		regexp.MustCompile(`(?i)could not select device driver|nvidia-container-cli|unknown or invalid runtime name: nvidia`),
		"the engine has no GPU to give", "install the NVIDIA container toolkit (`nvidia-ctk runtime configure`), or take gpu out of the stack's settings",
	},
	{
		regexp.MustCompile(`(?i)(failed to solve|executor failed running|did not complete successfully|returned a non-zero code|unable to build image|failed to build)`),
		"the image does not build", "the lines above name the failing step of $service's Dockerfile in services/; correct it and run the command again",
	},
	{
		regexp.MustCompile(`(?i)(failed to be in healthy state|container \S+ is (?:unhealthy|starting|exited with code \d+) after|is unhealthy)`),
		"the container did not become healthy", "",
	},
	{
		regexp.MustCompile(`(?i)container exited immediately|OCI runtime|exited with code`),
		"the container does not start", "",
	},
	// What the Kubernetes provider reports of the API server, which wraps each in several sentences.
	{
		regexp.MustCompile(`(?s)forbidden: User "([^"]+)" cannot (\S+) resource "([^"]+)" in API group "[^"]*"(?: in the namespace "([^"]+)")?`),
		"forbidden by RBAC: $1 may not $2 $3", "ask the cluster's administrator for a role that allows it; `codexctl doctor $stack` lists all that is missing",
	},
	{
		regexp.MustCompile(`(?s)exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: ([^\s"]+)`),
		"the namespace's quota $1 is exceeded: it asks for $2, $3 is used of $4", "raise the quota, or ask for less in the stack's settings",
	},
	{
		regexp.MustCompile(`admission webhook "([^"]+)" denied the request: ([^\n]+)`),
		"the cluster's policy $1 refuses it: $2", "ask the cluster's administrator, or correct what it refuses",
	},
	{
		regexp.MustCompile(`violates PodSecurity "([^"]+)": ([^\n]+)`),
		"the namespace's Pod Security level $1 refuses it: $2", "correct the service's security, or the namespace's level",
	},
	{
		regexp.MustCompile(`(?s)[Aa]pply failed with \d+ conflicts?: conflicts? with "([^"]+)".*?(\.[\w.\[\]="{}:-]+)`),
		"$1 has changed $2 of it by other means", "undo that change, or let what the stack says win: add the annotation pulumi.com/patchForce=\"true\" by `kubectl annotate`, and run the command again",
	},
	{
		regexp.MustCompile(`(?s)([a-z.]+ "[^"]+") already exists`),
		"$1 is there already, and not of this stack's state", "remove it, or name the backend that it was made with in PULUMI_BACKEND_URL",
	},
	{
		regexp.MustCompile(`(?s)configured Kubernetes cluster is unreachable|unable to load Kubernetes client configuration|unable to load schema information from the API server`),
		"the cluster went away", "check the way to it (`codexctl doctor $stack`) and run the command again",
	},
	{
		regexp.MustCompile(`(?i)(?:could not|failed to) (?:find|load|download|install).*plugin.*kubernetes|no resource plugin 'pulumi-resource-kubernetes'`),
		"Pulumi's kubernetes provider can neither be found nor downloaded", "install it where there is a network with `pulumi plugin install resource kubernetes`, or put pulumi-resource-kubernetes on PATH",
	},
	{
		regexp.MustCompile(`(?i)(?:could not|failed to) (?:find|load|download|install).*plugin|no resource plugin`),
		"Pulumi's docker provider can neither be found nor downloaded", "install it where there is a network with `pulumi plugin install resource docker 4.10.0`, or put pulumi-resource-docker on PATH",
	},
}

// Explain makes the problems out of an update's errors and the state that its replicas are in. stack is what commands call
// the stack, services are its own; src may be nil when nothing answers.
func Explain(ctx context.Context, errs []progress.Diagnostic, src Source, stack string, services []string) []Problem {
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

// gateError is what the program's own wait for health says of one service (see infra/docker/gate.go).
type gateError struct{ service, message string }

// gateLine matches it: the service, and what follows to the end of the line.
var gateLine = regexp.MustCompile(`(?m)services\.([a-z][a-z0-9-]*): (container \S+ is .*)$`)

// gateErrors splits an error of that wait into those of the services it names. Any other message is one without a service.
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

func recognise(e progress.Diagnostic, stack string, known map[string]bool) Problem {
	p := Problem{}
	if s := e.Service(); known[s] {
		p.Service = s
	}
	message := tidy(e.Message)
	for _, r := range rules {
		m := r.match.FindStringSubmatchIndex(message)
		if m == nil {
			continue
		}
		expand := func(tmpl string) string {
			tmpl = strings.NewReplacer("$service", p.Service, "$stack", stack).Replace(tmpl)
			// ${1}${2}: a group that did not match is empty.
			return string(r.match.ExpandString(nil, groups.ReplaceAllString(tmpl, "$${$1}"), message, m))
		}
		p.What, p.Todo = expand(r.what), expand(r.todo)
		p.complete = r.todo != ""
		if r.todo == "" || strings.Contains(r.what, "build") {
			p.What += ":\n" + indent(strings.Join(append(slices.Clone(e.Output), lastLines(message, 12)), "\n"))
		}
		return p
	}
	// The engine's summary of what has been told already.
	if strings.HasPrefix(message, "update failed") || strings.HasPrefix(message, "preview failed") || strings.HasPrefix(message, "destroy failed") ||
		strings.HasPrefix(message, "resource monitor shut down") {
		return Problem{}
	}
	p.What = message
	return p
}

var groups = regexp.MustCompile(`\$(\d)`)

// noise is what layers of plumbing put before the message: nothing that a person could use.
var noise = regexp.MustCompile(`(?m)^(?:\s*error: )?(?:an unhandled error occurred: |program failed: |waiting for RPCs: |rpc error: code = \w+ desc = |sdk-v2/provider2\.go:\d+: |sdk\.helper_schema: |\d+ errors? occurred:\s*|go inline source runtime error, an unhandled error occurred: |\* |[*\s]+)+`)

func tidy(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		line = strings.TrimRight(console.Plain(strings.TrimRight(noise.ReplaceAllString(line, ""), "\n")), " ")
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

// withReplicas adds to the problems the logs of the replicas behind them, and the replicas that are not well and that no
// error named. Where the causes are settled already, those only suffer from them and are left out.
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
		for j := range problems {
			if problems[j].Service == r.Service && (problems[j].Container == "" || problems[j].complete) {
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
			problems = append(problems, Problem{Service: r.Service, What: "the container is not well"})
			i = len(problems) - 1
		}
		p := &problems[i]
		p.Container = r.Name
		p.What += "\n" + indent(r.Condition)
		if p.Todo == "" {
			p.Todo = r.Todo
		}
		if p.Log, err = src.LastLines(ctx, r, LogLines); err != nil {
			p.Log = []string{err.Error()}
		}
	}
	return problems
}

// Print writes the problems. command is what continues, such as "codexctl up dev".
func Print(out *console.Console, problems []Problem) {
	for _, p := range problems {
		head := "error: "
		if p.Service != "" {
			head += p.Service + ": "
		}
		out.Printf("%s%s", out.Paint(console.Red, head), p.What)
		if p.Container != "" {
			if len(p.Log) == 0 {
				out.Printf("  %s logged nothing", p.Container)
			} else {
				out.Printf("  the last lines of %s:", p.Container)
			}
			for _, l := range p.Log {
				out.Printf("    %s", console.Plain(l))
			}
		}
		if p.Todo != "" {
			out.Printf("  what to do: %s", p.Todo)
		}
	}
}
