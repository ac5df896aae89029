package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// versionThere returns an error if the version of the model cannot serve. Where nobody can be asked,
// as ml does not run, it says so: that may be what is to be put right.
func (a *App) versionThere(
	ctx context.Context, t target, stack stacks.Stack, model, of string, to deploy.Update,
) error {
	if stack.Model.Name != model {
		return fmt.Errorf("%s: the model of %d was called %s: set that name by hand, and run up",
			modelKey, to.Number, model)
	}

	var all status.Releases
	err := a.withMaker(ctx, t.name, false, func(m maker) (err error) {
		all, err = m.ask(ctx, "list")
		return err
	})
	if err != nil {
		a.say("whether the version %s of the model is still there cannot be asked: %v", of, err)
		return nil
	}

	for _, replica := range all.Replicas {
		i := slices.IndexFunc(replica.Releases, func(r status.Release) bool { return r.Version == of })
		switch {
		case i < 0:
			return fmt.Errorf("the version %s of the model is no longer in Ollama at %s: have its "+
				"Modelfile back, `git checkout %s -- %s`, and run the command again", of, replica.Address,
				to.Release.Revision, stack.Model.Modelfile)
		case replica.Releases[i].Verdict == status.VerdictFailed:
			return fmt.Errorf("the version %s of the model has failed its evals since: `codexctl model "+
				"list %s`", of, t.name)
		}
	}

	if servesEverywhere(all, of) {
		return nil
	}
	if place, err := t.place(); err == nil && place.Target == stacks.Kubernetes {
		return ownVolumes(stack)
	}

	return nil
}

// serveEarlier has the version of the model serve that an earlier release had, and holds the one that
// the Modelfile makes, unless it is so. It waits for an up that brings another Modelfile or setting.
func (a *App) serveEarlier(ctx context.Context, t target) error {
	back, err := t.rolledBack()
	if err != nil || back == nil || back.Model == "" {
		return err
	}

	err = a.withMaker(ctx, t.name, false, func(m maker) error {
		r, err := m.ask(ctx, "list")
		if err != nil || r.Digest != m.stack.Model.Digest || keepsTo(r, back.Model) {
			return err
		}
		if _, ok := m.platform.(*onCluster); ok {
			if err := ownVolumes(m.stack); err != nil {
				return err
			}
		}

		now, err := m.rollback(ctx, []string{back.Model})
		if err == nil && now.From != "" {
			a.say("the version %s of the model serves, no longer %s", now.Version, now.From)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the version of the model that belongs to %d does not serve yet: %w: try "+
			"`codexctl model rollback %s %s`", back.To, err, t.name, back.Model)
	}

	return nil
}

// keepsTo reports whether the version serves everywhere and goes on to: it is the one that the
// Modelfile makes, or that one is held.
func keepsTo(r status.Releases, of string) bool {
	return servesEverywhere(r, of) && (of == version(r.Digest) ||
		!slices.ContainsFunc(r.Replicas, func(at status.Replica) bool {
			return !slices.ContainsFunc(at.Releases, func(v status.Release) bool {
				return v.Wanted && v.Held
			})
		}))
}

// releaseHeld has the version of the model serve that the Modelfile makes, where somebody has rolled
// back from it.
func (a *App) releaseHeld(ctx context.Context, name string) error {
	held := false
	err := a.withMaker(ctx, name, false, func(m maker) error {
		r, err := m.ask(ctx, "list")
		held = err == nil && !servesEverywhere(r, version(r.Digest))
		return err
	})
	if err != nil || !held {
		return err
	}

	return a.applyRelease(ctx, name)
}

// servesEverywhere reports whether the version serves in every replica.
func servesEverywhere(r status.Releases, version string) bool {
	return !slices.ContainsFunc(r.Replicas, func(at status.Replica) bool {
		return !slices.ContainsFunc(at.Releases, func(v status.Release) bool {
			return v.Version == version && v.Serves
		})
	})
}
