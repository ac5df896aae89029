package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

// keepVersions is how many versions stay: the one that serves, and those to roll back to.
const keepVersions = 3

// What a name adds to a version's.
const (
	heldNote = "-held"

	verdictNotes = 2 // of a version: -passed and -failed
)

// held returns the name that says that somebody rolled back from the version.
func held(version string) string { return version + heldNote }

// verdicts returns the names of which one says what came of the version's evals.
func verdicts(version string) [verdictNotes]string {
	return [verdictNotes]string{
		version + "-" + mlapi.VerdictPassed, version + "-" + mlapi.VerdictFailed,
	}
}

func digestsOf(list []api.ListModelResponse) map[string]string {
	out := make(map[string]string, len(list))
	for _, m := range list {
		out[m.Name] = m.Digest
	}
	return out
}

// Releases returns the versions of the model in the list, the last one first. The wanted one is
// that of the digest.
func Releases(list []api.ListModelResponse, name, digest string) []mlapi.Release {
	have := digestsOf(list)
	wanted, latest := Version(name, digest), have[Latest(name)]
	out := []mlapi.Release{}
	for _, m := range list {
		tag, ok := strings.CutPrefix(m.Name, name+":")
		if !ok || !versionTag.MatchString(tag) {
			continue
		}

		r := mlapi.Release{
			Version: tag,
			Since:   m.ModifiedAt,
			Wanted:  m.Name == wanted,
			Serves:  m.Digest == latest,
			Held:    have[held(m.Name)] != "",
		}
		for i, verdict := range []string{mlapi.VerdictPassed, mlapi.VerdictFailed} {
			if have[verdicts(m.Name)[i]] != "" {
				r.Verdict = verdict
			}
		}

		out = append(out, r)
	}

	slices.SortFunc(out, func(a, b mlapi.Release) int { return b.Since.Compare(a.Since) })
	return out
}

// Observe keeps which version serves, as of the models that an Ollama has.
func (b *Builder) Observe(list []api.ListModelResponse) {
	serves := ""
	for _, r := range Releases(list, b.opts.Name, b.opts.Digest) {
		// Two versions may be the same model: then the wanted one serves.
		if r.Serves && (serves == "" || r.Wanted) {
			serves = r.Version
		}
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.serves = serves
	b.rolledBack = serves != "" && serves != short(b.opts.Digest) &&
		digestsOf(list)[held(Version(b.opts.Name, b.opts.Digest))] != ""
	b.state.Serves, b.state.RolledBack = b.serves, b.rolledBack
}

// holds reports whether the wanted version is not to serve because somebody rolled back from it.
func (b *Builder) holds(have map[string]string) bool {
	return !b.opts.Again && have[Latest(b.opts.Name)] != "" &&
		have[held(Version(b.opts.Name, b.opts.Digest))] != ""
}

// serve has the version answer. Made reports whether it was there already.
func (b *Builder) serve(
	ctx context.Context, version string, before map[string]string, made bool,
) error {
	now, err := b.digests(ctx)
	if err != nil {
		return fmt.Errorf("list the models: %w", err)
	}
	if b.holds(now) { // since the evals began
		return nil
	}

	latest := Latest(b.opts.Name)
	if now[latest] != now[version] || now[latest] == "" {
		if err := b.client.Copy(ctx, version, latest); err != nil {
			return fmt.Errorf("name the new model: %w", err)
		}
	}

	// A rollback ends with the next version that serves.
	for name := range now {
		if tag, ok := strings.CutPrefix(name, b.opts.Name+":"); ok && ownTag.MatchString(tag) &&
			strings.HasSuffix(tag, heldNote) {
			b.remove(ctx, name)
		}
	}

	if made && before[latest] != before[version] {
		// The order of the versions is that in which they began to serve.
		if err := b.client.Copy(ctx, latest, version); err != nil {
			return fmt.Errorf("name the version again: %w", err)
		}
	}

	b.prune(ctx, version, before)
	return nil
}

// prune deletes old versions, with what is known of them. This one stays, the one that latest was
// before, and of the others that did not fail the last ones. It deletes none if latest stays what
// it was: then the one to roll back to is not known. It only logs a failure.
func (b *Builder) prune(ctx context.Context, version string, before map[string]string) {
	list, err := b.client.List(ctx)
	if err != nil {
		b.log.Warn("old versions of the model were not deleted", "error", err)
		return
	}

	b.Observe(list)
	after, previous := digestsOf(list), before[Latest(b.opts.Name)]
	if previous == after[version] {
		return
	}

	all := Releases(list, b.opts.Name, b.opts.Digest)
	kept := 0
	stays := func(r mlapi.Release) bool {
		name := b.opts.Name + ":" + r.Version
		return name == version || previous != "" && after[name] == previous
	}
	for _, r := range all {
		if stays(r) {
			kept++
		}
	}

	for _, r := range all {
		switch {
		case stays(r):
		case r.Verdict != mlapi.VerdictFailed && kept < keepVersions:
			kept++
		default:
			b.forget(ctx, b.opts.Name+":"+r.Version, after)
		}
	}
}

// forget deletes a version and what is known of it.
func (b *Builder) forget(ctx context.Context, version string, have map[string]string) {
	b.remove(ctx, version)
	for _, name := range verdicts(version) {
		if have[name] != "" {
			b.remove(ctx, name)
		}
	}
}

// remove takes a name away. It only logs a failure.
func (b *Builder) remove(ctx context.Context, name string) {
	if err := b.client.Delete(ctx, name); err != nil && !ollama.NotFound(err) {
		b.log.Warn("an old version of the model was not deleted", "name", name, "error", err)
	}
}

// Releases returns the versions that Ollama has, the last one first.
func (b *Builder) Releases(ctx context.Context) ([]mlapi.Release, error) {
	list, err := b.client.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the models: %w", err)
	}
	return Releases(list, b.opts.Name, b.opts.Digest), nil
}

