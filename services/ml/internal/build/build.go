// Package build makes the stack's custom model of its Modelfile, so that nothing ever serves a
// half-made one: `name:<digest>` is created, tried and judged by its evals first, and only then
// does `name:latest`, which requests use, become a copy of it. The versions that served before are
// kept for a rollback, three in all.
//
// What is known of a version is kept in Ollama beside it, by more names of the same content:
// `name:<digest>-passed` or `-failed` is the verdict of its evals, whose report is the last of its
// licences, and `-held` says that somebody rolled back from it. So it is known wherever the model
// is, and gone with it.
//
// A version's tag is the beginning of the digest that the plan saw, so several ml instances that
// start at once do the same work on the same names, and an instance that finds its version made and
// unaltered has nothing to do.
package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/types/model"
)

// Options say what to build.
type Options struct {
	// Name is the model's name without tag.
	Name string

	// Modelfile is its absolute path, Digest what it must digest to, Base what replaces
	// its FROM when not empty.
	Modelfile, Digest, Base string

	// Embedding is a model that makes vectors, which is put into Ollama when the own one serves.
	// Empty is none.
	Embedding string

	// Evals is what the evals beside the Modelfile must digest to. A version serves when it passes
	// them; empty has it serve when it answers at all.
	Evals string

	// Turn waits until a case of the evals may be asked; nil waits for nobody. The function that it
	// returns is called when the answer is there.
	Turn func(context.Context) (release func(), err error)

	// Again has the evals asked again, and ends a rollback.
	Again bool

	// NoDownload is set if Ollama has no way out: a base model that is not there is missing.
	NoDownload bool

	// Reach bounds how long Apply waits for an Ollama that does not answer; 0 waits for ever.
	Reach time.Duration
}

// FinalError is an error that trying again does not mend: what is wrong is in the
// Modelfile or in the plan.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }
func (e *FinalError) Unwrap() error { return e.Err }

// MissingError is the error of a base model that is not in Ollama where nothing is downloaded.
type MissingError struct{ Base string }

func (e *MissingError) Error() string {
	return mlapi.MissingText(e.Base) + ": put it there with `codexctl model import` or " +
		"`codexctl model pull`"
}

func finalf(format string, args ...any) error { return &FinalError{fmt.Errorf(format, args...)} }

var (
	versionTag = regexp.MustCompile(`^[0-9a-f]{12}$`)
	ownTag     = regexp.MustCompile(`^[0-9a-f]{12}(-(passed|failed|held))?$`)
)

// Version returns the name of the model that is made of what has the digest.
func Version(name, digest string) string { return name + ":" + short(digest) }

// Latest returns the name that requests use.
func Latest(name string) string { return name + ":latest" }

// IsVersion reports whether a model of Ollama is one of the builder's own versions, or what is
// known of one. People cannot ask them: one may not have passed.
func IsVersion(listed, name string) bool {
	tag, ok := strings.CutPrefix(listed, name+":")
	return ok && ownTag.MatchString(tag)
}

// Time bounds of one build.
const (
	// smokeTimeout bounds the first answer of a new model, which loads it: minutes for a large
	// one from a slow disk.
	smokeTimeout = 10 * time.Minute

	// smokeTokens is how many tokens the first answer may have: a model that thinks opens its
	// reasoning first.
	smokeTokens = 64

	// Attempts and pauses while another instance writes the same model.
	smokeAttempts = 3
	rewritePause  = 200 * time.Millisecond

	// Retries of a download that broke off; it continues where it was.
	pullAttempts = 5
	pullPause    = 2 * time.Second // after the first one, longer after each

	// Pauses between builds that failed.
	retryFirst, retryMax = 5 * time.Second, time.Minute

	// watchEvery is how often Run looks whether the model is still there.
	watchEvery = 15 * time.Second

	// missingEvery is how often Run looks whether a missing base model is there.
	missingEvery = time.Second
)

// Builder makes the model and knows how far it is. It is safe for concurrent use.
type Builder struct {
	opts   Options
	client *ollama.Client
	log    *slog.Logger

	// Set by New, shorter in tests.
	watch, pullPause, await time.Duration

	mu    sync.Mutex
	state mlapi.Build

	// What was last seen of the version that serves, and of the evals of the wanted one.
	serves     string
	rolledBack bool
	evals      *mlapi.EvalsSummary

	// changed is called with each new state.
	changed func(mlapi.Build)
}

