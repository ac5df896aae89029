package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// releaseCommands are those on the versions of a stack's model.
func (a *App) releaseCommands() []*cobra.Command {
	var asJSON bool
	list := &cobra.Command{
		Use:   "list STACK",
		Short: "List the versions of the stack's model, and which serves",
		Long: `Lists the versions of the stack's model that its Ollama has, the last one first, with
what came of their evals, and what the version that the Modelfile makes answered where
it failed.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.listReleases(c.Context(), args[0], asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	apply := &cobra.Command{
		Use:   "apply STACK",
		Short: "Have the version that the Modelfile makes serve",
		Long: `Makes the version of the Modelfile where it is missing, asks its evals again, and has
it serve if it passes. It ends a rollback. A Modelfile that has changed since the last
up comes into the stack by "up".`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.applyRelease(c.Context(), args[0])
		},
	}

	eval := &cobra.Command{
		Use:   "eval STACK [VERSION]",
		Short: "Ask a version its evals, without having it serve",
		Long: `Asks the version that serves, or another one, the evals beside the Modelfile, one case
after the other, and prints what it answered where it failed. They take places of
Ollama beside those who ask, without waiting for a turn. The verdict is kept: a version
that has passed can be gone back to.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.evalRelease(c.Context(), args[0], args[1:], asJSON)
		},
	}
	eval.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	rollback := &cobra.Command{
		Use:   "rollback STACK [VERSION]",
		Short: "Have an earlier version serve, until the Modelfile changes",
		Long: `Has an earlier version of the model serve at once, the one before unless another is
named. Every replica of Ollama has to be there. Answers that are being written end as
they began. It stays so over restarts and "up", until the Modelfile or its base changes,
or "model apply".`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.rollbackRelease(c.Context(), args[0], args[1:])
		},
	}

	one := exactly(1, "name the stack")
	oneOrTwo := func(c *cobra.Command, args []string) error {
		if len(args) == 2 {
			return nil
		}
		return one(c, args)
	}
	list.Args, apply.Args, eval.Args, rollback.Args = one, one, oneOrTwo, oneOrTwo
	return []*cobra.Command{list, apply, eval, rollback}
}

// maker is a container of the service that makes the model.
type maker struct {
	platform platform
	replica  running.Replica
	program  string
	stack    stacks.Stack
	name     string // the stack's, as people write it
}

// withMaker calls do with the service that makes the model of the stack: with the last container
// of it that runs, as an update may go on.
func (a *App) withMaker(
	ctx context.Context, name string, writes bool, do func(m maker) error,
) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	service := stack.Service(stacks.ML)
	if service == nil {
		return fmt.Errorf("stack %s has no %s", t.file.Name, stacks.ML)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	if _, ok := p.(*onCluster); ok && writes {
		if err := ownVolumes(stack); err != nil {
			return err
		}
	}

	list, err := t.replicas(ctx, p, stacks.ML)
	if err != nil {
		return err
	}

	list = slices.DeleteFunc(list, func(r running.Replica) bool {
		return r.StartedAt.IsZero() || !r.Healthy && r.State == "exited"
	})
	if len(list) == 0 {
		return fmt.Errorf("%s of stack %s does not run: `codexctl up %s`", stacks.ML, t.file.Name,
			t.name)
	}

	last := slices.MaxFunc(list, func(a, b running.Replica) int {
		return a.StartedAt.Compare(b.StartedAt)
	})
	return do(maker{p, last, service.Health.Command[0], stack, t.name})
}

// ownVolumes returns an error for replicas of Ollama that only read what others write.
func ownVolumes(stack stacks.Stack) error {
	for _, v := range stack.Volumes {
		if v.Name == stacks.OllamaData && v.Shared {
			return fmt.Errorf("%s:volumes.%s.shared: the replicas of Ollama only read the volume, "+
				"so only `codexctl up` changes the model: go back by the Modelfile",
				stacks.Project, v.Name)
		}
	}
	return nil
}

// run runs ml's command with the words, and returns what it prints.
func (m maker) run(ctx context.Context, words ...string) (string, error) {
	line := append([]string{m.program, "model"}, words...)
	code, output, err := m.platform.Exec(ctx, m.replica, line)
	if err != nil || code == 0 {
		return output, err
	}

	_, last, ok := strings.Cut("\n"+output, "\n"+stacks.ML+": ")
	if !ok {
		last = output
	}

	return "", errors.New(strings.ReplaceAll(last, " STACK", " "+m.name))
}

// ask runs ml's command with the words, and returns what it prints as JSON.
func (m maker) ask(ctx context.Context, words ...string) (status.Releases, error) {
	output, err := m.run(ctx, words...)
	if err != nil {
		return status.Releases{}, err
	}

	var r status.Releases
	if err := json.Unmarshal([]byte(output), &r); err != nil {
		return r, fmt.Errorf("%s prints no JSON: %w", m.replica.Name, err)
	}

	return r, nil
}

// rollback has an earlier version serve, if every replica of Ollama that the stack has is there.
func (m maker) rollback(ctx context.Context, args []string) (status.Releases, error) {
	words := []string{"rollback"}
	if o := m.stack.Service(stacks.Ollama); o != nil && o.Replicas > 1 {
		words = append(words, "--replicas", fmt.Sprint(o.Replicas))
	}
	return m.ask(ctx, append(words, args...)...)
}

func (a *App) listReleases(ctx context.Context, name string, asJSON bool) error {
	return a.withMaker(ctx, name, false, func(m maker) error {
		r, err := m.ask(ctx, "list")
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(a.out, r)
		}

		a.printReleases(r)
		if r.Evals != nil {
			a.printFailures(*r.Evals)
		}
		if text := drift(status.Model{Digest: r.Digest}, m.stack.Model.Digest); text != "" {
			a.say("%s", text)
		}

		return nil
	})
}

