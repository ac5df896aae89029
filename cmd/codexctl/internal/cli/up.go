package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/modelwait"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// pollModel is the time between two requests for the state of the model.
const pollModel = 500 * time.Millisecond

type upOptions struct {
	noWait, refresh bool
	waitTimeout     time.Duration

	// load puts the images into the cluster first; into names the tool, as of images load.
	load bool
	into string

	// release gives back the lock that the caller has taken; nil has up take it.
	release func()
}

func (a *App) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [STACK]",
		Short: "Bring a stack up, or to what its settings and sources say now",
		Long: `Provisions the stack (default: dev), waits until every container is healthy and
the model can be used, and prints the address. What has not changed stays as it
is. A second run continues where an interrupted one stopped. A stack that breaks
a rule of "policy" is refused before anything is made.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.up(c.Context(), stackOf(args), o)
		},
	}

	o.flags(c.Flags())
	return c
}

func (o *upOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait for the model, and go on without its base")
	f.BoolVar(&o.refresh, "refresh", false, "compare the state with what really runs first")
	f.BoolVar(&o.load, "load", false,
		"on a cluster without a registry: put the images into it first (see codexctl images load)")
	f.StringVar(&o.into, "into", "",
		"how --load puts them there: kind, k3d, minikube or containerd[=SOCKET]")
	f.DurationVar(&o.waitTimeout, "wait-timeout", time.Hour,
		"how long the model may take; the first run downloads gigabytes")
}

func (a *App) up(ctx context.Context, name string, o upOptions) error {
	start := a.now()
	if err := a.holdPolicy(ctx, name); err != nil {
		return err
	}

	t, stack, p, err := a.open(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	if err := p.Preflight(ctx, stack, o); err != nil {
		return a.goesOn(ctx, p, t.name, o, err)
	}

	if !o.noWait {
		if err := a.requireModels(ctx, t, p, stack); err != nil {
			return err
		}
	}

	if o.load {
		if err := a.loadImages(ctx, name, o.into); err != nil {
			return a.goesOn(ctx, p, t.name, o, err)
		}
	}

	release := o.release
	if release == nil {
		if release, err = a.lock(ctx, p, t.name, "up"); err != nil {
			return err
		}
	}
	defer release()

	ended := a.configuring(ctx, t, stack, p)
	defer ended(auditlog.Failed)

	s, err := a.session(ctx, t, true)
	if err != nil {
		return a.explainError(err, t.name)
	}

	if err := a.removeOneOffs(ctx, p, a.left); err != nil {
		return err
	}

	refresh, err := p.Settle(ctx, s, stack)
	if err != nil {
		return a.explainError(err, t.name)
	}

	if err := a.provideImages(ctx, t, s, stack); err != nil {
		return err
	}

	made, err := a.release(ctx, t, stack)
	if err != nil {
		return err
	}
	made.NoWait = o.noWait
	rolledBack, err := a.checkRollback(ctx, t, s, p, stack, &made)
	if err != nil {
		return err
	}

	result, problems, err := a.update(ctx, s, p, stack, made, refresh || o.refresh)
	if err != nil && ctx.Err() == nil {
		// The Job that makes the model fails for a replica that was added without its base.
		copied, e := a.copyModels(ctx, t, p, stack)
		if e != nil {
			a.say("no model was copied to the replicas of Ollama: %v", e)
		}
		if copied {
			if refresh, err = p.Settle(ctx, s, stack); err != nil {
				return a.explainError(err, t.name)
			}
			result, problems, err = a.update(ctx, s, p, stack, made, refresh)
		}
	}
	if err != nil {
		return a.offerRollback(ctx, s, t.name,
			a.explainUp(ctx, p, stack, t.name, result, problems, err))
	}
	noted := false
	if !o.noWait { // without a wait the history says so anyway
		// Until more is known, as it may be killed before.
		noted = a.note(ctx, s, made, deploy.NotAwaited)
	}
	if err := a.verify(ctx, p, stack, t.name); err != nil {
		if errors.Is(err, errReported) { // a look that fails tells nothing
			a.note(ctx, s, made, deploy.Unhealthy)
		}
		return a.offerRollback(ctx, s, t.name, err)
	}

	ended(auditlog.Done) // whether or not the model can be used

	a.stateAfterUp(ctx, t, stack, s, p)

	if !rolledBack {
		release() // what follows changes nothing; in a rollback it may change the model's version
	}
	way, err := p.Edge(ctx, stack)
	if err != nil {
		return err
	}
	defer way.Close()

	var model *status.Status
	if !o.noWait {
		m, cameOf, problems, err := a.awaitModel(ctx, p, stack, way, o.waitTimeout)
		_, failed := errors.AsType[*modelwait.FailedError](err)
		switch {
		case len(problems) > 0:
			a.note(ctx, s, made, cameOf)
			return a.offerRollback(ctx, s, t.name, a.notUp(ctx, p, stack, t.name, problems))
		case failed && rolledBack && a.serveEarlier(ctx, t) == nil:
			cameOf = deploy.Succeeded // what the Modelfile makes may fail where an earlier one serves
		case err != nil:
			a.note(ctx, s, made, cameOf)
			return a.offerRollback(ctx, s, t.name, a.explainModel(ctx, p, stack, t.name, err))
		default:
			model = m
		}

		if err := a.serveEarlier(ctx, t); err != nil {
			a.note(ctx, s, made, deploy.ModelNotReady)
			return err
		}
		if noted && cameOf == deploy.Succeeded {
			a.awaited(ctx, s, made)
		}
	}

	report, err := collect(ctx, p, stack, way, a.now())
	if err != nil {
		return err
	}

	report.setModel(model, stack.Model.Digest)
	report.print(a.out)
	a.say("%s up in %s, %s", stack.Name, console.Elapsed(a.now().Sub(start)), changes(result))
	a.sayWhoIsFirst(ctx, t, p, stack)
	a.sayFirewall(ctx, t, p, stack)
	return nil
}

// goesOn returns the error of an up that came before it changed anything, once it has said that what
// runs of the stack is as it was. There is nothing to roll back. Of a caller that holds the lock it
// says nothing: by then a rollback may have had another version of the model serve.
func (a *App) goesOn(
	ctx context.Context, p platform, name string, o upOptions, err error,
) error {
	if o.release != nil {
		return err
	}
	if list, e := p.Replicas(ctx, ""); e == nil && len(list) > 0 {
		a.say("Nothing that runs was changed: stack %s goes on as it was.", name)
	}
	return err
}

// sayFirewall says that a private stack on an engine wants lines of the machine's firewall, unless
// they are known to be there.
func (a *App) sayFirewall(ctx context.Context, t target, p platform, stack stacks.Stack) {
	e, ok := p.(*onEngine)
	if !ok {
		return
	}
	for _, f := range doctor.Firewall(ctx, e.Engine, filepath.SplitList(a.getenv("PATH")), stack) {
		if f.Fix != "" {
			a.say("the edge reaches programs of the engine's machine unless that has two lines in its "+
				"firewall: `codexctl doctor %s` prints them", t.name)
		}
	}
}

// runWatched calls wait, and note with what the platform observes meanwhile. It cancels the context
// of both when the platform finds that wait cannot succeed, and then returns why as problems.
func runWatched(
	ctx context.Context, p platform, stack stacks.Stack,
	note func(ctx context.Context, n running.Note),
	wait func(ctx context.Context, seen watch) error,
) (problems []failure.Problem, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	seen := p.Watch(ctx, stack)
	done := make(chan struct{})
	go func() {
		defer close(done)
		problems = seen.run(ctx, func(n running.Note) { note(ctx, n) })
		if len(problems) > 0 {
			stop(pulumicli.ErrHopeless)
		}
	}()

	err = wait(ctx, seen)
	var late []failure.Problem
	if err != nil && ctx.Err() == nil && seen.failed != nil {
		late = seen.failed(ctx)
	}

	stop(nil)
	<-done
	switch {
	case err == nil:
		return nil, nil
	case len(problems) == 0:
		return late, err
	}

	return problems, err
}

// update runs Pulumi's update. If the platform stopped it, problems say why.
func (a *App) update(
	ctx context.Context, s *deploy.Session, p platform, stack stacks.Stack, made deploy.Release,
	refresh bool,
) (result progress.Result, problems []failure.Problem, err error) {
	notes := make(chan running.Note)
	note := func(ctx context.Context, n running.Note) {
		select {
		case notes <- n:
		case <-ctx.Done():
		}
	}

	problems, err = runWatched(ctx, p, stack, note,
		func(ctx context.Context, seen watch) (err error) {
			result, err = s.Up(ctx, progress.New(a.err, a.now).WithNotes(notes).OnStep(seen.step),
				made, refresh)
			return err
		})

	return result, problems, err
}

// awaitModel waits until the model can be used, and returns what came of the up, as the history has it.
// It gives up, with problems, when the service that makes it cannot come up. Where this process has no
// way to the edge it sees no model, and says so.
func (a *App) awaitModel(
	ctx context.Context, p platform, stack stacks.Stack, way edge, timeout time.Duration,
) (model *status.Status, cameOf string, problems []failure.Problem, err error) {
	if way.url == "" {
		a.say("nobody waits for the model: this machine has no way to the edge, which says how it is")
		return nil, deploy.NotAwaited, nil, nil
	}

	var last status.Status
	note := func(context.Context, running.Note) {} // the model's progress is shown
	problems, err = runWatched(ctx, p, stack, note,
		func(ctx context.Context, seen watch) (err error) {
			if seen.beginAll != nil {
				seen.beginAll()
			}

			w := modelwait.Waiter{
				Client:  way.client,
				Out:     a.err,
				Timeout: timeout,
				Every:   pollModel,
				Now:     a.now,
			}

			last, err = w.Wait(ctx, way.url)
			return err
		})

	_, late := errors.AsType[*modelwait.TimeoutError](err)
	switch {
	case len(problems) > 0:
		return nil, deploy.Unhealthy, problems, err
	case err == nil:
		return &last, deploy.Succeeded, nil, nil
	case late || ctx.Err() != nil: // it may be ready yet
		return nil, deploy.NotAwaited, nil, err
	}
	return nil, deploy.ModelNotReady, nil, err
}

// changes summarizes an update in a few words.
func changes(r progress.Result) string {
	if len(r.Steps) == 0 {
		return "nothing changed"
	}
	return fmt.Sprintf("%d changed, %d as before", len(merge(r.Steps)), r.Unchanged)
}

// explainUp prints what is wrong, what state the stack is in, and how to go on. seen are the
// problems for which the update was stopped.
func (a *App) explainUp(
	ctx context.Context, p platform, stack stacks.Stack, name string, result progress.Result,
	seen []failure.Problem, err error,
) error {
	var e *deploy.Error
	if errors.As(err, &e) && (e.Locked || e.Interrupted) {
		return a.explainError(err, name)
	}

	problems := seen
	if len(seen) == 0 {
		problems = failure.Explain(ctx, result.Errors, p, name, serviceNames(stack))
	}
	if len(problems) == 0 {
		problems = []failure.Problem{{What: err.Error()}}
	}

	return a.notUp(ctx, p, stack, name, problems)
}

// notUp prints the problems, what was made, and that a second run goes on from there.
func (a *App) notUp(
	ctx context.Context, p platform, stack stacks.Stack, name string, problems []failure.Problem,
) error {
	failure.Print(a.err, withMissingModel(problems, name))
	list, err := p.Replicas(ctx, "")
	if err != nil {
		return errReported
	}

	healthy := map[string]bool{}
	for _, r := range list {
		if r.Healthy {
			healthy[r.Service] = true
		}
	}

	if len(list) == 0 {
		a.say("No container was made. Correct it and run `codexctl up %s` again.", name)
	} else {
		a.say("%d of %d services are up. What was made stays: `codexctl up %s` goes on from here,\n"+
			"`codexctl down %s` removes it.",
			len(healthy), len(stack.Services), name, name)
	}

	return errReported
}

// explainError explains an error that concerns no service: a lock or an interrupt.
func (a *App) explainError(err error, name string) error {
	var e *deploy.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Locked:
		return fmt.Errorf("%w\n  wait for it; if nothing is running any more, free it:\n"+
			"    codexctl unlock --force %s\n"+
			"  and run the command again: it goes on from there", err, name)
	case e.Interrupted:
		a.say("interrupted: what was made stays: `codexctl up %s` goes on from here, `codexctl "+
			"down %s`\nremoves it",
			name, name)
		return errReported
	}

	return err
}

