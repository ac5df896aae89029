package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/ollama/ollama/api"
)

// job is a request with a prompt that fits the model's context.
type job struct {
	// model is the model's full name, key what the turns of a conversation have in common.
	model, key string
	messages   []api.Message // without the passages
	options    map[string]any

	// passages stand before the last question. quotes is set until it is told which they are.
	passages []prompt.Passage
	quotes   bool

	// whole is set if nothing of it may be left out, of which the next two are only then.
	whole  bool
	tools  api.Tools
	format json.RawMessage

	// prompt is set instead of messages for a text that is completed without the model's template,
	// or between it and suffix.
	prompt, suffix string

	leftOut int  // how many of the oldest messages were left out
	again   bool // the text so far was left out: the answer begins again
	goesOn  bool // the last message is the text so far
	full    bool // the text so far leaves no room for more

	// seam is the space in which the text so far ends. The model gets the text without it and
	// writes it anew: the token that comes next begins with the space in most vocabularies.
	seam string
}

// knowWait bounds how long a request waits for what is known of its model. After that its prompt is
// estimated.
const knowWait = 3 * time.Second

// measured is a model, and what a prompt for it has to fit into.
type measured struct {
	name string // the full one
	m    *prompt.Model

	// size is the model's context in tokens. reserve of them are kept for the answer, which has
	// predict of them at most, 0 if nothing says.
	size, reserve, predict int

	// sure reports whether these are known. Else they are estimates.
	sure bool
}

// measure returns what is known of a request's model.
func (s *service) measure(
	ctx context.Context, name string, options map[string]any,
) (*measured, error) {
	name, digest, err := s.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if s.vectorsAlone(name) {
		return nil, problem.Typed(mlapi.TypeModelRefused, http.StatusForbidden,
			"The model %q makes vectors of documents, and answers no questions.", shortName(name))
	}

	know, cancel := context.WithTimeout(ctx, knowWait)
	defer cancel()
	m := s.catalog.Get(know, name, digest)
	loaded := s.loadedContext(know, m, digest)
	predict, set := options["num_predict"].(float64)
	if !set && m != nil {
		predict = float64(m.NumPredict)
	}

	size := m.Context(loaded)
	return &measured{
		name:    name,
		m:       m,
		size:    size,
		reserve: prompt.Reserve(size, int(predict)),
		predict: int(predict),
		sure:    m.Exact() && (m.NumCtx > 0 || loaded > 0),
	}, nil
}

// prepare makes the prompt of a request fit. It refuses one that cannot, before it waits for its
// turn; where the context or the tokenizer is not known, that is left to Ollama.
func (s *service) prepare(ctx context.Context, req *mlapi.ChatRequest) (*job, error) {
	given, options := req.Messages, req.Options
	k, err := s.measure(ctx, req.Model, options)
	if err != nil {
		return nil, err
	}

	m, size, reserve, predict := k.m, k.size, k.reserve, k.predict
	messages := make([]api.Message, len(given))
	for i, x := range given {
		if x.Role != "system" { // the assistant's words may be the user's: "repeat after me"
			x.Content = m.Neutralise(x.Content)
		}
		messages[i] = api.Message{Role: x.Role, Content: x.Content}
	}

	j := &job{
		model: k.name, key: beginning(messages), options: options, quotes: len(req.Passages) > 0,
	}
	if last := &messages[len(messages)-1]; last.Role == "assistant" {
		text := strings.TrimRightFunc(last.Content, unicode.IsSpace)
		j.seam = last.Content[len(text):]
		last.Content = text
		if !m.Continues(messages) {
			j.again, j.seam = true, ""
			messages = messages[:len(messages)-1]
		} else {
			j.goesOn = true
			written := m.Count(text)
			reserve = prompt.Rest(reserve, written)
			if predict > 0 {
				j.options = maps.Clone(options)
				if j.options == nil {
					j.options = map[string]any{}
				}
				j.options["num_predict"] = max(1, predict-written)
			}
		}
	}

	passages, n := passagesOf(m, req.Passages), 0
	j.messages, n, err = m.FitQuoted(messages, passages, size-reserve)
	j.passages = passages[:n]
	switch {
	case err == nil:
	case !k.sure:
		j.messages = prompt.Least(messages)
	case j.goesOn:
		if _, alone := m.Fit(messages[:len(messages)-1], size-reserve); alone == nil {
			j.full = true // the answer has come to the context's end
			return j, nil
		}
		return nil, err
	default:
		return nil, err
	}

	j.leftOut = len(messages) - len(j.messages)
	return j, nil
}

// passagesOf returns a request's passages as the model gets them.
func passagesOf(m *prompt.Model, given []mlapi.Passage) []prompt.Passage {
	out := make([]prompt.Passage, len(given))
	for i, p := range given {
		out[i] = prompt.Passage{N: p.N, Title: m.Neutralise(p.Title), Text: m.Neutralise(p.Text)}
	}
	return out
}

// loadedContext returns the context with which a model was last seen in memory, where the model
// sets none itself; 0 when it was not seen.
func (s *service) loadedContext(ctx context.Context, m *prompt.Model, digest string) int {
	if m != nil && m.NumCtx > 0 {
		return 0
	}

	s.mu.Lock()
	seen, ok := s.contexts[digest]
	s.mu.Unlock()
	if ok && time.Since(seen.at) < listEvery {
		return seen.size
	}

	running, _ := s.Ollama.Running(ctx) // of one that is away, what it said before is as good
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range running {
		if r.ContextLength > 0 {
			s.contexts[r.Digest] = seenContext{r.ContextLength, time.Now()}
		}
	}

	return s.contexts[digest].size
}

// seenContext is the context with which a model was in memory.
type seenContext struct {
	size int
	at   time.Time
}

// less leaves the oldest turn out, or the last passage if no turn may go. It reports whether there
// was something to leave out.
func (j *job) less() bool {
	if !j.whole {
		if messages, ok := prompt.Less(j.messages); ok {
			j.leftOut += len(j.messages) - len(messages)
			j.messages = messages
			return true
		}
	}

	last := len(j.passages) - 1
	if last >= 0 {
		j.passages = j.passages[:last]
	}
	return last >= 0
}

// join returns what of the text is new after the text so far, whose space at the end the model may
// write once more.
func (j *job) join(text string) string {
	n := 0
	for n < len(text) && n < len(j.seam) && text[n] == j.seam[n] {
		n++
	}

	j.seam = j.seam[n:]
	if n < len(text) {
		j.seam = ""
	}

	return text[n:]
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
