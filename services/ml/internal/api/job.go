package api

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/ollama/ollama/api"
)

// job is a request whose prompt fits.
type job struct {
	// model is the model's full name, key what the turns of a conversation have in common.
	model, key string
	messages   []api.Message
	options    map[string]any
	// leftOut is how many of the oldest messages were left out; again says that the text so far
	// was.
	leftOut int
	again   bool
	// full says that the text so far leaves no room for more.
	full bool
	// seam is the space in which the text so far ends. The model gets the text without it and
	// writes it anew: the token that comes next begins with the space in most vocabularies.
	seam string
}

// knowWait bounds how long a request waits for what is known of its model. After that its prompt is
// estimated.
const knowWait = 3 * time.Second

// prepare makes the prompt of a request fit. It refuses one that cannot, before it waits for its
// turn.
func (s *service) prepare(ctx context.Context, name string, given []mlapi.Message,
	options map[string]any) (*job, error) {
	name, digest, err := s.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	know, cancel := context.WithTimeout(ctx, knowWait)
	defer cancel()
	m := s.catalog.Get(know, name, digest)

	messages := make([]api.Message, len(given))
	for i, x := range given {
		if x.Role != "system" { // the assistant's words may be the user's: "repeat after me"
			x.Content = m.Neutralise(x.Content)
		}
		messages[i] = api.Message{Role: x.Role, Content: x.Content}
	}
	j := &job{model: name, key: beginning(messages), options: options}

	size := m.Context(s.loadedContext(know, m, name))
	predict, set := options["num_predict"].(float64)
	if !set && m != nil {
		predict = float64(m.NumPredict)
	}
	reserve := prompt.Reserve(size, int(predict))

	if last := &messages[len(messages)-1]; last.Role == "assistant" {
		text := strings.TrimRightFunc(last.Content, unicode.IsSpace)
		j.seam = last.Content[len(text):]
		last.Content = text
		if !m.Continues(messages) {
			j.again, j.seam = true, ""
			messages = messages[:len(messages)-1]
		} else {
			written := m.Count(text)
			reserve = prompt.Rest(reserve, written)
			if predict > 0 {
				j.options = maps.Clone(options)
				if j.options == nil {
					j.options = map[string]any{}
				}
				j.options["num_predict"] = max(1, int(predict)-written)
			}
		}
	}
	if j.messages, err = m.Fit(messages, size-reserve); err != nil {
		if going := len(messages) - 1; messages[going].Role == "assistant" {
			if _, alone := m.Fit(messages[:going], size-reserve); alone == nil {
				j.full = true // the answer has come to the context's end
				return j, nil
			}
		}
		return nil, err
	}
	j.leftOut = len(messages) - len(j.messages)
	return j, nil
}

// loadedContext returns the context of a model in memory, where the model sets none itself.
func (s *service) loadedContext(ctx context.Context, m *prompt.Model, name string) int {
	if m != nil && m.NumCtx > 0 {
		return 0
	}
	running, err := s.Ollama.Running(ctx)
	if err != nil {
		return 0
	}
	i := slices.IndexFunc(running, func(r api.ProcessModelResponse) bool { return r.Name == name })
	if i < 0 {
		return 0
	}
	return running[i].ContextLength
}

// less leaves the oldest turn out; it returns false when there is none that may go.
func (j *job) less() bool {
	messages, ok := prompt.Less(j.messages)
	if ok {
		j.leftOut += len(j.messages) - len(messages)
		j.messages = messages
	}
	return ok
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
