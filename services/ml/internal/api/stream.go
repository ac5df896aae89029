package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/ollama/ollama/api"
)

// What ends an answer that does not come to its own end.
var (
	errSilence = errors.New("it fell silent")
	errTimeout = errors.New("it was not done")
)

// writeTimeout bounds one write, so that a reader who stopped reading does not keep a turn.
const writeTimeout = 30 * time.Second

// rewritePause is how long the builder takes at most to give the default model's
// name to a new version.
const rewritePause = 100 * time.Millisecond

func (s *service) chat(w http.ResponseWriter, r *http.Request) {
	var req mlapi.ChatRequest
	p := decode(w, r, &req)
	if p == nil && req.Whole {
		p = checkWhole(&req)
	} else if p == nil {
		p = checkMessages(req.Messages)
		if len(req.Tools) > 0 || len(req.Format) > 0 {
			p = invalid("body.whole", "must be set for tools and a format")
		}
	}

	if p == nil {
		p = checkPassages(&req)
	}

	prepare := func(ctx context.Context) (*job, error) {
		if req.Whole {
			return s.prepareWhole(ctx, &req)
		}
		return s.prepare(ctx, &req)
	}

	run := func(ctx context.Context, c *ollama.Client, j *job, token onToken) error {
		no := false
		return c.Chat(ctx, &api.ChatRequest{
			Model: j.model, Messages: prompt.Quote(j.messages, j.passages), Options: j.options,
			Truncate: &no, Shift: &no,
			Tools: j.tools, Format: j.format, KeepAlive: &api.Duration{Duration: s.KeepAlive},
		}, token)
	}

	s.respond(w, r, p, req.Options, prepare, run)
}

// onToken gets an answer's tokens.
type onToken = func(ollama.Token) error

// runner asks Ollama for the answer to a job.
type runner = func(ctx context.Context, c *ollama.Client, j *job, token onToken) error

// respond refuses a request that is not valid, for which p is the reason, and answers any other.
func (s *service) respond(
	w http.ResponseWriter, r *http.Request, p *problem.Problem, options map[string]any,
	prepare func(context.Context) (*job, error), run runner,
) {
	if p == nil {
		p = checkOptions(options)
	}

	if p != nil {
		problem.Write(w, r, p)
		return
	}

	j, err := prepare(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}

	s.answer(w, r, j, run)
}

// checkMessages returns what is wrong with a conversation, or nil.
func checkMessages(messages []mlapi.Message) *problem.Problem {
	asked := false
	for i, m := range messages {
		switch m.Role {
		case "system", "assistant":
		case "user":
			asked = true
		default:
			return invalid(fmt.Sprintf("body.messages[%d].role", i),
				"%q is none of system, user, assistant", m.Role)
		}
	}

	switch last := len(messages) - 1; {
	case !asked || messages[last].Role == "system":
		return invalid("body.messages",
			"the last message must be the user's, or the assistant's after it")
	case messages[last].Role == "assistant" && messages[last].Content == "":
		return invalid("body.messages", "the text so far must not be empty")
	}

	return nil
}

// checkPassages returns what is wrong with a request's passages, or nil.
func checkPassages(req *mlapi.ChatRequest) *problem.Problem {
	if len(req.Passages) > mlapi.MaxPassages {
		return invalid("body.passages", "must be %d at most", mlapi.MaxPassages)
	}

	asks := func(m mlapi.Message) bool { return m.Role == "user" }
	if len(req.Passages) > 0 && !slices.ContainsFunc(req.Messages, asks) {
		return invalid("body.passages", "need a message of the user's")
	}

	seen := map[int]bool{}
	for i, p := range req.Passages {
		at := fmt.Sprintf("body.passages[%d]", i)
		switch {
		case p.N < 1 || p.N > 99 || seen[p.N]:
			return invalid(at+".n", "must be a number from 1 to 99 that no other passage has")
		case strings.TrimSpace(p.Text) == "":
			return invalid(at+".text", "must not be empty")
		}
		seen[p.N] = true
	}

	return nil
}

