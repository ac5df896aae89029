package openai

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const (
	// tries is how often ml is asked for an answer of which nothing has come, at most, and tryPause
	// the time between two of them.
	tries    = 5
	tryPause = 500 * time.Millisecond

	// maxTryPause bounds the time that ml may ask for.
	maxTryPause = 5 * time.Second

	// maxLine bounds a line of ml's answer in bytes.
	maxLine = 4 << 20

	// writeTimeout bounds one write, so that a reader who stopped reading holds no answer open.
	writeTimeout = 30 * time.Second

	// keepAlive is how long a stream may be silent: what stands between may close one that is.
	keepAlive = 15 * time.Second
)

// answer is what becomes of a request for text.
type answer struct {
	// id begins the ids of such answers, object and chunk are what they call themselves, whole and
	// in a stream.
	id, object, chunk string

	// model is as the client named it, and prompt the parameter that may be too long.
	model, prompt string
	form          form

	// oneCall leaves only the first call of a tool.
	oneCall bool
	calls   int

	// find searches for sources; nil if the client wants none. found are those that there are, and
	// used the numbers of those that the model got.
	find  func(context.Context) ([]sources.Passage, error)
	found []sources.Passage
	used  []int

	// bytes is how much came, and done and err are how it ended.
	bytes int
	done  *mlapi.Done
	err   error
}

// form is how an answer says what the model added.
type form interface {
	// begin returns the first choice of a stream, or nil.
	begin() any

	// add returns the choices with what the chunk adds. first is the index of its first call.
	add(c *mlapi.Chunk, first int) []any

	// end returns a stream's last choice.
	end(reason string) any

	// whole returns the choice of an answer that is sent at once.
	whole(text, thinking string, calls []mlapi.ToolCall, reason string) any
}

// usage counts tokens.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// body is a whole answer, or a chunk of one.
type body struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	Choices []any  `json:"choices"`
	Usage   *usage `json:"usage,omitempty"`

	// Citations are the passages to which the answer's [1] refers, where the client asked for them.
	Citations []sources.Passage `json:"citations,omitzero"`
}

// answer asks ml and sends the client what comes.
func (s *service) answer(
	w http.ResponseWriter, r *http.Request, owner string, how *sampling, a *answer,
	path string, ask any,
) error {
	act, err := s.begin(r, owner, a.model)
	if err != nil {
		return asFault(err, a.prompt)
	}
	defer func() { end(r.Context(), act, a.bytes, a.done, a.err) }()

	if a.find != nil {
		if a.found, a.err = a.find(r.Context()); a.err != nil {
			return asFault(a.err, a.prompt)
		}
	}

	b := body{
		ID: a.id + rand.Text(), Object: a.object, Created: time.Now().Unix(), Model: a.model,
	}
	if how.Stream {
		b.Object = a.chunk
		return s.stream(w, r, owner, how, a, b, path, ask)
	}

	var text, thinking strings.Builder
	var calls []mlapi.ToolCall
	show := func(h http.Header) { showLimits(w.Header(), h) }
	a.done, a.err = s.ask(r.Context(), show, owner, path, ask, func(c *mlapi.Chunk) error {
		text.WriteString(c.Text)
		thinking.WriteString(c.Thinking)
		calls = append(calls, a.take(c).ToolCalls...)
		return nil
	})
	if a.err != nil {
		return asFault(a.err, a.prompt)
	}

	b.Choices = []any{a.form.whole(text.String(), thinking.String(), calls, a.reason(a.done))}
	b.Usage, b.Citations = useOf(a.done), a.cited()
	wire.WriteJSON(w, http.StatusOK, b)
	return nil
}

// take returns the chunk with the calls that the client gets.
func (a *answer) take(c *mlapi.Chunk) *mlapi.Chunk {
	if a.oneCall {
		c.ToolCalls = c.ToolCalls[:min(len(c.ToolCalls), max(0, 1-a.calls))]
	}
	a.calls += len(c.ToolCalls)
	a.bytes += len(c.Text) + len(c.Thinking)
	if c.Passages != nil {
		a.used = c.Passages
	}
	return c
}

// reason returns why the answer ended.
func (a *answer) reason(d *mlapi.Done) string {
	switch {
	case d.Reason == "length":
		return "length"
	case a.calls > 0:
		return "tool_calls"
	}
	return "stop"
}

func useOf(d *mlapi.Done) *usage {
	return &usage{d.PromptTokens, d.Tokens, d.PromptTokens + d.Tokens}
}