// New returns a builder. changed, which may be nil, is called with each new state and must not
// block.
func New(
	opts Options, client *ollama.Client, log *slog.Logger, changed func(mlapi.Build),
) *Builder {
	if changed == nil {
		changed = func(mlapi.Build) {}
	}

	return &Builder{
		opts:      opts,
		client:    client,
		log:       log,
		changed:   changed,
		watch:     watchEvery,
		pullPause: pullPause,
		await:     awaitEvery,
		state:     mlapi.Build{Name: opts.Name, State: mlapi.BuildPending, Digest: opts.Digest},
	}
}

// State returns how far the build is.
func (b *Builder) State() mlapi.Build { b.mu.Lock(); defer b.mu.Unlock(); return b.state }

func (b *Builder) set(state, detail string, change func(*mlapi.Build)) {
	b.mu.Lock()
	previous := b.state.State
	b.state = mlapi.Build{Name: b.opts.Name, Digest: b.opts.Digest, State: state, Detail: detail,
		Serves: b.serves, RolledBack: b.rolledBack, Evals: b.evals}
	if change != nil {
		change(&b.state)
	}

	now := b.state
	b.mu.Unlock()
	if previous != state {
		b.log.Info("model",
			"name", now.Name, "state", now.State, "detail", now.Detail, "error", now.Error)
	}

	b.changed(now)
}

// Run builds the model and keeps it until ctx is done. A failed build is tried again: what it
// lacked may come. A model that is gone, because somebody deleted it or Ollama lost its volume, is
// made again; one that somebody rolled back stays as it is, also over the next start.
func (b *Builder) Run(ctx context.Context) {
	for pause := retryFirst; ; {
		err := b.Apply(ctx)
		for missed := 0; err == nil && ctx.Err() == nil; {
			if !outage.Pause(ctx, b.watch) {
				return
			}

			have, listed := b.digests(ctx)
			if listed != nil || have[Latest(b.opts.Name)] != "" {
				missed = 0
			} else if missed++; missed > 1 { // once may be the moment in which the name is given to another model
				b.log.Warn("the model is gone from Ollama: it is made again", "name", b.opts.Name)
				pause = retryFirst
				break
			}
		}

		if err == nil {
			continue
		}

		if missing, ok := errors.AsType[*MissingError](err); ok {
			if !b.awaitBase(ctx, missing.Base) {
				return
			}
			pause = retryFirst
			continue
		}

		if !outage.Pause(ctx, pause) {
			return
		}

		pause = min(2*pause, retryMax)
	}
}

// awaitBase waits until somebody has put the base model into Ollama. It reports whether it is
// there; it is not if ctx is done.
func (b *Builder) awaitBase(ctx context.Context, base string) bool {
	for outage.Pause(ctx, missingEvery) {
		if has, err := b.has(ctx, base); err == nil && has {
			return true
		}
	}
	return false
}

// awaitEvery is how often Await looks for the model, awaitTimeout bounds each look.
const awaitEvery, awaitTimeout = 2 * time.Second, 10 * time.Second

// Await watches for the model that somebody else makes, until ctx is done. lists returns the models
// of each replica of Ollama; one replica that has the version is enough. Once the version was
// there, the builder stays ready if a newer one takes its name: an update makes the model before it
// replaces ml.
func (b *Builder) Await(
	ctx context.Context, lists func(context.Context) ([][]api.ListModelResponse, error),
) {
	version, latest := Version(b.opts.Name, b.opts.Digest), Latest(b.opts.Name)
	for seen := false; ; {
		asked, cancel := context.WithTimeout(ctx, awaitTimeout)
		replicas, err := lists(asked)
		cancel()
		haveLatest, haveVersion := 0, 0
		for _, models := range replicas {
			digest := map[string]string{}
			for _, m := range models {
				digest[m.Name] = m.Digest
			}

			if digest[latest] != "" {
				haveLatest++
				if digest[latest] == digest[version] || digest[held(version)] != "" {
					haveVersion++
				}
			}
		}

		if err == nil && len(replicas) > 0 {
			b.Observe(replicas[0])
		}
		if haveVersion > 0 {
			b.recall(ctx, version)
		}

		seen = seen || haveVersion > 0
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.set(mlapi.BuildPending, "waiting for Ollama: "+err.Error(), nil)
		case seen && haveLatest > 0:
			b.set(mlapi.BuildReady, "", nil)
		default:
			b.set(mlapi.BuildPending, "waiting for the model job, which makes "+version, nil)
		}

		if !outage.Pause(ctx, b.await) {
			return
		}
	}
}

