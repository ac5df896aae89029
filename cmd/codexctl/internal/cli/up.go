package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/modelwait"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// pollModel is the time between two questions about the model.
const pollModel = 500 * time.Millisecond

type upOptions struct {
	noWait, refresh bool
	waitTimeout     time.Duration
}

func (a *App) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [STACK]",
		Short: "Bring a stack up, or to what its settings and sources say now",
		Long: `Provisions the stack (default: dev), waits until every container is healthy and
the model can be used, and prints the address. What has not changed stays as it
is. A second run continues where an interrupted one stopped.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error { return a.up(c.Context(), stackOf(args), o) },
	}
	c.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait for the model")
	c.Flags().BoolVar(&o.refresh, "refresh", false, "compare the state with what really runs first")
	c.Flags().DurationVar(&o.waitTimeout, "wait-timeout", time.Hour, "how long the model may take; the first run downloads gigabytes")
	return c
}

func (a *App) up(ctx context.Context, name string, o upOptions) error {
	start := a.now()
	t, err := a.target(name)
	if err != nil {
		return err
	}
	settings, stack, err := t.load()
	if err != nil {
		return err
	}
	if settings.Target != stacks.Docker {
		return fmt.Errorf("%s:target: this codexctl provisions docker only, not %s: set it to docker, or remove the key", stacks.Project, settings.Target)
	}
	eng, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()
	if err := preflight(ctx, eng, stack); err != nil {
		return err
	}
	list, err := eng.Containers(ctx, stack.Name, "")
	if err != nil {
		return err
	}
	s, err := a.session(ctx, t, true)
	if err != nil {
		return a.explainError(err, t.name)
	}
	refresh := o.refresh
	if why := unexpected(list, stack); why != "" {
		if len(list) > 0 {
			a.say("%s: comparing the state with what runs first", why)
			if err := a.removeHalfMade(ctx, s, eng, list); err != nil {
				return a.explainError(err, t.name)
			}
		}
		refresh = true
	}
	watch, stop := context.WithCancel(ctx)
	result, err := s.Up(ctx, progress.New(a.err, a.now).WithNotes(starting(watch, eng, stack.Name)), refresh)
	stop()
	if err != nil {
		return a.explainUp(ctx, eng, stack, t.name, result, err)
	}
	if err := a.verify(ctx, eng, stack, t.name); err != nil {
		return err
	}
	edge := edgeURL(ctx, eng, stack)
	var model *modelwait.Status
	if !o.noWait && edge != "" {
		w := modelwait.Waiter{Client: &http.Client{}, Out: a.err, Timeout: o.waitTimeout, Every: pollModel, Now: a.now}
		m, err := w.Wait(ctx, edge)
		if err != nil {
			return a.explainModel(ctx, eng, stack, t.name, err)
		}
		model = &m
	}
	report, err := collect(ctx, eng, stack, a.now())
	if err != nil {
		return err
	}
	report.setModel(model)
	report.print(a.out)
	a.say("%s up in %s, %s", stack.Name, console.Elapsed(a.now().Sub(start)), changes(result))
	return nil
}

// lookEvery is the time between two looks at what starting containers log.
const lookEvery = 2 * time.Second

// starting tells what the containers that are not healthy yet logged last: the reason why a start takes long, such as
// modules that are downloaded, or will fail.
func starting(ctx context.Context, eng *engine.Engine, stack string) <-chan progress.Note {
	notes := make(chan progress.Note)
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			list, err := eng.Containers(ctx, stack, "")
			if err != nil {
				continue // the update itself will fail if the engine is gone
			}
			for _, c := range list {
				if c.Healthy() || c.State == "created" {
					continue
				}
				n := progress.Note{Service: c.Service}
				if lines, err := eng.LastLines(ctx, c.ID, 1); err == nil && len(lines) > 0 {
					n.Text = message(lines[0])
				}
				if c.State == "restarting" || c.Restarts > 0 {
					n.Text = failure.Condition(c) + ": " + n.Text
				}
				select {
				case notes <- n:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return notes
}

// message is what a line of a log says: of the services' JSON lines only what is for a person.
func message(line string) string {
	var record struct {
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(line), &record) != nil || record.Msg == "" {
		return line
	}
	if record.Error != "" {
		return record.Msg + ": " + record.Error
	}
	return record.Msg
}

// preflight finds in a second what would fail after minutes.
func preflight(ctx context.Context, eng *engine.Engine, stack stacks.Stack) error {
	taken, err := takenPorts(ctx, eng, stack)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range taken {
		errs = append(errs, t)
	}
	return errors.Join(errs...)
}

// unexpected says what about the running containers the state cannot know: that some were stopped or removed by something
// else, or that an update was killed while it made one. Empty when all is as it should be.
func unexpected(list []engine.Container, stack stacks.Stack) string {
	well, all := map[string]int{}, map[string]int{}
	for _, c := range list {
		all[c.Service]++
		if c.State == "running" && c.Health != "unhealthy" {
			well[c.Service]++
		}
	}
	for _, svc := range stack.Services {
		if n := well[svc.Name]; n != svc.Replicas || all[svc.Name] != n {
			return fmt.Sprintf("%s: %d of %d containers run well", svc.Name, n, max(all[svc.Name], svc.Replicas))
		}
	}
	return ""
}

// removeHalfMade removes the containers of the stack that are not in its state: a killed update made them, and they hold
// names and ports. It removes nothing when none of the containers is in the state: then they are another state's.
func (a *App) removeHalfMade(ctx context.Context, s *deploy.Session, eng *engine.Engine, list []engine.Container) error {
	known, err := s.IDs(ctx)
	if err != nil {
		return err
	}
	var orphans []engine.Container
	for _, c := range list {
		if !known[c.ID] {
			orphans = append(orphans, c)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	if len(orphans) == len(list) && !slices.ContainsFunc(list[0].Networks, func(id string) bool { return known[id] }) {
		return foreign(list)
	}
	for _, c := range orphans {
		a.say("removing %s: an update that was killed left it half-made", c.Name)
		if err := eng.RemoveContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	return s.ForgetPending(ctx)
}

// foreign is that containers of the stack run which its state does not know.
func foreign(list []engine.Container) error {
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return fmt.Errorf("state: containers of this stack run that are not in it (%s): name the backend that they were made with in PULUMI_BACKEND_URL, or remove them with `docker rm -f`",
		strings.Join(names, ", "))
}

// changes is what an update did, in a few words.
func changes(r progress.Result) string {
	if len(r.Steps) == 0 {
		return "nothing changed"
	}
	return fmt.Sprintf("%d changed, %d as before", len(merge(r.Steps)), r.Unchanged)
}

// explainUp tells what is wrong, what state things are in, and how to go on.
func (a *App) explainUp(ctx context.Context, eng *engine.Engine, stack stacks.Stack, name string, result progress.Result, err error) error {
	var e *deploy.Error
	if errors.As(err, &e) && (e.Locked || e.Interrupted) {
		return a.explainError(err, name)
	}
	problems := failure.Explain(ctx, result.Errors, eng, stack.Name, serviceNames(stack))
	if len(problems) == 0 {
		problems = []failure.Problem{{What: err.Error()}}
	}
	failure.Print(a.err, problems)
	a.whereItStands(ctx, eng, stack, name)
	return errReported
}

// whereItStands says what was made and that a second run goes on from there.
func (a *App) whereItStands(ctx context.Context, eng *engine.Engine, stack stacks.Stack, name string) {
	list, err := eng.Containers(ctx, stack.Name, "")
	if err != nil {
		return
	}
	healthy := map[string]bool{}
	for _, c := range list {
		if c.Healthy() {
			healthy[c.Service] = true
		}
	}
	if len(list) == 0 {
		a.say("No container was made. Correct it and run `codexctl up %s` again.", name)
		return
	}
	a.say("%d of %d services are up. What was made stays: `codexctl up %s` goes on from here,\n`codexctl down %s` removes it.", len(healthy), len(stack.Services), name, name)
}

// explainError tells about what is not about a service: a lock, an interrupt, a passphrase.
func (a *App) explainError(err error, name string) error {
	var e *deploy.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Locked:
		return fmt.Errorf("%w\n  wait for it; if nothing is running any more, free it:\n    eval \"$(codexctl env %s)\"; pulumi cancel --stack %s\n  and run the command again: it goes on from there", err, name, name)
	case e.Interrupted:
		a.say("interrupted: what was made stays: `codexctl up %s` goes on from here, `codexctl down %s`\nremoves it", name, name)
		return errReported
	}
	return err
}

// verify makes sure that what the state calls done is really healthy.
func (a *App) verify(ctx context.Context, eng *engine.Engine, stack stacks.Stack, name string) error {
	problems := failure.Explain(ctx, nil, eng, stack.Name, serviceNames(stack))
	list, err := eng.Containers(ctx, stack.Name, "")
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, c := range list {
		count[c.Service]++
	}
	for _, svc := range stack.Services {
		if count[svc.Name] < svc.Replicas {
			problems = append(problems, failure.Problem{Service: svc.Name,
				What: fmt.Sprintf("the state says %d containers, the engine has %d", svc.Replicas, count[svc.Name]),
				Todo: "run `codexctl up --refresh " + name + "`"})
		}
	}
	if len(problems) == 0 {
		return nil
	}
	failure.Print(a.err, problems)
	a.whereItStands(ctx, eng, stack, name)
	return errReported
}

// explainModel tells why the model cannot be used, with the logs of who makes it.
func (a *App) explainModel(ctx context.Context, eng *engine.Engine, stack stacks.Stack, name string, err error) error {
	if ctx.Err() != nil {
		a.say("interrupted while waiting for the model: the stack is up and goes on with it (`codexctl status %s`)", name)
		return errReported
	}
	p := failure.Problem{What: err.Error(), Todo: "run `codexctl up " + name + "` again when it is corrected; `codexctl logs --stack " + name + " ml` tells more"}
	if list, e := eng.Containers(ctx, stack.Name, stacks.ML); e == nil && len(list) > 0 {
		p.Service, p.Container = stacks.ML, list[0].Name
		if p.Log, e = eng.LastLines(ctx, list[0].ID, failure.LogLines); e != nil {
			p.Log = []string{e.Error()}
		}
	}
	failure.Print(a.err, []failure.Problem{p})
	a.say("The containers are up; only the model is missing.")
	return errReported
}

// edgeURL is the stack's address as the engine publishes it; empty when it publishes none.
func edgeURL(ctx context.Context, eng *engine.Engine, stack stacks.Stack) string {
	list, err := eng.Containers(ctx, stack.Name, stacks.Edge)
	if err != nil {
		return ""
	}
	for _, c := range list {
		if len(c.Ports) > 0 {
			return c.Ports[0].URL()
		}
	}
	return ""
}