func (s *service) generate(w http.ResponseWriter, r *http.Request) {
	var req mlapi.GenerateRequest
	p := decode(w, r, &req)
	if p == nil && req.Prompt == "" {
		p = invalid("body.prompt", "must not be empty")
	}

	if p == nil && req.System != "" && (req.Raw || req.Suffix != "") {
		p = invalid("body.system", "must be empty with raw and with suffix")
	}
	if p == nil && req.Raw && req.Suffix != "" {
		p = invalid("body.raw", "must not be set with suffix")
	}

	prepare := func(ctx context.Context) (*job, error) {
		if req.Raw || req.Suffix != "" {
			return s.prepareText(ctx, &req)
		}

		messages := []mlapi.Message{{Role: "user", Content: req.Prompt}}
		if req.System != "" {
			messages = slices.Insert(messages, 0,
				mlapi.Message{Role: "system", Content: req.System})
		}
		return s.prepare(ctx, &mlapi.ChatRequest{
			Model: req.Model, Messages: messages, Options: req.Options,
		})
	}

	run := func(ctx context.Context, c *ollama.Client, j *job, token onToken) error {
		no, text := false, j.prompt
		if text == "" {
			text = j.messages[len(j.messages)-1].Content
		}
		return c.Generate(ctx, &api.GenerateRequest{
			Model: j.model, Prompt: text, Suffix: j.suffix, Raw: req.Raw, System: req.System,
			Options: j.options, Truncate: &no, Shift: &no,
			KeepAlive: &api.Duration{Duration: s.KeepAlive},
		}, token)
	}

	s.respond(w, r, p, req.Options, prepare, run)
}

// answer waits for a job's turn, runs it at the replica for its key, and streams its chunks. A job
// for the stack's own model that most likely has its turn at once is run while Redis is asked for
// it (docs/adr/0032).
func (s *service) answer(w http.ResponseWriter, r *http.Request, j *job, run runner) {
	out := newStream(w)
	name := shortName(j.model)
	digest := s.digest(j.model)
	full := &mlapi.Chunk{Done: &mlapi.Done{Model: name, Digest: digest, Reason: "length"}}
	if j.full {
		_ = out.send(full)
		return
	}

	use := &use{ctx: r.Context()}
	defer use.end()
	a := s.admit(w, r, use,
		func(place int) error { return out.send(&mlapi.Chunk{Queue: place}) })
	defer a.end()

	var silent context.CancelCauseFunc
	var watch *time.Timer
	defer func() {
		if watch != nil {
			watch.Stop()
		}
	}()

	var started time.Time
	first, begun := true, false
	token := func(t ollama.Token) error {
		// The first token may take as long as loading the model. From then on silence is a fault,
		// but for Ollama's while it collects the call of a tool.
		begun, use.answered = true, true
		if use.answer++; t.Done {
			use.prompt, use.answer = t.PromptEvalCount, t.EvalCount
		}

		switch {
		case len(j.tools) > 0:
		case watch == nil:
			watch = time.AfterFunc(s.Silence, func() {
				silent(fmt.Errorf("%w for %s", errSilence, s.Silence))
			})
		default:
			watch.Reset(s.Silence)
		}

		if first && t.Text != "" {
			first = false
			s.metrics.firstToken.Observe(time.Since(started).Seconds())
		}

		text := j.join(t.Text)
		if !t.Done && text == "" && t.Thinking == "" && len(t.ToolCalls) == 0 {
			return nil
		}

		calls, err := toolCalls(t.ToolCalls)
		if err != nil {
			return err
		}
		if err := s.preface(out, j); err != nil {
			return err
		}
		if !t.Done {
			return out.send(&mlapi.Chunk{Thinking: t.Thinking, Text: text, ToolCalls: calls})
		}

		s.metrics.tokens.Add(float64(t.EvalCount))
		if t.EvalDuration > 0 {
			s.metrics.speed.Observe(float64(t.EvalCount) / t.EvalDuration.Seconds())
		}

		return out.send(&mlapi.Chunk{
			Thinking:  t.Thinking,
			Text:      text,
			ToolCalls: calls,
			Done: &mlapi.Done{
				Model:        name,
				Digest:       digest,
				Reason:       t.Reason,
				PromptTokens: t.PromptEvalCount,
				Tokens:       t.EvalCount,
				QueueMS:      wire.Milliseconds(a.waited),
				LoadMS:       wire.Milliseconds(t.LoadDuration),
				PromptMS:     wire.Milliseconds(t.PromptEvalDuration),
				EvalMS:       wire.Milliseconds(t.EvalDuration),
			},
		})
	}

	over := problem.Typed(problem.TypeTimeout, http.StatusGatewayTimeout,
		"The answer was not done within %s, the longest that one may take.", s.Timeout)
	ask := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, over)
		defer cancel()
		ctx, silent = context.WithCancelCause(ctx)
		defer silent(nil)

		admitted := func(t ollama.Token) error {
			if begun {
				return token(t)
			}

			select {
			case <-a.known: // nobody is told a word before
			case <-ctx.Done():
			}
			if ctx.Err() != nil { // it is not admitted, or later
				return context.Cause(ctx)
			}
			return token(t)
		}

		started = time.Now()
		return s.ask(ctx, j, func() bool { return begun },
			func(c *ollama.Client) error { return run(ctx, c, j, admitted) })
	}

	// To load another model may put the stack's own out of memory.
	ahead := a.likely && j.model == build.Latest(s.DefaultModel)
	var err error
	if ahead {
		err = ask(a.early)
	}
	if <-a.known; a.err != nil {
		s.end(w, r, out, a.err)
		return
	}
	if !ahead || a.queued {
		err = ask(r.Context())
	}

	switch {
	case j.goesOn && errors.Is(err, errTooLong): // the answer has come to the context's end
		_ = out.send(full)
	case err != nil:
		s.end(w, r, out, err)
	}
}