// Apply builds once: it waits for Ollama, and returns when the model can be used or why it cannot.
func (b *Builder) Apply(ctx context.Context) error {
	err := b.apply(ctx)
	if err == nil && b.opts.Embedding != "" {
		err = b.pull(ctx, b.opts.Embedding, "knowledge.embedding")
	}

	switch {
	case err == nil:
		b.set(mlapi.BuildReady, "", nil)
	case ctx.Err() == nil:
		b.set(mlapi.BuildFailed, "", func(s *mlapi.Build) {
			s.Error = err.Error()
			if missing, ok := errors.AsType[*MissingError](err); ok {
				s.Missing = missing.Base
			}
		})
	}

	return err
}

func (b *Builder) apply(ctx context.Context) error {
	dir, name := filepath.Split(b.opts.Modelfile)
	// nothing outside the Modelfile's folder can be opened through it, by no link either
	root, err := os.OpenRoot(dir)
	if err != nil {
		return finalf("MODELFILE_PATH: %w", err)
	}
	defer root.Close()

	m, err := modelfiles.Load(root.FS(), name, b.opts.Base)
	if err != nil {
		return finalf("MODELFILE_PATH: %w", err)
	}

	if m.Digest != b.opts.Digest {
		return finalf("MODELFILE_DIGEST: %s has the digest %s, but the plan was made for %s: run "+
			"`codexctl up` again",
			b.opts.Modelfile, short(m.Digest), short(b.opts.Digest))
	}

	req, err := m.Parsed.CreateRequest(dir)
	if err != nil {
		return finalf("%s: %w", name, err)
	}
	if err := b.awaitOllama(ctx); err != nil {
		return err
	}

	evals, err := b.loadEvals(root.FS(), name)
	if err != nil {
		return err
	}

	version, latest := Version(b.opts.Name, b.opts.Digest), Latest(b.opts.Name)
	before, err := b.digests(ctx)
	if err != nil {
		return fmt.Errorf("list the models: %w", err)
	}
	if b.holds(before) {
		return nil
	}

	made, err := b.unaltered(ctx, version, before, req)
	if err != nil {
		return err
	}

	serves := made && before[latest] == before[version]
	judged := b.opts.Evals == ""
	if made && !judged && !b.opts.Again {
		if judged, err = b.known(ctx, version, before[version]); err != nil {
			return err
		}
	}

	if serves && judged {
		return nil
	}

	if !made {
		if err := b.create(ctx, root, m, req, version); err != nil {
			return err
		}
	}
	if !serves {
		if err := b.smokeTest(ctx, version); err != nil {
			return err
		}
	}
	if !judged {
		if err := b.judge(ctx, version, evals); err != nil {
			return err
		}
	}

	return b.serve(ctx, version, before, made)
}

// awaitOllama waits until Ollama answers: it is started beside ml, and is restarted without asking.
func (b *Builder) awaitOllama(ctx context.Context) error {
	var last error
	if b.opts.Reach > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.opts.Reach)
		defer cancel()
	}

	stopped := func() error {
		if b.opts.Reach > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %s: %w", b.opts.Reach, cmp.Or(last, ctx.Err()))
		}
		return context.Cause(ctx)
	}

	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		_, err := b.client.Version(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return stopped()
		}

		last = err
		b.set(mlapi.BuildPending, "waiting for Ollama: "+err.Error(), nil)
		if !outage.Pause(ctx, pause) {
			return stopped()
		}
	}
}

// digests maps the name of each model that Ollama has to its digest.
func (b *Builder) digests(ctx context.Context) (map[string]string, error) {
	list, err := b.client.List(ctx)
	if err != nil {
		return nil, err
	}

	b.Observe(list)
	return digestsOf(list), nil
}

// has reports whether Ollama has the model of that name.
func (b *Builder) has(ctx context.Context, name string) (bool, error) {
	have, err := b.digests(ctx)
	return have[name] != "" || have[FullName(name)] != "", err
}

