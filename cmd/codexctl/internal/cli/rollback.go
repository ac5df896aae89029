package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

type rollbackOptions struct {
	up           upOptions
	preview, end bool
	yes          bool
}

func (a *App) rollbackCommand() *cobra.Command {
	var o rollbackOptions
	c := &cobra.Command{
		Use:   "rollback STACK [N]",
		Short: "Go back to an earlier release: its images, settings and model",
		Long: `Makes the stack what it was at the number N of "history", by default at the last up
that succeeded and differs. It shows what that changes, asks, writes it into the
settings file, and runs "up". Secrets, the edge if it had another certificate, and
backups stay as they are. So it stays until --end: then images and model are again what
the sources make, and the settings as they stand.

It changes nothing where a release since has written data that the earlier one cannot
read, or where an image or a version of the model is gone. An image is made again from
the commit that "history" shows:

  git worktree add ../earlier REVISION
  make -C ../earlier build
  ../earlier/bin/codexctl -C ../earlier images build STACK

or by "images push" with a registry, "images load" on a cluster without one.`,
		Args: rollbackArgs,
		RunE: func(c *cobra.Command, args []string) error {
			number := 0
			if len(args) == 2 {
				number, _ = strconv.Atoi(args[1])
			}
			if o.end && number > 0 {
				return usageError{errors.New("--end goes back to nothing: leave out the number")}
			}
			return a.rollback(c.Context(), args[0], number, o)
		},
	}

	f := c.Flags()
	f.BoolVar(&o.preview, "preview", false, "show what it would do, and change nothing")
	f.BoolVar(&o.end, "end", false, "have the images and the model that the sources make again")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	o.up.flags(f)
	return c
}

// rollbackArgs accepts a stack and a number of its history.
func rollbackArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return usageError{fmt.Errorf("name the stack, and a number of its history: see `%s --help`",
			c.CommandPath())}
	}

	if len(args) == 2 {
		if n, err := strconv.Atoi(args[1]); err != nil || n < 1 {
			return usageError{fmt.Errorf("%q is no number of the history: see `codexctl history %s`",
				args[1], args[0])}
		}
	}

	return nil
}