// preface sends, once, which part of the conversation the answer is to, and with which passages. It comes just before the
// first word: until then Ollama may refuse the prompt.
func (s *service) preface(out *stream, j *job) error {
	c := &mlapi.Chunk{LeftOut: j.leftOut, Again: j.again}
	if j.quotes {
		c.Passages = make([]int, len(j.passages))
		for i, p := range j.passages {
			c.Passages[i] = p.N
		}
	}

	if c.LeftOut == 0 && !c.Again && c.Passages == nil {
		return nil
	}

	j.leftOut, j.again, j.quotes = 0, false, false
	return out.send(c)
}

// ask runs a request at a replica. Until the answer has begun it may run it again: at another
// replica, if the fault is that one's; without its oldest turn, if the prompt is too long after
// all; or later, if no Ollama can be reached, which is being replaced or started again.
func (s *service) ask(
	ctx context.Context, j *job, begun func() bool, run func(*ollama.Client) error,
) error {
	turn := s.Ollama.Acquire(j.model, j.key)
	defer func() { turn.Release() }()
	err := run(turn.Client)
	if !begun() && j.model == build.Latest(s.DefaultModel) && ollama.Rewritten(err) {
		time.Sleep(rewritePause) // the builder is just giving the name to a new version
		err = run(turn.Client)
	}

	moved, cuts, until := false, 0, time.Now().Add(s.Patience)
	for err != nil && !begun() && ctx.Err() == nil {
		if replicas.Unreachable(err) && !outage.NeverSent(err) {
			cuts++
		}

		if ollama.TooLong(err) {
			if !j.less() {
				return errTooLong
			}
		} else if other := elsewhere(ctx, turn, err, moved); other != nil {
			turn, moved = other, true
		} else if replicas.Unreachable(err) && cuts <= maxCuts && time.Now().Before(until) {
			if !outage.Pause(ctx, awayPause) {
				return context.Cause(ctx)
			}
			if s.Queue.Closed() {
				return queue.ErrDraining // nothing has begun: another instance may do better
			}

			turn.Release()
			turn = s.Ollama.Acquire(j.model, j.key)
		} else {
			return err
		}

		err = run(turn.Client)
	}

	return err
}

// elsewhere takes a request to another replica, once.
func elsewhere(ctx context.Context, turn *replicas.Turn, err error, moved bool) *replicas.Turn {
	if moved {
		return nil
	}
	return turn.Elsewhere(ctx, err)
}

const (
	// awayPause is the pause between two tries to reach an Ollama.
	awayPause = 250 * time.Millisecond

	// maxCuts is how often a request is run again that was cut before its first word. It may be
	// what ends Ollama.
	maxCuts = 1
)

// errTooLong reports that Ollama refused a prompt that was estimated to fit.
var errTooLong = errors.New("the prompt exceeds the model's context")

// end sends why an answer ended early: as a problem if nothing was written yet, else as the last
// chunk.
func (s *service) end(w http.ResponseWriter, r *http.Request, out *stream, err error) {
	if !out.begun {
		s.refuse(w, r, err)
		return
	}

	if out.broken || r.Context().Err() != nil {
		return // nobody reads it
	}

	p := s.asProblem(err)
	s.count(r, p, err)
	_ = out.send(&mlapi.Chunk{Error: p}) // if this fails, the cut stream says it
}

// stream writes chunks, a line each, and every line at once.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf bytes.Buffer
	enc *json.Encoder

	begun  bool // the response's header was written
	broken bool // a write failed
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w)}
	s.enc = json.NewEncoder(&s.buf)
	s.enc.SetEscapeHTML(false) // else every < in the code of an answer takes six bytes
	return s
}

func (s *stream) send(c *mlapi.Chunk) error {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", mlapi.NDJSON)
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("X-Content-Type-Options", "nosniff")
		s.w.WriteHeader(http.StatusOK)
	}

	s.buf.Reset()
	if err := s.enc.Encode(c); err != nil {
		return err
	}

	if err := s.write(); err != nil {
		s.broken = true
		return fmt.Errorf("write to the client: %w", err)
	}

	return nil
}

func (s *stream) write() error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.rc.Flush()
}
