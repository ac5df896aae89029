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
	if p := decode(w, r, &req); p != nil {
		problem.Write(w, r, p)
		return
	}

	if p := checkMessages(req.Messages); p != nil {
		problem.Write(w, r, p)
		return
	}

	if p := checkOptions(req.Options); p != nil {
		problem.Write(w, r, p)
		return
	}

	j, err := s.prepare(r.Context(), req.Model, req.Messages, req.Options)
	if err != nil {
		s.refuse(w, r, err)
		return
	}

	s.answer(w, r, j, func(ctx context.Context, c *ollama.Client, token onToken) error {
		no := false
		return c.Chat(ctx, &api.ChatRequest{Model: j.model, Messages: j.messages,
			Options: j.options, Truncate: &no, Shift: &no,
			KeepAlive: &api.Duration{Duration: s.KeepAlive}}, token)
	})
}

// onToken gets an answer's tokens.
type onToken = func(ollama.Token) error

// checkMessages says what is wrong with a conversation.
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

func (s *service) generate(w http.ResponseWriter, r *http.Request) {
	var req mlapi.GenerateRequest
	if p := decode(w, r, &req); p != nil {
		problem.Write(w, r, p)
		return
	}

	if req.Prompt == "" {
		problem.Write(w, r, invalid("body.prompt", "must not be empty"))
		return
	}

	if p := checkOptions(req.Options); p != nil {
		problem.Write(w, r, p)
		return
	}

	messages := []mlapi.Message{{Role: "user", Content: req.Prompt}}
	if req.System != "" {
		messages = slices.Insert(messages, 0, mlapi.Message{Role: "system", Content: req.System})
	}

	j, err := s.prepare(r.Context(), req.Model, messages, req.Options)
	if err != nil {
		s.refuse(w, r, err)
		return
	}

	s.answer(w, r, j, func(ctx context.Context, c *ollama.Client, token onToken) error {
		no, last := false, j.messages[len(j.messages)-1]
		return c.Generate(ctx, &api.GenerateRequest{Model: j.model, Prompt: last.Content,
			System: req.System, Options: j.options, Truncate: &no, Shift: &no,
			KeepAlive: &api.Duration{Duration: s.KeepAlive}}, token)
	})
}

// answer admits a request, runs it at the replica for its key, and streams its chunks.
func (s *service) answer(w http.ResponseWriter, r *http.Request, j *job,
	run func(ctx context.Context, c *ollama.Client, token onToken) error) {
	out := newStream(w)
	name := strings.TrimSuffix(j.model, ":latest")
	full := &mlapi.Chunk{Done: &mlapi.Done{Model: name, Reason: "length"}}
	if j.full {
		_ = out.send(full)
		return
	}

	came := time.Now()
	release, err := s.Queue.Acquire(r.Context(), r.Header.Get(wire.OwnerHeader),
		func(place int) error { return out.send(&mlapi.Chunk{Queue: place}) })
	if err != nil {
		s.end(w, r, out, err)
		return
	}
	defer release()

	waited := time.Since(came)
	s.metrics.waited.Observe(waited.Seconds())

	over := problem.New(http.StatusGatewayTimeout,
		"The answer was not done within %s, the longest that one may take.", s.Timeout)
	over.Type = problem.TypeTimeout
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.Timeout, over)
	defer cancel()
	ctx, silent := context.WithCancelCause(ctx)
	defer silent(nil)
	var watch *time.Timer
	defer func() {
		if watch != nil {
			watch.Stop()
		}
	}()

	started, first := time.Now(), true
	token := func(t ollama.Token) error {
		// The first token may take as long as loading the model does; from then
		// on silence is a fault.
		if watch == nil {
			watch = time.AfterFunc(s.Silence, func() {
				silent(fmt.Errorf("%w for %s", errSilence, s.Silence))
			})
		} else {
			watch.Reset(s.Silence)
		}

		if first && t.Text != "" {
			first = false
			s.metrics.firstToken.Observe(time.Since(started).Seconds())
		}

		text := j.join(t.Text)
		if !t.Done {
			if text == "" && t.Thinking == "" {
				return nil
			}
			if err := s.preface(out, j); err != nil {
				return err
			}
			return out.send(&mlapi.Chunk{Thinking: t.Thinking, Text: text})
		}

		s.metrics.tokens.Add(float64(t.EvalCount))
		if t.EvalDuration > 0 {
			s.metrics.speed.Observe(float64(t.EvalCount) / t.EvalDuration.Seconds())
		}
		if err := s.preface(out, j); err != nil {
			return err
		}

		return out.send(&mlapi.Chunk{Thinking: t.Thinking, Text: text, Done: &mlapi.Done{
			Model: name, Reason: t.Reason, PromptTokens: t.PromptEvalCount, Tokens: t.EvalCount,
			QueueMS: wire.Milliseconds(waited), LoadMS: wire.Milliseconds(t.LoadDuration), PromptMS: wire.Milliseconds(t.PromptEvalDuration),
			EvalMS: wire.Milliseconds(t.EvalDuration)}})
	}

	begun := func() bool { return watch != nil }
	err = s.ask(ctx, j, begun, func(c *ollama.Client) error { return run(ctx, c, token) })
	switch {
	// Ollama knows that it has come to the context's end
	case j.goesOn && errors.Is(err, errTooLong):
		_ = out.send(full)
	case err != nil:
		s.end(w, r, out, err)
	}
}

