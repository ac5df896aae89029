// Package doctor finds out why a stack does not, or would not, work on this machine. Each check
// reports what it found, and what to do if something is wrong.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Status is the result of a check.
type Status string

// The results of a check. Warn is what works but may fail later, Skip what cannot be known now.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Finding is one result of a check.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`

	// Fix tells what to do; empty if nothing needs doing.
	Fix string `json:"fix,omitempty"`
}

// Patient is what the checks examine. What is not available is nil or has its error.
type Patient struct {
	Root string

	// Name is the name of the stack. Stack is its description, unless StackErr tells
	// why that is not known.
	Name     string
	Stack    stacks.Stack
	StackErr error

	// Engine or Cluster is what the stack runs on, unless PlatformErr tells why
	// neither is available.
	Engine      *engine.Engine
	Cluster     *cluster.Cluster
	PlatformErr error

	// OnCluster reports whether the stack belongs on a cluster.
	OnCluster bool

	// Taken are the ports of the stack that something else holds.
	Taken    []*engine.Taken
	TakenErr error

	// Images are the references of the images that the stack builds.
	Images    []string
	ImagesErr error

	// SecretsErr tells what is missing to open the stack's state; State where the state is.
	SecretsErr error
	State      string

	Finder pulumicli.Finder

	// PluginDirs are the folders in which Pulumi installs plugins; Path the folders of PATH.
	PluginDirs []string
	Path       []string
}

// checkTimeout bounds one check.
const checkTimeout = 15 * time.Second

// check is one check. It may return several findings, such as one for each service.
type check struct {
	name string
	run  func(ctx context.Context, p *Patient) []Finding

	// engine and cluster are set if the check needs one that answers; stack if it needs
	// the stack's description.
	engine, cluster, stack bool
}

// onEngine are the checks of a stack on a Docker engine.
var onEngine = []check{
	{name: "engine", run: engineVersion},
	{name: "settings", run: settings},
	{name: "state", run: state},
	{name: "pulumi", run: pulumi},
	{name: "docker provider", run: dockerProvider},
	{name: "go", run: goVersion},
	{name: "language host", run: languageHost},
	{name: "ports", run: ports, engine: true, stack: true},
	{name: "memory", run: memory, engine: true, stack: true},
	{name: "disk", run: disk, engine: true},
	{name: "GPU", run: gpu, engine: true, stack: true},
	{name: "sources", run: sources, stack: true},
	{name: "containers", run: containers, engine: true},
	{name: "certificates", run: certificates, engine: true, stack: true},
	{name: "DNS", run: dns, engine: true, stack: true},
	{name: "volumes", run: volumes, engine: true, stack: true},
	{name: "firewall", run: firewall, engine: true, stack: true},
	{name: "hardening", run: hardening, engine: true, stack: true},
}

// Examine runs every check in order and calls report with each finding.
func Examine(ctx context.Context, p *Patient, report func(Finding)) {
	checks := onEngine
	if p.OnCluster {
		checks = onCluster
	}

	for _, c := range checks {
		switch {
		case ctx.Err() != nil:
			return
		case c.engine && p.Engine == nil:
			report(Finding{Check: c.name, Status: Skip, Detail: "needs an engine that answers"})
		case c.cluster && p.Cluster == nil:
			report(Finding{Check: c.name, Status: Skip, Detail: "needs a cluster that answers"})
		case c.stack && p.StackErr != nil:
			report(Finding{Check: c.name, Status: Skip, Detail: "needs valid settings"})
		default:
			one, cancel := context.WithTimeout(ctx, checkTimeout)
			for _, f := range c.run(one, p) {
				f.Check = c.name
				report(f)
			}
			cancel()
		}
	}
}

func found(status Status, fix, format string, args ...any) []Finding {
	return []Finding{{Status: status, Fix: fix, Detail: fmt.Sprintf(format, args...)}}
}

// failed returns the finding of a check whose error ends in what to do.
func failed(err error) []Finding {
	what, fix := split(err)
	return found(Fail, fix, "%s", what)
}

// cannot returns the finding of a check that could not be made.
func cannot(err error) []Finding { return found(Warn, "", "cannot be checked: %v", err) }