// create makes the version, downloading its base model first when it is not there.
func (b *Builder) create(
	ctx context.Context, root *os.Root, m modelfiles.Model, req *api.CreateRequest,
	version string,
) error {
	if err := b.upload(ctx, root, req); err != nil {
		return err
	}

	if req.From != "" {
		if err := b.pull(ctx, req.From, "model.base"); err != nil {
			return err
		}
	}

	b.set(mlapi.BuildCreating, "", nil)
	req.Model = version
	err := b.client.Create(ctx, req, func(p api.ProgressResponse) {
		b.set(mlapi.BuildCreating, p.Status, nil)
	})
	if err != nil {
		return fmt.Errorf("create the model %s from %s: %w", version, m.Base, err)
	}

	return nil
}

// pull downloads the model when Ollama does not have it: the base model, or another that a setting
// names.
func (b *Builder) pull(ctx context.Context, base, setting string) error {
	if has, err := b.has(ctx, base); err != nil || has {
		return err
	}
	if b.opts.NoDownload {
		return &FinalError{&MissingError{base}}
	}

	b.set(mlapi.BuildPulling, "asking the registry for "+base, nil)
	for attempt := 1; ; attempt++ {
		layers := map[string]api.ProgressResponse{}
		err := b.client.Pull(ctx,
			&api.PullRequest{Model: base, Insecure: strings.HasPrefix(base, "http://")},
			func(p api.ProgressResponse) {
				if p.Digest != "" {
					layers[p.Digest] = p
				}

				b.set(mlapi.BuildPulling, p.Status, func(s *mlapi.Build) {
					for _, l := range layers {
						s.Completed += l.Completed
						s.Total += l.Total
					}
				})
			})

		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case final(err):
			return finalf("the base model %s cannot be downloaded: %w. Set another with `pulumi "+
				"config set --path codexcontinue:%s NAME`", base, err, setting)
		case attempt == pullAttempts:
			return fmt.Errorf("the base model %s could not be downloaded in %d attempts: %w. "+
				"Check that Ollama reaches its registry; the download continues where it was",
				base, attempt, err)
		}

		b.set(mlapi.BuildPulling, fmt.Sprintf("attempt %d broke off: %v", attempt, err), nil)
		if !outage.Pause(ctx, time.Duration(attempt)*b.pullPause) {
			return context.Cause(ctx)
		}
	}
}

// final reports whether another try of a download is in vain: the registry does not know the model.
func final(err error) bool {
	var s *ollama.StatusError
	if !errors.As(err, &s) {
		return false
	}

	for _, text := range []string{
		"file does not exist", "manifest unknown", "not found", "invalid model name",
		"unauthorized",
	} {
		if strings.Contains(strings.ToLower(s.Message), text) {
			return true
		}
	}

	return s.Status >= 400 && s.Status < 500
}

// FullName returns a model's name as Ollama lists it: with its tag.
func FullName(name string) string {
	n := model.ParseName(name)
	if !n.IsValid() {
		return name
	}
	return n.DisplayShortest()
}

// smokeTest has the new model answer before anyone else asks it.
func (b *Builder) smokeTest(ctx context.Context, version string) error {
	b.set(mlapi.BuildTesting, "", nil)
	ctx, cancel := context.WithTimeoutCause(ctx, smokeTimeout,
		fmt.Errorf("no answer within %s", smokeTimeout))
	defer cancel()
	var said strings.Builder
	var err error
	for range smokeAttempts {
		said.Reset()
		err = b.client.Generate(ctx,
			&api.GenerateRequest{
				Model:   version,
				Prompt:  "Say hello.",
				Options: map[string]any{"num_predict": smokeTokens},
			},
			func(t ollama.Token) error { said.WriteString(t.Thinking + t.Text); return nil })
		if !ollama.Rewritten(err) || !outage.Pause(ctx, rewritePause) { // another instance makes the same version
			break
		}
	}

	if err != nil {
		return fmt.Errorf("the new model %s does not answer, so the one before stays in use: %w",
			version, err)
	}

	if strings.TrimSpace(said.String()) == "" {
		return fmt.Errorf("the new model %s answers with nothing, so the one before stays in "+
			"use: check TEMPLATE and PARAMETER stop",
			version)
	}

	return nil
}

func short(digest string) string { return digest[:min(mlapi.VersionLength, len(digest))] }