// preface says once, before the first word, what the answer is one to. Not earlier, as only then it
// is sure: Ollama may still refuse the prompt.
func (s *service) preface(out *stream, j *job) error {
	leftOut, again := j.leftOut, j.again
	if leftOut == 0 && !again {
		return nil
	}
	j.leftOut, j.again = 0, false
	return out.send(&mlapi.Chunk{LeftOut: leftOut, Again: again})
}

// ask runs a request at a replica. As long as nothing was answered it may be run again: at another
// replica, where the fault is that one's; without its oldest turn, where the prompt is too long
// after all; or later, when no Ollama can be reached, which is being replaced or started again.
func (s *service) ask(ctx context.Context, j *job, begun func() bool,
	run func(*ollama.Client) error) error {
	turn := s.Ollama.Acquire(j.model, j.key)
	defer func() { turn.Release() }()
	err := run(turn.Client)
	if !begun() && j.model == build.Latest(s.DefaultModel) && ollama.Rewritten(err) {
		time.Sleep(rewritePause) // the builder is just giving the name to a new version
		err = run(turn.Client)
	}

	moved, cuts, until := false, 0, time.Now().Add(s.Patience)
	for err != nil && !begun() && ctx.Err() == nil {
		if replicas.Unreachable(err) && !ollama.NotReached(err) {
			cuts++
		}

		if ollama.TooLong(err) {
			if !j.less() {
				return errTooLong
			}
		} else if other := elsewhere(ctx, turn, err, moved); other != nil {
			turn, moved = other, true
		} else if replicas.Unreachable(err) && cuts <= cutsMost && time.Now().Before(until) {
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
	// awayPause lies between two tries to reach an Ollama.
	awayPause = 250 * time.Millisecond
	// cutsMost is how often a request is run again that was cut before its first word: it may be
	// what ends Ollama.
	cutsMost = 1
)

// errTooLong reports that Ollama refused a prompt that was estimated to fit.
var errTooLong = errors.New("the prompt exceeds the model's context")

// end says why an answer ended early: as a problem when nothing was written yet,
// else as the last chunk.
func (s *service) end(w http.ResponseWriter, r *http.Request, out *stream, err error) {
	if !out.begun {
		s.refuse(w, r, err)
		return
	}

	if out.broken || r.Context().Err() != nil {
		return // nobody is there to read it
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

	// begun says that the response's header was written, broken that a write failed.
	begun, broken bool
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w)}
	s.enc = json.NewEncoder(&s.buf)
	// every < of the code in an answer would take six bytes; nobody reads this as HTML
	s.enc.SetEscapeHTML(false)
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
