package cli

import (
	"context"
	"io"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// platform is what one stack runs on: onEngine or onCluster.
type platform interface {
	// Replicas and LastLines tell what runs and what it logged.
	failure.Source
	io.Closer

	// Name is what the platform is called in a sentence: the engine, the cluster.
	Name() string

	// Logs hands each line that the service's replicas log to line, one at a time.
	Logs(ctx context.Context, service string, o running.LogOptions, line func(r running.Replica, text string)) error

	// Restart restarts the service's replicas one after the other, each healthy before the
	// next one goes, and tells of each. It fails with a *running.UnhealthyError when one
	// does not become healthy.
	Restart(ctx context.Context, service string, timeout time.Duration) error

	// Preflight finds in a second what would fail after minutes.
	Preflight(ctx context.Context, stack stacks.Stack, o upOptions) error

	// Settle looks, before an update, for what runs without the state's knowledge or the other way
	// round; refresh says that the update has to compare the two.
	Settle(ctx context.Context, s *deploy.Session, stack stacks.Stack) (refresh bool, err error)

	// Watch follows what an update starts, until the context ends.
	Watch(ctx context.Context, stack stacks.Stack) watch

	// Foreign is the error that replicas run which the state does not know.
	Foreign(list []running.Replica) error

	// Edge opens a way to the stack's edge.
	Edge(ctx context.Context, stack stacks.Stack) (edge, error)

	// Volumes lists what outlives the stack, sorted.
	Volumes(ctx context.Context) ([]string, error)
	RemoveVolume(ctx context.Context, name string) error

	// Clear removes what was left to hold the volumes, after those were removed.
	Clear(ctx context.Context) error

	// Patient says what doctor has to know of the platform.
	Patient(ctx context.Context, p *doctor.Patient)
}

// watch is what is seen while an update goes.
type watch struct {
	// notes are what starting replicas say.
	notes <-chan progress.Note

	// fatal gets, at most once, why the update cannot succeed, however long it waits; nil
	// where that is never known.
	fatal <-chan []failure.Problem

	// step is told of every step that begins and ends; nil where nobody listens.
	step func(s progress.Step, begins bool)

	// failed says what is wrong with what Pulumi gave up by itself; nil where its
	// own errors have to do.
	failed func(ctx context.Context) []failure.Problem

	// all makes every service be judged from now on, whatever steps go on; nil where nobody judges.
	all func()
}

// edge is the way to the stack's edge.
type edge struct {
	// ask is the URL by which this process reaches it; empty when it cannot.
	ask string

	// address is the URL that people type; empty when they need hint.
	address string

	// hint says how to get an address where there is none.
	hint string

	// why says what was wrong last with the way itself; nil when nothing was, or nobody knows.
	why func() error

	// close gives back what the way takes.
	close func()
}

// explain says why the edge did not answer: what is wrong with the way to it is nearer the truth
// than what came of it.
func (e edge) explain(err error) error {
	if e.why != nil {
		if why := e.why(); why != nil {
			return why
		}
	}
	return err
}

// Close is safe on an edge that is not there.
func (e edge) Close() {
	if e.close != nil {
		e.close()
	}
}
