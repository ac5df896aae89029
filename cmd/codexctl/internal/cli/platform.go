package cli

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// platform is the engine or cluster that a stack runs on: onEngine or onCluster.
type platform interface {
	// Source lists the replicas and returns the last lines of their logs.
	failure.Source
	io.Closer

	// Name returns the platform's name in a sentence, such as "the engine".
	Name() string

	// Logs calls line for each line that the service's replicas log, one at a time.
	Logs(ctx context.Context, service string, o running.LogOptions, line running.Line) error

	// Exec runs a command inside a replica and returns its exit code and output.
	Exec(ctx context.Context, in running.Replica, command []string) (
		code int, output string, err error)

	// Stream runs a command inside a replica, with the streams, and returns its exit code.
	Stream(ctx context.Context, in running.Replica, command []string, s running.Streams) (
		code int, err error)

	// RunOnce runs the command in a container or pod of its own that is like the replica, with the
	// streams, and returns its exit code.
	RunOnce(ctx context.Context, like running.Replica, o running.Once, s running.Streams) (
		code int, err error)

	// OneOffs lists what runs a command once, the oldest first.
	OneOffs(ctx context.Context) ([]running.OneOff, error)
	RemoveOneOff(ctx context.Context, x running.OneOff) error

	// Lock makes h the holder of the stack's lock, unless there is one, and returns who it is then.
	Lock(ctx context.Context, h running.Holder) (running.Holder, error)

	// Holder returns who holds the lock, and whether somebody does. Unlock removes it if it is h's.
	Holder(ctx context.Context) (h running.Holder, held bool, err error)
	Unlock(ctx context.Context, h running.Holder) error

	// Restart restarts the service's replicas one after the other, each healthy before the next one
	// goes, and calls restarted for each. It returns a *running.UnhealthyError when one does not
	// become healthy.
	Restart(ctx context.Context, service string, timeout time.Duration,
		restarted func(name string, took time.Duration)) error

	// Preflight finds at once what would make an update fail after minutes.
	Preflight(ctx context.Context, stack stacks.Stack, o upOptions) error

	// Settle looks, before an update, for differences between the state and what runs. It reports
	// whether the update has to refresh the state.
	Settle(ctx context.Context, s *deploy.Session, stack stacks.Stack) (refresh bool, err error)

	// Watch begins to watch the services that an update starts, until the context ends.
	Watch(ctx context.Context, stack stacks.Stack) watch

	// Foreign returns the error for replicas that run but are not in the state.
	Foreign(list []running.Replica) error

	// Edge opens a way to the stack's edge.
	Edge(ctx context.Context, stack stacks.Stack) (edge, error)

	// Volumes lists the volumes, which outlive the stack, sorted.
	Volumes(ctx context.Context) ([]string, error)
	RemoveVolume(ctx context.Context, name string) error

	// Clear removes what held the volumes, after they were removed.
	Clear(ctx context.Context) error

	// Patient fills in what doctor examines of the platform.
	Patient(ctx context.Context, p *doctor.Patient)
}

// watch is what a platform observes while an update or a wait goes on.
type watch struct {
	// run calls note with what starting replicas log or wait for, until the context ends. It
	// returns earlier, with why, if the update cannot succeed however long it waits.
	run func(ctx context.Context, note func(running.Note)) []failure.Problem

	// step is called when a step of the update begins and when it ends. It may be nil.
	step func(s progress.Step, begins bool)

	// failed returns what is wrong with the workloads whose steps Pulumi reports as failed. It is
	// nil where Pulumi's own errors say enough.
	failed func(ctx context.Context) []failure.Problem

	// beginAll makes the platform judge every service from now on, whatever steps
	// go on. It may be nil.
	beginAll func()
}

// edge is how the stack's edge can be reached.
type edge struct {
	// url is the address at which this process reaches the edge; "" if it cannot.
	url string

	// client asks there.
	client *http.Client

	// address is the URL for people; "" if there is none and hint says how to get one.
	address string

	// hint tells people how to get an address.
	hint string

	// lastErr returns the last error of the way to the edge, or nil. It may be nil itself.
	lastErr func() error

	// close releases what the way to the edge uses. It may be nil.
	close func()
}

// explain returns why the edge did not answer: the error of the way to it if there is one, as it
// is the cause, or err.
func (e edge) explain(err error) error {
	if e.lastErr != nil {
		if why := e.lastErr(); why != nil {
			return why
		}
	}
	return err
}

// Close releases the way to the edge. It may be called on the zero value.
func (e edge) Close() {
	if e.close != nil {
		e.close()
	}
}
