package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

// What ends an answer that does not come to its own end.
var (
	errSilence = errors.New("it fell silent")
	errTimeout = errors.New("it was not done")
)

// writeTimeout bounds one write, so that a reader who stopped reading does not keep a turn.
const writeTimeout = 30 * time.Second

// rewritePause is how long the builder takes at most to give the default model's name to a new version.
const rewritePause = 100 * time.Millisecond

func (s *service) chat(w http.ResponseWriter, r *http.Request) {
	var req mlapi.ChatRequest
	if p := decode(w, r, &req); p != nil {
		problem.Write(w, r, p)
		return
	}
	messages := make([]api.Message, 0, len(req.Messages))
	for i, m := range req.Messages {
		switch m.Role {
		case "system":
		case "user", "assistant": // the assistant's words may be the user's: "repeat after me"
			m.Content = neutralise(m.Content)
		default:
			problem.Write(w, r, invalid(fmt.Sprintf("body.messages[%d].role", i), "%q is none of system, user, assistant", m.Role))
			return
		}
		messages = append(messages, api.Message{Role: m.Role, Content: m.Content})
	}
	if len(messages) == 0 || messages[len(messages)-1].Role != "user" {
		problem.Write(w, r, invalid("body.messages", "the last message must be the user's"))
		return
	}
	s.answer(w, r, req.Model, beginning(messages), req.Options, func(ctx context.Context, c *ollama.Client, model string, token func(ollama.Token) error) error {
		return c.Chat(ctx, &api.ChatRequest{Model: model, Messages: messages, Options: req.Options,
			KeepAlive: &api.Duration{Duration: s.KeepAlive}}, token)
	})
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
	s.answer(w, r, req.Model, req.System+"\x00"+req.Prompt, req.Options, func(ctx context.Context, c *ollama.Client, model string, token func(ollama.Token) error) error {
		return c.Generate(ctx, &api.GenerateRequest{Model: model, Prompt: neutralise(req.Prompt), System: req.System,
			Options: req.Options, KeepAlive: &api.Duration{Duration: s.KeepAlive}}, token)
	})
}

// beginning is what the turns of a conversation have in common: all up to the user's first message.
func beginning(messages []api.Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Role)
		b.WriteByte(0)
		b.WriteString(m.Content)
		b.WriteByte(0)
		if m.Role == "user" {
			break
		}
	}
	return b.String()
}

// control matches what models take as control tokens when it stands in plain text: Ollama parses them wherever they
// are, so a user could end the system's turn and begin one of their own. In the order of the alternatives: ChatML, Llama
// 3, Phi, Qwen and most others; DeepSeek's with full-width bars; Gemma; Llama 2 and other SentencePiece models; Mistral.
var control = regexp.MustCompile(`<\|[^<>|\s]{1,64}\|>|<｜[^<>｜\s]{1,64}｜>|</?(?:start|end)_of_\w{1,32}>|</?s>|<</?SYS>>|<(?:bos|eos|pad|unk)>|` +
	`\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|THINK)\]`)

// neutralise breaks control tokens in a user's text with a zero-width space after the bracket: people read the same,
// the tokenizer does not see a control token.
func neutralise(text string) string {
	if !strings.ContainsAny(text, "<[") {
		return text
	}
	return control.ReplaceAllStringFunc(text, func(m string) string { return m[:1] + "\u200b" + m[1:] })
}

// answer admits a request, runs it at the replica for its key, and streams its chunks.
func (s *service) answer(w http.ResponseWriter, r *http.Request, name, key string, options map[string]any,
	run func(ctx context.Context, c *ollama.Client, model string, token func(ollama.Token) error) error) {
	if err := checkOptions(options); err != nil {
		problem.Write(w, r, err)
		return
	}
	model, err := s.resolve(r.Context(), name)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := newStream(w)
	came := time.Now()
	release, err := s.Queue.Acquire(r.Context(), r.Header.Get(backendapi.OwnerHeader),
		func(place int) error { return out.send(&mlapi.Chunk{Queue: place}) })
	if err != nil {
		s.end(w, r, out, err)
		return
	}
	defer release()
	waited := time.Since(came)
	s.metrics.waited.Observe(waited.Seconds())

	ctx, cancel := context.WithTimeoutCause(r.Context(), s.Timeout, fmt.Errorf("%w within %s", errTimeout, s.Timeout))
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
		// The first token may take as long as loading the model does; from then on silence is a fault.
		if watch == nil {
			watch = time.AfterFunc(s.Silence, func() { silent(fmt.Errorf("%w for %s", errSilence, s.Silence)) })
		} else {
			watch.Reset(s.Silence)
		}
		if first && t.Text != "" {
			first = false
			s.metrics.firstToken.Observe(time.Since(started).Seconds())
		}
		if !t.Done {
			if t.Text == "" {
				return nil
			}
			return out.send(&mlapi.Chunk{Text: t.Text})
		}
		s.metrics.tokens.Add(float64(t.EvalCount))
		if t.EvalDuration > 0 {
			s.metrics.speed.Observe(float64(t.EvalCount) / t.EvalDuration.Seconds())
		}
		return out.send(&mlapi.Chunk{Text: t.Text, Done: &mlapi.Done{Model: strings.TrimSuffix(model, ":latest"), Reason: t.Reason,
			PromptTokens: t.PromptEvalCount, Tokens: t.EvalCount, QueueMS: ms(waited), LoadMS: ms(t.LoadDuration),
			PromptMS: ms(t.PromptEvalDuration), EvalMS: ms(t.EvalDuration)}})
	}
	turn := s.Ollama.Acquire(model, key)
	defer func() { turn.Release() }()
	err = run(ctx, turn.Client, model, token)
	if watch == nil && model == build.Latest(s.DefaultModel) && ollama.Rewritten(err) {
		time.Sleep(rewritePause) // the builder is just giving the name to a new version
		err = run(ctx, turn.Client, model, token)
	}
	if watch == nil { // not a token yet: nothing was said twice when another says it
		if other := turn.Elsewhere(ctx, err); other != nil {
			turn = other
			err = run(ctx, turn.Client, model, token)
		}
	}
	if err != nil {
		s.end(w, r, out, err)
	}
}

// end says why an answer ended early: as a problem when nothing was written yet, else as the last chunk.
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
	s.enc.SetEscapeHTML(false) // every < of the code in an answer would take six bytes; nobody reads this as HTML
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

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