// printReleases prints a table of the versions, for each Ollama unless all have the same.
func (a *App) printReleases(r status.Releases) {
	same := true
	for _, other := range r.Replicas[1:] {
		same = same && slices.EqualFunc(other.Releases, r.Replicas[0].Releases, sameRelease)
	}

	for i, replica := range r.Replicas {
		if same && i > 0 {
			break
		}
		if !same {
			a.out.Printf("ollama at %s", replica.Address)
		}

		rows := [][]string{{"VERSION", "SINCE", "EVALS", ""}}
		for _, v := range replica.Releases {
			rows = append(rows, []string{v.Version, console.Age(a.now().Sub(v.Since)),
				cmp.Or(v.Verdict, "not asked"), roles(v)})
		}

		a.out.Table(rows, func(y, x int) console.Paint {
			switch {
			case y == 0:
				return console.Dim
			case x == 2 && rows[y][x] == status.VerdictFailed:
				return console.Red
			}
			return ""
		})
	}

	if len(r.Replicas[0].Releases) == 0 {
		a.say("there is no version of %s yet", r.Name)
	}
}

// sameRelease reports whether two are the same but for when they were made.
func sameRelease(a, b status.Release) bool {
	a.Since = b.Since
	return a == b
}

// roles says what a version is there for.
func roles(v status.Release) string {
	var out []string
	for _, x := range []struct {
		is   bool
		text string
	}{
		{v.Serves, "serves"},
		{v.Wanted, "what the Modelfile makes"},
		{v.Held, "rolled back from"},
	} {
		if x.is {
			out = append(out, x.text)
		}
	}

	return strings.Join(out, ", ")
}

// printFailures prints what came of evals, with the answers that failed.
func (a *App) printFailures(e status.Evals) {
	a.out.Printf("%d of %d evals passed", e.Passed, e.Total)
	for _, f := range e.Failures {
		name := f.Name
		if f.Safety {
			name += " (safety)"
		}

		a.out.Hanging("  "+name+": ", console.Plain(strings.Join(f.Wrong, ", ")))
		a.out.Hanging("    it says: ", console.Plain(f.Answer))
	}
}

func (a *App) applyRelease(ctx context.Context, name string) error {
	return a.withMaker(ctx, name, true, func(m maker) error {
		release, err := a.lock(ctx, m.platform, m.name, "model apply")
		if err != nil {
			return err
		}
		defer release()

		r, err := m.ask(ctx, "list")
		if err != nil {
			return err
		}

		model := m.stack.Model
		if r.Digest != model.Digest || r.EvalsDigest != model.Evals {
			return fmt.Errorf("%s or its %s has changed since the last up: `codexctl up %s` "+
				"brings it into the stack", model.Modelfile, modelfiles.EvalsFile, m.name)
		}

		a.say("making the version %s, which may take minutes", version(model.Digest))
		words := []string{"apply", "--again"}
		if n := len(r.Replicas); n > 1 {
			words = append(words, "--replicas", fmt.Sprint(n))
		}
		if _, err := m.run(ctx, words...); err != nil {
			return err
		}

		a.out.Printf("the version %s serves", version(model.Digest))
		return nil
	})
}

func (a *App) evalRelease(ctx context.Context, name string, args []string, asJSON bool) error {
	return a.withMaker(ctx, name, true, func(m maker) error {
		a.say("asking the evals, one after the other, which may take minutes")
		r, err := m.ask(ctx, append([]string{"eval"}, args...)...)
		if err != nil {
			return err
		}
		if r.Evals == nil {
			return fmt.Errorf("%s says nothing of evals", m.replica.Name)
		}

		if asJSON {
			err = writeJSON(a.out, r)
		} else {
			a.out.Printf("version %s", r.Version)
			a.printFailures(*r.Evals)
		}

		if err == nil && len(r.Evals.Failures) > 0 {
			err = errReported
		}

		return err
	})
}

func (a *App) rollbackRelease(ctx context.Context, name string, args []string) error {
	return a.withMaker(ctx, name, true, func(m maker) error {
		release, err := a.lock(ctx, m.platform, m.name, "model rollback")
		if err != nil {
			return err
		}
		defer release()

		r, err := m.rollback(ctx, args)
		if err != nil {
			return err
		}

		if r.From == "" {
			a.out.Printf("the version %s serves on, and %s does not", r.Version, version(r.Digest))
		} else {
			a.out.Printf("the version %s serves, no longer %s", r.Version, r.From)
		}
		if r.Version != version(r.Digest) {
			a.say("it stays so until the Modelfile changes, or `codexctl model apply %s`", m.name)
		}

		return nil
	})
}

// version returns that of the model with the digest.
func version(digest string) string { return digest[:min(len(digest), status.VersionLength)] }

// drift says how the model differs from the Modelfile with the digest, if it does. The digest is
// empty if the settings are not valid.
func drift(m status.Model, digest string) string {
	switch made := version(m.Digest); {
	case digest != "" && m.Digest != "" && m.Digest != digest:
		return fmt.Sprintf("the Modelfile makes the version %s, and the last up was with %s",
			version(digest), made)
	case m.RolledBack:
		return fmt.Sprintf("the version %s serves, rolled back from %s", m.Serves, made)
	case m.Serves != "" && made != "" && m.Serves != made:
		return fmt.Sprintf("the version %s serves, not yet %s", m.Serves, made)
	}
	return ""
}