func (a *App) rollback(ctx context.Context, name string, number int, o rollbackOptions) error {
	if !o.preview && !o.yes && !a.asks() {
		return usageError{errors.New("a rollback changes what runs and the settings, and there is no " +
			"terminal to ask on: add --yes, or --preview to see what it would do")}
	}

	t, s, err := a.everUp(ctx, name)
	if err != nil {
		return err
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	dir, err := os.MkdirTemp("", "codexctl-rollback-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	var after target
	if o.end {
		after, err = a.ended(ctx, t, s, dir)
	} else {
		after, err = a.asEarlier(ctx, t, s, p, number, o.up.load, dir)
	}
	if err != nil {
		return err
	}

	if err := a.showRollback(ctx, t, after, p, o.up); err != nil || o.preview {
		return err
	}

	if !o.yes && !a.typed(fmt.Sprintf("Change %s and the stack? Type yes: ",
		filepath.Base(t.file.Path)), "yes") {
		return errors.New("nothing was changed")
	}

	if o.up.release, err = a.lock(ctx, p, t.name, "rollback"); err != nil {
		return err
	}
	defer o.up.release()

	if err := replaceSettings(t, after.from); err != nil {
		return err
	}

	a.say("%s: written", t.file.Path)
	// The model goes first where it can, in a moment: nothing then tries to make another serve.
	now, err := a.target(name)
	if err == nil {
		err = a.serveEarlier(ctx, now)
	}
	if err != nil {
		a.say("%v; that is tried again after the up", err)
	}

	if err := a.up(ctx, name, o.up); err != nil {
		a.say("%[1]s is written, and the stack is not all that it says: `codexctl up %[2]s` goes on.\n"+
			"To have it as before, `git checkout %[1]s`, if it was committed, and `codexctl up %[2]s`.",
			t.file.Path, name)
		return err
	}

	a.say("%s is part of what the stack is now: keep it.", t.file.Path)
	switch {
	case o.up.noWait:
		a.say("The model was not waited for: the next `codexctl up %s` has the version serve that "+
			"belongs to it.", name)
	case o.end:
		return a.releaseHeld(ctx, name)
	}

	return nil
}

// asEarlier returns the target with the settings that make the stack what it was, in a file in dir.
func (a *App) asEarlier(
	ctx context.Context, t target, s *deploy.Session, p platform, number int, load bool, dir string,
) (target, error) {
	list, err := s.History(ctx)
	if err != nil {
		return target{}, a.explainError(err, t.name)
	}

	to, err := earlier(list, number)
	if err != nil {
		return target{}, fmt.Errorf("stack %s: %w", t.file.Name, err)
	}
	to = sourced(list, to)
	if err := readable(list, to); err != nil {
		return target{}, err
	}
	if n := unrecorded(list, to); len(n) > 0 {
		a.say("since %d another program than codexctl made it what it is (%s), which does not record the "+
			"formats of data: look whether the images of %[1]d can read what was stored", to.Number,
			strings.Join(n, ", "))
	}

	if to, err = s.WithServices(ctx, list, to); err != nil {
		return target{}, a.explainError(err, t.name)
	}
	defaults, err := program.ReadConfigFrom(t.project.Root, t.file.Name, os.DevNull)
	if err != nil {
		return target{}, err
	}

	e := editsBack(t.file.Config, defaults, to)
	e.remove = append(e.remove, rollbackKey) // until its images are known
	after, stack, err := t.with(e, defaults)
	if err := samePlace(t, after, to); err != nil {
		return target{}, err
	}
	if err != nil {
		return target{}, fmt.Errorf("the settings of %d are none of these sources: %w", to.Number, err)
	}

	// The model comes back by its version, unless the Modelfile makes that with those settings.
	model, version, _ := strings.Cut(to.Release.Model, ":")
	if !makes(stack, model, version) {
		e = e.without(modelKey)
		if _, stack, err = t.with(e, defaults); err != nil {
			return target{}, err
		}
		if err := a.versionThere(ctx, t, stack, model, version, to); err != nil {
			return target{}, err
		}
	}

	images, err := a.earlierImages(ctx, t, stack, p, to, load)
	if err != nil {
		return target{}, err
	}

	text, err := json.Marshal(map[string]any{
		"to": to.Number, "revision": to.Release.Revision, "images": images, "model": version,
	})
	if err != nil {
		return target{}, err
	}

	e = e.without(rollbackKey)
	e.set[rollbackKey] = string(text)
	if _, _, err := t.with(e, defaults); err != nil {
		return target{}, err
	}

	a.printRelease(list, to)
	for _, key := range slices.Sorted(maps.Keys(e.stays)) {
		a.out.Printf("  setting %s stays as it is: %s", key, e.stays[key])
	}
	return a.edited(ctx, t, s, e, dir)
}

// ended returns the target with the settings of a stack that is what its sources say.
func (a *App) ended(ctx context.Context, t target, s *deploy.Session, dir string) (target, error) {
	back, err := t.rolledBack()
	if err != nil {
		return target{}, err
	}
	if back == nil {
		return target{}, fmt.Errorf("stack %s is what its sources say: %s is not set", t.file.Name,
			rollbackKey)
	}

	return a.edited(ctx, t, s, edits{remove: []string{rollbackKey}}, dir)
}

// with returns the target and its stack with the edited settings, of which nothing is written.
func (t target) with(e edits, defaults program.Config) (target, stacks.Stack, error) {
	t.file.Config = e.of(t.file.Config, defaults)
	_, stack, err := t.load()
	return t, stack, err
}

// edited returns the target with the edited settings, which it writes to a file in dir.
func (a *App) edited(
	ctx context.Context, t target, s *deploy.Session, e edits, dir string,
) (target, error) {
	b, err := os.ReadFile(t.file.Path)
	if err != nil {
		return target{}, err
	}

	t.from = filepath.Join(dir, filepath.Base(t.file.Path))
	if err := os.WriteFile(t.from, b, 0o600); err != nil {
		return target{}, err
	}

	set := maps.Clone(e.set)
	if _, ok := set[deploy.Services]; ok {
		set[deploy.Services], err = program.Config{Plain: set, Secret: t.file.Config.Secret}.Services()
		if err != nil {
			return target{}, err
		}
	}
	if err := s.Edit(ctx, t.from, set, e.remove); err != nil {
		return target{}, a.explainError(err, t.name)
	}

	t.file.Config, err = program.ReadConfigFrom(t.project.Root, t.file.Name, t.from)
	return t, err
}

// samePlace returns an error for a release that was somewhere else: a rollback moves no data.
func samePlace(now, then target, to deploy.Update) error {
	a, err := now.place()
	if err != nil {
		return err
	}

	b, err := then.place()
	if err != nil {
		return err
	}

	type where struct{ target, context, namespace, domain string }
	of := func(s stacks.Settings) where {
		return where{string(s.Target), s.Kubernetes.Context, s.Kubernetes.Namespace, s.Kubernetes.Domain}
	}
	if of(a) != of(b) {
		return fmt.Errorf("%d was on another target or cluster than the stack is now, where its data "+
			"is: set %s:target and %[2]s:kubernetes by hand and run up, if you mean to move it",
			to.Number, stacks.Project)
	}

	has, err := now.database()
	if err != nil {
		return err
	}
	had, err := then.database()
	if err != nil {
		return err
	}
	if has != had {
		return fmt.Errorf("%d kept what people write in %s, and the stack does in %s now: a rollback "+
			"moves no data: set %s:redis by hand and run up, if you mean to leave it", to.Number, had,
			has, stacks.Project)
	}

	return nil
}

// database says which Redis the stack has, without how it signs in there.
func (t target) database() (string, error) {
	plain, _ := t.file.Config.Own()
	s, err := stacks.DecodeSettings(map[string]string{"redis": cmp.Or(plain["redis"], "{}")}, nil)
	if err != nil {
		return "", err
	}
	if s.Redis == nil || s.Redis.URL == "" {
		return "its own Redis", nil
	}

	at, err := url.Parse(s.Redis.URL)
	if err != nil {
		return "", fmt.Errorf("%s:redis.url: %w", stacks.Project, err)
	}
	hosts := []string{at.Host}
	if list := slices.Concat(s.Redis.Sentinels, s.Redis.Cluster); len(list) > 0 {
		hosts = slices.Sorted(slices.Values(list)) // they take the place of the URL's
	}
	return fmt.Sprintf("the Redis %s%s/%s", strings.Join(hosts, ","),
		strings.TrimSuffix(" "+s.Redis.Master, " "),
		cmp.Or(strings.Trim(at.Path, "/"), "0")), nil
}

// makes reports whether the stack's Modelfile makes the version of the model.
func makes(stack stacks.Stack, model, of string) bool {
	return stack.Model.Name == model && version(stack.Model.Digest) == of
}

// printRelease prints the release to go back to, and which of its images differ from those of the
// last up.
func (a *App) printRelease(list []deploy.Update, to deploy.Update) {
	a.out.Printf("back to %d of %s, made by %s from %s", to.Number,
		to.Start.Local().Format("2006-01-02 15:04"), console.Plain(to.Release.By),
		console.Plain(to.Release.Revision))

	now := deploy.Release{}
	if i := slices.IndexFunc(list, isRelease); i >= 0 {
		now = *list[i].Release
	}

	for _, name := range slices.Sorted(maps.Keys(to.Release.Images)) {
		if had, has := now.Images[name], to.Release.Images[name]; had != has {
			a.out.Printf("  image of %s: %s, now %s", name, console.Plain(has),
				console.Plain(cmp.Or(had, "none")))
		}
	}

	if now.Model != to.Release.Model {
		a.out.Printf("  model: %s, now %s", console.Plain(to.Release.Model), console.Plain(now.Model))
	}
}

// showRollback prints the settings that change and what up will do with them. It refuses what the
// policy forbids and what could not come up.
func (a *App) showRollback(
	ctx context.Context, now, after target, p platform, o upOptions,
) error {
	a.printSettings(now.file.Config, after.file.Config)
	planned, err := plan.Of(ctx, after.project.Root, after.file.Name,
		plan.OfOptions{File: after.from})
	if err != nil {
		return err
	}
	if err := a.refuseViolations(planned); err != nil {
		return err
	}

	_, stack, err := after.load()
	if err != nil {
		return err
	}
	if err := p.Preflight(ctx, stack, o); err != nil {
		return err
	}

	s, err := a.session(ctx, after, false)
	if err != nil {
		return a.explainError(err, after.name)
	}

	result, err := s.PreviewOf(ctx, progress.Quiet(a.err, a.now), after.from)
	if err != nil {
		if problems := failure.Explain(ctx, result.Errors, nil, after.name,
			serviceNames(stack)); len(problems) > 0 {
			failure.Print(a.err, problems)
			return errReported
		}
		return a.explainError(err, after.name)
	}

	changes := merge(result.Steps)
	printPlan(a.out, changes)
	a.say("%s", summary(changes, result.Unchanged))
	return nil
}

// printSettings prints the settings that differ, one by one also where they are of one key.
func (a *App) printSettings(now, then program.Config) {
	have, was := leaves(now), leaves(then)
	keys := slices.Concat(slices.Collect(maps.Keys(have)), slices.Collect(maps.Keys(was)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if have[key] != was[key] {
			a.out.Printf("  setting %s: %s, now %s", key, console.Plain(cmp.Or(was[key], "not set")),
				console.Plain(cmp.Or(have[key], "not set")))
		}
	}

	if len(now.Secret) > 0 {
		a.out.Printf("  secrets stay as they are: %s",
			strings.Join(slices.Sorted(maps.Keys(now.Secret)), ", "))
	}
}

// leaves returns the values of the config that are no objects, by their paths. That of rollbackKey is
// left out: printRelease says it better.
func leaves(c program.Config) map[string]string {
	out := map[string]string{}
	var add func(path, text string)
	add = func(path, text string) {
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &object) != nil || object == nil {
			if s := ""; json.Unmarshal([]byte(text), &s) == nil {
				text = s
			}
			out[path] = text
			return
		}
		for key, value := range object {
			add(path+"."+key, string(value))
		}
	}

	for key, value := range c.Plain {
		if key != rollbackKey {
			add(key, value)
		}
	}
	return out
}

// replaceSettings puts what is in the file in the place of the stack's settings, as a whole, unless
// somebody has changed them meanwhile.
func replaceSettings(t target, file string) error {
	now, err := t.project.Stack(t.name)
	if err != nil {
		return err
	}
	if !maps.Equal(now.Config.Plain, t.file.Config.Plain) ||
		!maps.Equal(now.Config.Secret, t.file.Config.Secret) {
		return fmt.Errorf("%s: somebody has changed it meanwhile: run the command again", t.file.Path)
	}

	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return replaceFile(t.file.Path, b)
}

// checkRollback looks, before an up that has an earlier release's images, whether they are there and
// read what is stored. It completes what the history will have of it, and reports whether the stack
// is rolled back.
func (a *App) checkRollback(
	ctx context.Context, t target, s *deploy.Session, p platform, stack stacks.Stack,
	made *deploy.Release,
) (bool, error) {
	back, err := t.rolledBack()
	if err != nil || back == nil {
		return false, err
	}

	list, err := s.History(ctx)
	if err != nil {
		return true, a.explainError(err, t.name)
	}

	a.say("images and model are those of %d (%s), not what the sources make: `codexctl rollback "+
		"--end %s` ends that", back.To, back.Revision, t.name)
	i := slices.IndexFunc(list, func(u deploy.Update) bool {
		return u.Number == back.To && isRelease(u) && sourced(list, u).Release.Revision == back.Revision
	})
	if i < 0 {
		a.say("%s: this state has no such release, so nobody knows whether its images read what is "+
			"stored", rollbackKey)
	} else {
		if err := readable(list, list[i]); err != nil {
			return true, err
		}
		made.Rollback = back.To
		for name := range back.Images {
			if _, ok := made.Data[name]; ok {
				made.Data[name] = format(list[i].Release, name)
			}
		}
	}

	return true, a.keptImages(ctx, stack, p, back.Revision)
}

// offerRollback returns the error of an up that failed, once it has said how to go back.
func (a *App) offerRollback(
	ctx context.Context, s *deploy.Session, name string, err error,
) error {
	if !errors.Is(err, errReported) || ctx.Err() != nil {
		return err
	}

	list, failed := s.History(ctx)
	if failed != nil {
		return err // what the up failed with counts
	}
	if to, none := earlier(list, 0); none == nil {
		a.say("`codexctl rollback %s` goes back to %d of %s.", name, to.Number,
			to.Start.Local().Format("2006-01-02 15:04"))
	}

	return err
}