// ErrServes is the error of a version to go back to that serves.
var ErrServes = errors.New("it serves already")

// Earlier returns the version to which Rollback goes: the one that is named, or the last one
// before the one that serves from which nobody rolled back. It returns an error unless that one
// may serve: where there are evals it has to have passed some. One that serves is gone back to where
// the Modelfile makes another, such as one that failed, which is to be held.
func (b *Builder) Earlier(all []mlapi.Release, version string) (mlapi.Release, error) {
	may := func(r mlapi.Release) bool {
		return r.Verdict == mlapi.VerdictPassed ||
			r.Verdict == "" && b.opts.Evals == ""
	}

	isServing := func(r mlapi.Release) bool { return r.Serves }
	holds := slices.ContainsFunc(all, func(r mlapi.Release) bool { return r.Wanted && r.Held })
	older := !slices.ContainsFunc(all, isServing) // than what serves: any, where nothing does
	var there []string
	for _, r := range all {
		there = append(there, r.Version)
		older = older || r.Serves
		switch {
		case version == "" && older && !r.Serves && !r.Held && may(r):
			return r, nil
		case version != r.Version:
		case r.Serves && !r.Wanted && !holds:
			return r, nil
		case r.Serves:
			return r, fmt.Errorf("the version %s: %w", version, ErrServes)
		case may(r):
			return r, nil
		case r.Verdict == mlapi.VerdictFailed:
			return r, fmt.Errorf("the version %s failed its evals, so it cannot serve", version)
		default:
			return r, fmt.Errorf("the version %s has not passed evals, so it cannot serve: "+
				"`codexctl model eval STACK %s` asks them", version, version)
		}
	}

	if version == "" {
		return mlapi.Release{}, errors.New("there is no earlier version that may serve: see " +
			"`codexctl model list STACK`")
	}

	return mlapi.Release{}, fmt.Errorf("there is no version %s: there are %s", version,
		strings.Join(there, ", "))
}

// Rollback has the version serve, which Ollama has, until the Modelfile changes. Answers that are
// being written are not touched: Ollama has opened their model already.
func (b *Builder) Rollback(ctx context.Context, version string) error {
	to, wanted := b.opts.Name+":"+version, Version(b.opts.Name, b.opts.Digest)
	if to != wanted {
		// Before it serves, so that nobody takes the name back.
		if err := b.client.Copy(ctx, to, held(wanted)); err != nil {
			return fmt.Errorf("hold the version %s: %w", wanted, err)
		}
	}

	if err := b.client.Copy(ctx, to, Latest(b.opts.Name)); err != nil {
		if to != wanted {
			b.remove(context.WithoutCancel(ctx), held(wanted))
		}
		return fmt.Errorf("have the version %s serve: %w", version, err)
	}

	if to == wanted {
		b.remove(ctx, held(wanted))
	}

	return nil
}
