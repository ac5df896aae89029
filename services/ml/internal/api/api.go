// Package api is the ml service's HTTP API, as services/internal/mlapi describes it.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/meter"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/ollama/ollama/api"
)

// Options are what the API works with.
type Options struct {
	Ollama  *replicas.Pool
	Queue   *queue.Queue
	Builder *build.Builder

	// Meter counts what people use; nil counts nothing.
	Meter *meter.Meter

	// Await is set if somebody else makes the model. Then the service is not ready before exactly
	// the wanted version is there.
	Await        bool
	DefaultModel string

	// Models say who may ask which model.
	Models contract.Models

	// Embedding is the full name of the model that knowledge may ask for itself, whomever it is
	// for; empty is none.
	Embedding string

	// Timeout bounds one answer, from its turn on. Silence bounds the time between two tokens
	// where no tools are given.
	Timeout, Silence time.Duration

	// Patience is how long a request that has its turn waits for an Ollama that cannot be reached.
	Patience time.Duration

	// KeepAlive is how long Ollama keeps the model in memory; negative for ever.
	KeepAlive time.Duration
	Log       *slog.Logger
}

// maxBody bounds a request in bytes: a long conversation, or a batch of texts to embed.
const maxBody = 8 << 20

// listEvery is how often Ollama is asked which models it has: a name may stand for another model,
// and what is known of the default one is to be there before its first request.
const listEvery = 5 * time.Second

// listTimeout bounds the question which models there are: Ollama reads a few files for it.
const listTimeout = 10 * time.Second

// service is the API at work.
type service struct {
	Options
	metrics *metrics
	catalog *prompt.Catalog

	mu       sync.Mutex
	names    map[string]string      // the digests of the models that Ollama was last seen to have
	contexts map[string]seenContext // by the digest, as Ollama last loaded it
}

// Register adds the routes to the server. The function that it returns keeps up with what Ollama
// has until its context is done.
func Register(srv *server.Server, o Options) (watch func(context.Context)) {
	s := &service{Options: o, metrics: newMetrics(srv.Registry(), o.Queue, o.Ollama),
		catalog: prompt.NewCatalog(o.Ollama, o.Log), contexts: map[string]seenContext{}}
	srv.HandleFunc("GET /models", s.models)
	srv.HandleFunc("POST /chat", s.chat)
	srv.HandleFunc("POST /generate", s.generate)
	srv.HandleFunc("POST /embed", s.embed)
	srv.Liveness("/health")
	srv.Readiness("/ready", map[string]server.Check{"ollama": s.checkOllama, "model": s.checkModel})
	return s.watch
}

func (s *service) checkOllama(ctx context.Context) error {
	_, err := s.Ollama.Version(ctx)
	return err
}

// checkModel wants some version of the default model: while a new one is made,
// the one before answers.
func (s *service) checkModel(ctx context.Context) error {
	list, err := s.list(ctx)
	if err != nil {
		return err
	}
	if st := s.Builder.State(); s.Await && st.State != mlapi.BuildReady {
		return fmt.Errorf("the model %s is not there yet: %s", s.DefaultModel, st.Detail)
	}

	latest := build.Latest(s.DefaultModel)
	if slices.ContainsFunc(list, func(m api.ListModelResponse) bool { return m.Name == latest }) {
		return nil
	}

	switch st := s.Builder.State(); st.State {
	case mlapi.BuildFailed:
		return fmt.Errorf("the model %s could not be made: %s", s.DefaultModel, st.Error)
	case mlapi.BuildReady:
		return fmt.Errorf("the model %s is gone from Ollama and will be made again", s.DefaultModel)
	default:
		return fmt.Errorf("the model %s is being made: %s", s.DefaultModel, st.State)
	}
}