// stream sends the answer as it comes. Until something is sent, a word, or a comment if the first
// word is late, an error is a response with its status. From then on it is the last event.
func (s *service) stream(
	w http.ResponseWriter, r *http.Request, owner string, how *sampling, a *answer, b body,
	path string, ask any,
) error {
	events := &events{w: w}
	events.keep()
	defer events.stop()

	begun := false
	send := func(choices ...any) error {
		if first := a.form.begin(); !begun && first != nil {
			choices = append([]any{first}, choices...)
		}

		begun = true
		values := make([]any, len(choices))
		for i, c := range choices {
			one := b
			one.Choices = []any{c}
			values[i] = one
		}

		return events.send(values...)
	}

	added := func(c *mlapi.Chunk) error {
		first := a.calls
		return send(a.form.add(a.take(c), first)...)
	}

	done, err := s.ask(r.Context(), events.showLimits, owner, path, ask, added)
	a.done, a.err = done, err
	if err == nil {
		b.Citations = a.cited()
		err = send(a.form.end(a.reason(done)))
		b.Citations = nil
	}

	if err == nil && how.usage() {
		b.Choices, b.Usage = []any{}, useOf(done)
		err = events.send(b)
	}

	if err == nil {
		return events.data("[DONE]")
	}

	f := asFault(err, a.prompt)
	if !events.begun() {
		return f
	}

	if r.Context().Err() == nil {
		s.Log.WarnContext(r.Context(), "api: an answer ended early", "error", err)
		_ = events.send(faulty{f}) // if this fails, the cut stream says it
	}

	return nil
}

// errCut reports an answer that ended before its end.
var errCut = errors.New("ml: the answer was cut off")

// ask asks ml, and calls added for each chunk that adds something to the answer, and show with
// the header of each answer before. It asks again if the answer was cut, or ml goes away,
// before anything came.
func (s *service) ask(
	ctx context.Context, show func(http.Header), owner, path string, body any,
	added func(*mlapi.Chunk) error,
) (*mlapi.Done, error) {
	question := rand.Text()
	for try := 1; ; try++ {
		came := false
		done, err := s.once(ctx, show, asked(owner, question), path, body,
			func(c *mlapi.Chunk) error {
				came = true
				return added(c)
			})

		pause, again := repeats(err, try)
		if !again || came || try == tries || !outage.Pause(ctx, pause) {
			return done, err
		}
	}
}

// repeats reports whether ml is asked again after the error of a try, and after which time. A
// question whose answer was cut may count for a moment more among its person's at once.
func repeats(err error, try int) (pause time.Duration, again bool) {
	var p *problem.Problem
	switch {
	case errors.Is(err, errCut):
		return tryPause, true
	case !errors.As(err, &p):
		return 0, false
	case p.Type == mlapi.TypeAtOnce && try > 1:
		return min(max(tryPause, time.Duration(p.RetryAfter)*time.Second), maxTryPause), true
	}

	return tryPause, p.Type == problem.TypeDraining
}

// once asks ml once.
func (s *service) once(
	ctx context.Context, show func(http.Header), asked http.Header, path string, body any,
	added func(*mlapi.Chunk) error,
) (*mlapi.Done, error) {
	resp, err := s.ML.Do(ctx, http.MethodPost, path, body, asked)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()

	show(resp.Header)

	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		var c mlapi.Chunk
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("ml: %w", err)
		}
		if c.Error != nil {
			return nil, c.Error
		}

		if c.Text != "" || c.Thinking != "" || len(c.ToolCalls) > 0 || c.Passages != nil {
			if err := added(&c); err != nil {
				return nil, err
			}
		}

		if c.Done != nil {
			// To its end: then ml has given the place back and counted what was used, so the
			// next question is not one too many at once, and the connection can be used again.
			_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
			return c.Done, nil
		}
	}

	if ctx.Err() != nil {
		return nil, ctx.Err()
	}

	return nil, errCut
}

// events are a stream to a client, which begins with what is sent first.
type events struct {
	w http.ResponseWriter

	mu    sync.Mutex
	sse   *sse.Writer // nil before it has begun
	err   error       // of a comment
	idle  *time.Timer
	ended bool
}

// keep sends a comment when the stream is silent, until stop is called.
func (e *events) keep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = time.AfterFunc(keepAlive, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.ended || e.err != nil {
			return
		}
		e.begin()
		e.err = e.sse.Comment("waiting")
		e.idle.Reset(keepAlive)
	})
}

func (e *events) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	e.idle.Stop()
}

// showLimits passes on what ml's header says of the limits, if the stream has not begun.
func (e *events) showLimits(h http.Header) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sse == nil {
		showLimits(e.w.Header(), h)
	}
}

// begin begins the stream, with what is sent next.
func (e *events) begin() {
	if e.sse == nil {
		e.sse = sse.Begin(e.w, writeTimeout)
	}
}

// begun reports whether the stream has begun.
func (e *events) begun() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.sse != nil }

// send sends the values as JSON, an event each, together.
func (e *events) send(values ...any) error {
	texts := make([]string, len(values))
	for i, v := range values {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return err
		}
		texts[i] = strings.TrimSuffix(b.String(), "\n")
	}

	return e.data(texts...)
}

func (e *events) data(texts ...string) error {
	out := make([]sse.Event, len(texts))
	for i, text := range texts {
		out[i].Data = text
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	if len(out) == 0 {
		return nil
	}

	e.begin()
	e.idle.Reset(keepAlive)
	return e.sse.Send(out...)
}