// verify returns an error if something that the state calls done is not healthy.
func (a *App) verify(ctx context.Context, p platform, stack stacks.Stack, name string) error {
	problems := failure.Explain(ctx, nil, p, name, serviceNames(stack))
	list, err := p.Replicas(ctx, "")
	if err != nil {
		return err
	}

	count := map[string]int{}
	for _, r := range list {
		count[r.Service]++
	}

	for _, svc := range stack.Services {
		if count[svc.Name] < svc.Replicas {
			problems = append(problems, failure.Problem{
				Service: svc.Name,
				What: fmt.Sprintf("the state says %d containers, %s has %d", svc.Replicas,
					p.Name(), count[svc.Name]),
				Todo: "run `codexctl up --refresh " + name + "`",
			})
		}
	}

	if len(problems) == 0 {
		return nil
	}

	return a.notUp(ctx, p, stack, name, problems)
}

// explainModel prints why the model cannot be used, with the log of the service that makes it.
func (a *App) explainModel(
	ctx context.Context, src failure.Source, stack stacks.Stack, name string, err error,
) error {
	if ctx.Err() != nil {
		a.say("interrupted while waiting for the model: the stack is up and goes on with it "+
			"(`codexctl status %s`)",
			name)
		return errReported
	}

	if failed, ok := errors.AsType[*modelwait.FailedError](err); ok && failed.Model.Missing != "" {
		failure.Print(a.err, []failure.Problem{missingModel(failed.Model.Missing, name)})
		a.say("The containers are up; only the model is missing.")
		return errReported
	}

	p := failure.Problem{
		What: err.Error(),
		Todo: "run `codexctl up " + name +
			"` again when it is corrected; `codexctl logs --stack " + name + " ml` tells more",
	}

	if list, e := src.Replicas(ctx, stacks.ML); e == nil && len(list) > 0 {
		p.Service = stacks.ML
		p.AddLog(ctx, src, list[0])
	}

	failure.Print(a.err, []failure.Problem{p})
	a.say("The containers are up; only the model is missing.")
	return errReported
}