// models answers with what can be chosen. While Ollama is away there is nothing to choose,
// and the build says why.
func (s *service) models(w http.ResponseWriter, r *http.Request) {
	list, err := s.list(r.Context())
	if err != nil {
		s.Log.WarnContext(r.Context(), "list models", "error", err)
	} else {
		s.Builder.Observe(list)
	}

	out := mlapi.Models{Models: []mlapi.ModelInfo{}, Build: s.Builder.State()}

	loaded := map[string]bool{}
	if running, err := s.Ollama.Running(r.Context()); err == nil {
		for _, m := range running {
			loaded[m.Digest] = true
		}
	}

	for _, m := range list {
		if build.IsVersion(m.Name, s.DefaultModel) || !s.shows(r.Context(), m.Name) {
			continue
		}

		out.Models = append(out.Models, mlapi.ModelInfo{
			Name:          shortName(m.Name),
			Digest:        m.Digest,
			SizeBytes:     m.Size,
			Modified:      m.ModifiedAt,
			Family:        m.Details.Family,
			ParameterSize: m.Details.ParameterSize,
			Quantization:  m.Details.QuantizationLevel,
			Default:       m.Name == build.Latest(s.DefaultModel),
			Loaded:        loaded[m.Digest],
		})
	}

	slices.SortFunc(out.Models, func(a, b mlapi.ModelInfo) int {
		if a.Default != b.Default {
			if a.Default {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})

	wire.WriteJSON(w, http.StatusOK, out)
}

// list is every model that Ollama has. It keeps their names for the requests, and has the default
// model known before the first of them.
func (s *service) list(ctx context.Context) ([]api.ListModelResponse, error) {
	list, err := s.Ollama.List(ctx)
	if err != nil {
		return nil, err
	}

	names := make(map[string]string, len(list))
	for _, m := range list {
		names[m.Name] = m.Digest
	}

	s.mu.Lock()
	s.names = names
	s.mu.Unlock()
	latest := build.Latest(s.DefaultModel)
	if digest, ok := names[latest]; ok {
		s.catalog.Warm(latest, digest)
	}

	return list, nil
}

// watch asks which models there are until ctx is done.
func (s *service) watch(ctx context.Context) {
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, listTimeout)
		_, _ = s.list(asked) // an Ollama that is away is told by the requests and by the readiness
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// resolve is the model's full name and its digest: the default when none is named. A name that
// Ollama does not have is a problem that says which it has, and one that is not for the person who
// asks is a problem whether Ollama has it or not.
func (s *service) resolve(ctx context.Context, name string) (full, digest string, err error) {
	if name == "" {
		name = s.DefaultModel
	}
	if !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		name += ":latest"
	}
	if !s.allowed(ctx, name) {
		return "", "", problem.Typed(mlapi.TypeModelRefused, http.StatusForbidden,
			"The model %q is not for you. Who runs this site says who may ask it.",
			shortName(name))
	}

	own := build.IsVersion(name, s.DefaultModel) // nobody asks a version that may not have passed
	s.mu.Lock()
	digest, known := s.names[name]
	s.mu.Unlock()
	if known && !own {
		return name, digest, nil
	}

	ctx, cancel := context.WithTimeoutCause(ctx, listTimeout,
		fmt.Errorf("%w within %s", errTimeout, listTimeout))
	defer cancel()
	list, err := s.list(ctx)
	if err != nil {
		return "", "", err
	}

	shown := []string{}
	for _, m := range list {
		if m.Name == name && !own {
			return name, m.Digest, nil
		}
		if !build.IsVersion(m.Name, s.DefaultModel) && s.shows(ctx, m.Name) {
			shown = append(shown, shortName(m.Name))
		}
	}

	if name == build.Latest(s.DefaultModel) {
		err := s.checkModel(ctx)
		if err == nil {
			return name, "", nil // it has come in this moment
		}
		p := problem.Typed("/problems/model-not-ready", http.StatusServiceUnavailable, "%v", err)
		p.RetryAfter = 5
		return "", "", p
	}

	slices.Sort(shown)
	return "", "", problem.Typed(mlapi.TypeNoModel, http.StatusNotFound,
		"There is no model %q. There are: %s.", shortName(name), strings.Join(shown, ", "))
}

// allowed reports whether the person in whose name ctx is may ask the model with the full name. A
// version of the stack's own model is that model.
func (s *service) allowed(ctx context.Context, name string) bool {
	if name == s.Embedding && identity.From(ctx).ID == "" {
		return true
	}
	if build.IsVersion(name, s.DefaultModel) {
		name = s.DefaultModel
	}
	return s.Models.Allow(shortName(name), identity.From(ctx).Groups)
}

// vectorsAlone reports whether the model with the full name is there for vectors, and answers nobody.
// One that the settings name among the models for people as well is for both.
func (s *service) vectorsAlone(name string) bool {
	_, named := s.Models[shortName(name)]
	return name == s.Embedding && !named
}

// shows reports whether a list has the model. Another service that asks for itself sees all.
func (s *service) shows(ctx context.Context, name string) bool {
	return identity.From(ctx).ID == "" || s.allowed(ctx, name) && !s.vectorsAlone(name)
}

// digest returns the digest of a model, "" if it has not been seen.
func (s *service) digest(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name]
}

// shortName returns a model's name as people write it.
func shortName(name string) string { return strings.TrimSuffix(name, ":latest") }

// forget makes the next request ask Ollama anew which models it has.
func (s *service) forget() { s.mu.Lock(); s.names = nil; s.mu.Unlock() }

