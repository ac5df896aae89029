package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

const (
	// evalsTime bounds the answers to all cases together: a processor writes ten tokens a second.
	evalsTime = 20 * time.Minute

	// evalSeed makes an answer the same each time, with temperature 0.
	evalSeed = 1

	// maxAnswer bounds what is kept of an answer that failed, in bytes.
	maxAnswer = 400

	// namedFailures is how many cases an error describes.
	namedFailures = 3
)

// reportMark begins the licence that holds a report.
const reportMark = "codexcontinue evals 1 "

// EvalsError is the error of a version that does not pass its evals.
type EvalsError struct {
	Version string
	Report  mlapi.Evals

	// Serves is the version that goes on serving, or empty.
	Serves string
}

func (e *EvalsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the version %s does not pass its evals, %d of %d failed: ", e.Version,
		len(e.Report.Failures), e.Report.Total)
	for i, f := range e.Report.Failures {
		if i == namedFailures {
			fmt.Fprintf(&b, "; and %d more", len(e.Report.Failures)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}

		fmt.Fprintf(&b, "%q", f.Name)
		if f.Safety {
			b.WriteString(" (safety)")
		}
		b.WriteString(" " + strings.Join(f.Wrong, ", "))
	}

	if e.Serves == "" {
		b.WriteString(". There is no version before it, so none serves")
	} else {
		fmt.Fprintf(&b, ". The version %s serves as before", e.Serves)
	}

	b.WriteString(". `codexctl model list STACK` shows the answers")
	return b.String()
}

// loadEvals reads the evals beside the Modelfile, which have to be those of the plan.
func (b *Builder) loadEvals(fsys fs.FS, name string) (modelfiles.Evals, error) {
	if b.opts.Evals == "" {
		return modelfiles.Evals{}, nil
	}

	e, err := modelfiles.LoadEvals(fsys, name)
	if err != nil {
		return e, finalf("EVALS_DIGEST: %w", err)
	}
	if e.Digest != b.opts.Evals {
		return e, finalf("EVALS_DIGEST: %s has the digest %s, but the plan was made for %s: run "+
			"`codexctl up` again", modelfiles.EvalsFile, short(e.Digest), short(b.opts.Evals))
	}

	return e, nil
}

// known reports whether the version, which is of this content, has passed the evals of the plan.
// It returns an *EvalsError if it has failed them.
func (b *Builder) known(ctx context.Context, version, content string) (bool, error) {
	r, err := b.report(ctx, version)
	if err != nil || r == nil || r.Digest != b.opts.Evals || r.Model != content {
		return false, err
	}

	b.remember(r)
	if len(r.Failures) > 0 {
		return false, b.failed(version, *r)
	}

	return true, nil
}

func (b *Builder) failed(version string, r mlapi.Evals) error {
	_, tag, _ := strings.Cut(version, ":")
	e := &EvalsError{Version: tag, Report: r, Serves: b.State().Serves}
	return &FinalError{e}
}

// remember keeps what is known of the evals of the wanted version.
func (b *Builder) remember(r *mlapi.Evals) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.evals = r.Summary()
	b.state.Evals = b.evals
}

// recall looks for what is known of the evals of the wanted version, unless it is known.
func (b *Builder) recall(ctx context.Context, version string) {
	b.mu.Lock()
	done := b.evals != nil
	b.mu.Unlock()
	if done || b.opts.Evals == "" {
		return
	}

	if r, err := b.report(ctx, version); err == nil && r != nil && r.Digest == b.opts.Evals {
		b.remember(r)
	}
}

// Report returns what came of the last evals of the version, or nil if it is not known.
func (b *Builder) Report(ctx context.Context, version string) (*mlapi.Evals, error) {
	return b.report(ctx, b.opts.Name+":"+version)
}

func (b *Builder) report(ctx context.Context, version string) (*mlapi.Evals, error) {
	for _, name := range verdicts(version) {
		show, err := b.client.Show(ctx, name)
		if ollama.NotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at the model %s: %w", name, err)
		}

		i := strings.LastIndex(show.License, reportMark)
		if i < 0 {
			continue
		}

		var r mlapi.Evals
		text := show.License[i+len(reportMark):]
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&r); err == nil {
			return &r, nil
		}
	}

	return nil, nil
}

// judge asks the version the evals and keeps the report. It returns an *EvalsError if one fails.
func (b *Builder) judge(
	ctx context.Context, version string, evals modelfiles.Evals,
) error {
	r, err := b.ask(ctx, version, evals)
	if err != nil {
		return err
	}

	have, err := b.keep(ctx, version, r)
	if err != nil {
		return err
	}

	b.remember(&r)
	if len(r.Failures) == 0 {
		return nil
	}

	// Of those that failed only the last one is of use.
	list := Releases(have, b.opts.Name, b.opts.Digest)
	for _, other := range list {
		if other.Verdict == mlapi.VerdictFailed && !other.Wanted && !other.Serves {
			b.forget(ctx, b.opts.Name+":"+other.Version, digestsOf(have))
		}
	}

	return b.failed(version, r)
}