func (s *service) embed(w http.ResponseWriter, r *http.Request) {
	var req mlapi.EmbedRequest
	if p := decode(w, r, &req); p != nil {
		problem.Write(w, r, p)
		return
	}

	if len(req.Input) == 0 || slices.Contains(req.Input, "") {
		problem.Write(w, r, invalid("body.input", "must be a list of texts, none of them empty"))
		return
	}
	if req.Dimensions < 0 {
		problem.Write(w, r, invalid("body.dimensions", "must not be negative"))
		return
	}

	model, _, err := s.resolve(r.Context(), req.Model)
	if err != nil {
		s.refuse(w, r, err)
		return
	}

	use := &use{ctx: r.Context()}
	defer use.end()
	a := s.admit(w, r, use, func(int) error { return nil })
	defer a.end()
	if <-a.known; a.err != nil {
		s.refuse(w, r, a.err)
		return
	}

	ctx, cancel := context.WithTimeoutCause(r.Context(), s.Timeout,
		fmt.Errorf("%w within %s", errTimeout, s.Timeout))
	defer cancel()
	turn := s.Ollama.Acquire(model, "")
	defer func() { turn.Release() }()
	no := false
	embed := &api.EmbedRequest{
		Model: model, Input: req.Input, Dimensions: req.Dimensions, Truncate: &no,
		KeepAlive: &api.Duration{Duration: s.KeepAlive},
	}
	e, err := turn.Client.Embed(ctx, embed)
	if other := turn.Elsewhere(ctx, err); other != nil {
		turn = other
		e, err = turn.Client.Embed(ctx, embed)
	}

	if ollama.TooLong(err) {
		err = problem.Typed(problem.TypeTooLong, http.StatusRequestEntityTooLarge,
			"A text is longer than the model's context. Send it in parts.")
	}

	if err != nil {
		s.refuse(w, r, err)
		return
	}

	use.answered, use.prompt = true, e.PromptEvalCount
	wire.WriteJSON(w, http.StatusOK, mlapi.EmbedResponse{
		Model:        shortName(model),
		Embeddings:   e.Embeddings,
		PromptTokens: e.PromptEvalCount,
	})
}

// asProblem returns the problem that an error is to the client.
func (s *service) asProblem(err error) *problem.Problem {
	var p *problem.Problem
	var full *queue.FullError
	var limit *meter.LimitError
	var status *ollama.StatusError
	var long *prompt.TooLongError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &full):
		p = problem.Typed(mlapi.TypeQueueFull, http.StatusTooManyRequests,
			"%d requests are waiting already. Try again in about %s.", full.Position-1,
			full.RetryAfter)
		p.QueuePosition, p.RetryAfter = full.Position, int(full.RetryAfter/time.Second)
		return p
	case errors.As(err, &limit):
		return dayLimit(limit)
	case errors.Is(err, queue.ErrAtOnce):
		p = problem.Typed(mlapi.TypeAtOnce, http.StatusTooManyRequests,
			"You have as many questions at once as one may have. Try again when one of them is "+
				"answered.")
		p.RetryAfter = atOncePause
		return p
	case errors.Is(err, queue.ErrDraining):
		return problem.Draining("This instance is shutting down. Try again.")
	case errors.As(err, &long) && long.Whole:
		return problem.Typed(problem.TypeTooLong, http.StatusRequestEntityTooLarge,
			"The prompt has about %d tokens, and %d fit into the model's context beside the answer.",
			long.Tokens, long.Room)
	case errors.As(err, &long):
		return problem.Typed(problem.TypeTooLong, http.StatusRequestEntityTooLarge,
			"The message has about %d tokens, and %d fit into the model's context beside the system "+
				"prompt and the answer. Shorten it, or send it in parts.", long.Tokens, long.Room)
	case errors.Is(err, errTooLong):
		return problem.Typed(problem.TypeTooLong, http.StatusRequestEntityTooLarge,
			"The message does not fit into the model's context beside the system prompt and the "+
				"answer. Shorten it, or send it in parts.")
	case errors.Is(err, errTimeout), errors.Is(err, errSilence):
		return problem.New(http.StatusGatewayTimeout, "The model took too long: %v.", err)
	case errors.As(err, &status) && status.Status == http.StatusNotFound:
		s.forget()
		return problem.Typed(mlapi.TypeNoModel, http.StatusNotFound,
			"Ollama no longer has that model: %s.", status.Message)
	case errors.As(err, &status) && (status.Status == http.StatusBadRequest ||
		strings.HasPrefix(status.Message, "invalid JSON schema")):
		return problem.New(http.StatusBadRequest, "Ollama refused the request: %s", status.Message)
	}

	return problem.New(http.StatusBadGateway, "The model cannot answer at the moment: %v", err)
}

// refuse answers with the problem that an error is, before anything else was written.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody reads it
	}
	p := s.asProblem(err)
	s.count(r, p, err)
	problem.Write(w, r, p)
}

// count tells the log and the metrics of what failed through no fault of the client.
func (s *service) count(r *http.Request, p *problem.Problem, err error) {
	if p.Status >= 500 {
		s.metrics.failures.Inc()
		s.Log.WarnContext(r.Context(), "request failed", "error", err)
	}
}

func decode(w http.ResponseWriter, r *http.Request, into any) *problem.Problem {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more than one JSON value")
		}
	}

	var tooBig *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooBig):
		return problem.New(http.StatusRequestEntityTooLarge, "The request is larger than %d bytes.",
			maxBody)
	}

	return problem.New(http.StatusBadRequest, "The body is not the JSON expected: %v.", err)
}

func invalid(location, format string, args ...any) *problem.Problem {
	p := problem.New(http.StatusBadRequest, "The request is not valid.")
	p.Errors = []problem.FieldError{{Location: location, Message: fmt.Sprintf(format, args...)}}
	return p
}