// keep stores the report beside the version, and returns the models that Ollama then has.
func (b *Builder) keep(
	ctx context.Context, version string, r mlapi.Evals,
) ([]api.ListModelResponse, error) {
	list, err := b.client.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the models: %w", err)
	}

	b.Observe(list)
	have := digestsOf(list)
	r.Model = have[version]
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}

	notes := verdicts(version)
	verdict, other := notes[0], notes[1]
	if len(r.Failures) > 0 {
		verdict, other = other, verdict
	}

	err = b.client.Create(ctx, &api.CreateRequest{
		Model: verdict, From: version, License: []string{reportMark + string(text)},
	}, func(api.ProgressResponse) {})
	if err != nil {
		return nil, fmt.Errorf("keep the report of the evals as %s: %w", verdict, err)
	}
	if have[other] != "" {
		b.remove(ctx, other)
	}

	list, err = b.client.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the models: %w", err)
	}

	return list, nil
}

// Keep stores a report that was made elsewhere of the same version.
func (b *Builder) Keep(ctx context.Context, version string, r mlapi.Evals) error {
	_, err := b.keep(ctx, b.opts.Name+":"+version, r)
	return err
}

// Eval asks a version that Ollama has the evals, and keeps the report.
func (b *Builder) Eval(ctx context.Context, version string) (mlapi.Evals, error) {
	dir, name := filepath.Split(b.opts.Modelfile)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return mlapi.Evals{}, finalf("MODELFILE_PATH: %w", err)
	}
	defer root.Close()

	evals, err := b.loadEvals(root.FS(), name)
	if err != nil {
		return mlapi.Evals{}, err
	}
	if len(evals.Cases) == 0 {
		return mlapi.Evals{}, finalf("this stack has no evals: see codexcontinue:model.evals")
	}

	r, err := b.ask(ctx, b.opts.Name+":"+version, evals)
	if err != nil {
		return r, err
	}

	return r, b.Keep(ctx, version, r)
}

// errTime ends an answer when the time of all is over.
var errTime = errors.New("the time for evals is over")

// ask asks the cases one after the other.
func (b *Builder) ask(
	ctx context.Context, version string, evals modelfiles.Evals,
) (mlapi.Evals, error) {
	r := mlapi.Evals{Digest: evals.Digest, Total: len(evals.Cases), At: time.Now().UTC()}
	spent := time.Duration(0)
	for i, c := range evals.Cases {
		b.set(mlapi.BuildTesting, fmt.Sprintf("eval %d of %d: %s", i+1, len(evals.Cases), c.Name),
			nil)

		answer, took, err := b.answer(ctx, version, c, evalsTime-spent)
		spent += took
		wrong := c.Judge(answer)
		switch {
		case errors.Is(err, errTime):
			wrong = []string{fmt.Sprintf("not answered: all take longer than %s", evalsTime)}
		case err != nil:
			return r, fmt.Errorf("the new model %s does not answer the eval %q: %w", version,
				c.Name, err)
		}

		if len(wrong) == 0 {
			r.Passed++
			continue
		}

		f := mlapi.EvalFailure{Name: c.Name, Safety: c.Safety, Wrong: wrong, Answer: cut(answer)}
		r.Failures = append(r.Failures, f)
		b.log.Warn("eval failed", "version", version, "name", f.Name, "safety", f.Safety,
			"wrong", strings.Join(wrong, ", "), "answer", f.Answer)
	}

	r.Seconds = spent.Round(time.Millisecond).Seconds()
	return r, nil
}

// answer returns the version's answer to the case, and how long it took from its turn on.
func (b *Builder) answer(
	ctx context.Context, version string, c modelfiles.Case, left time.Duration,
) (string, time.Duration, error) {
	if left <= 0 {
		return "", 0, errTime
	}

	if b.opts.Turn != nil {
		release, err := b.opts.Turn(ctx)
		if err != nil {
			return "", 0, err
		}
		defer release()
	}

	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, left, errTime)
	defer cancel()
	var said strings.Builder
	var err error
	for range smokeAttempts {
		said.Reset()
		err = b.client.Chat(ctx, &api.ChatRequest{
			Model:    version,
			Messages: []api.Message{{Role: "user", Content: c.Prompt}},
			Options: map[string]any{
				"temperature": 0, "seed": evalSeed, "num_predict": c.Tokens,
			},
		}, func(t ollama.Token) error { said.WriteString(t.Text); return nil })
		if !ollama.Rewritten(err) || !outage.Pause(ctx, rewritePause) {
			break
		}
	}

	return said.String(), time.Since(start), err
}

// cut returns the beginning of an answer.
func cut(answer string) string {
	answer = strings.TrimSpace(answer)
	if len(answer) <= maxAnswer {
		return answer
	}
	return strings.ToValidUTF8(answer[:maxAnswer], "") + "..."
}
