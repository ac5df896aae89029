// Package prompt knows what Ollama makes of a conversation for a model: the prompt's text as the
// model's template writes it, how many tokens that is, and how many the model's context holds.
package prompt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/vocabulary"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/model/renderers"
	"github.com/ollama/ollama/parser"
	"github.com/ollama/ollama/template"
	"github.com/ollama/ollama/types/model"
)

// Source tells about the models that Ollama has.
type Source interface {
	Show(ctx context.Context, name string) (*api.ShowResponse, error)
	Vocabulary(ctx context.Context, name string) (vocabulary.Metadata, error)
}

// Model is what is known of a model. A nil Model is one of which nothing is known: its prompts are
// estimated.
type Model struct {
	// NumCtx and NumPredict are the model's own parameters; 0 where it sets none.
	NumCtx, NumPredict int

	// Trained is the longest context that the model was made for; 0 is unknown.
	Trained int

	// Vocabulary is nil when it is unknown.
	Vocabulary *vocabulary.Vocabulary

	system   string
	messages []api.Message
	thinks   bool
	template *template.Template

	// renderer and parser are the names of what Ollama has built in for the model instead of a
	// template.
	renderer, parser string
}

// load asks what a model is.
func load(ctx context.Context, s Source, name string) (*Model, error) {
	shown, err := s.Show(ctx, name)
	if err != nil {
		return nil, err
	}

	m := &Model{
		system:   shown.System,
		messages: shown.Messages,
		thinks:   slices.Contains(shown.Capabilities, model.CapabilityThinking),
	}

	file, err := parser.ParseFile(strings.NewReader(shown.Modelfile))
	if err != nil {
		return nil, fmt.Errorf("the Modelfile that Ollama shows: %w", err)
	}

	for _, c := range file.Commands {
		switch c.Name {
		case "renderer":
			m.renderer = c.Args
		case "parser":
			m.parser = c.Args
		case "num_ctx":
			m.NumCtx = number(c.Args)
		case "num_predict":
			m.NumPredict = number(c.Args)
		}
	}

	if m.template, err = template.Parse(shown.Template); err != nil {
		return nil, fmt.Errorf("the template: %w", err)
	}

	gptoss := shown.Details.Family == "gptoss" || shown.Details.Family == "gpt-oss"
	marked := m.template.Contains("<|start|>") && m.template.Contains("<|end|>")
	if m.parser == "" && gptoss && marked {
		m.parser = "harmony" // as Ollama decides
	}

	arch, _ := shown.ModelInfo["general.architecture"].(string)
	trained, _ := shown.ModelInfo[arch+".context_length"].(float64)
	m.Trained = int(trained)

	metadata, err := s.Vocabulary(ctx, name)
	if err != nil {
		return nil, err
	}

	// Without one the tokens are estimated; what is known of the model so far is worth keeping.
	m.Vocabulary, _ = vocabulary.New(metadata)
	return m, nil
}

// number reads a parameter, which may be written as a float; 0 is none.
func number(text string) int {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1<<30 {
		return 0
	}
	return int(f)
}

var errUnknown = errors.New("nothing is known of the model")

// render returns the prompt that Ollama's /api/chat makes of the messages and tools.
func (m *Model) render(messages []api.Message, tools api.Tools) (prompt string, err error) {
	if m == nil {
		return "", errUnknown
	}

	defer func() {
		if p := recover(); p != nil { // of text/template; it does so in Ollama as well
			err = fmt.Errorf("render the prompt: %v", p)
		}
	}()

	all := slices.Clone(m.messages)
	if m.system != "" && (len(messages) == 0 || messages[0].Role != "system") {
		all = slices.Insert(all, 0, api.Message{Role: "system", Content: m.system})
	}

	all = append(all, messages...) // a copy: the template joins neighbours of one role in place
	var think *api.ThinkValue
	if m.thinks {
		think = &api.ThinkValue{Value: true}
	}
	if m.renderer != "" {
		return renderers.RenderWithRenderer(m.renderer, all, tools, think)
	}

	var b bytes.Buffer
	values := template.Values{Messages: all, Tools: tools, Think: m.thinks, IsThinkSet: m.thinks}
	err = m.template.Execute(&b, values)
	return b.String(), err
}

// Led returns the messages led by the model's own SYSTEM prompt. Ollama puts it before them, but not
// if the first of them is a system's: so it becomes the beginning of that one. It reports false if
// nothing is known of the model, so that its SYSTEM prompt would be lost.
func (m *Model) Led(messages []api.Message) (led []api.Message, ok bool) {
	switch {
	case messages[0].Role != "system":
		return messages, true
	case m == nil:
		return nil, false
	case m.system == "":
		return messages, true
	}

	led = slices.Clone(messages)
	led[0].Content = m.system + "\n\n" + led[0].Content
	return led, true
}

// Between returns the prompt that Ollama's /api/generate makes of a text before and one after what
// the model is to write.
func (m *Model) Between(before, after string) (prompt string, err error) {
	if m == nil {
		return "", errUnknown
	}

	var b bytes.Buffer
	values := template.Values{Prompt: before, Suffix: after, Think: m.thinks, IsThinkSet: m.thinks}
	err = m.template.Execute(&b, values)
	return b.String(), err
}

// Neutralise breaks up what is a control token of the model in a person's text.
func (m *Model) Neutralise(text string) string {
	if m == nil {
		return (*vocabulary.Vocabulary)(nil).Neutralise(text)
	}
	return m.Vocabulary.Neutralise(text)
}

// Exact reports whether the tokens of a prompt are counted; else they are estimated.
func (m *Model) Exact() bool { return m != nil && m.Vocabulary.Exact() }

// Context returns how many tokens the model's context holds, prompt and answer together. loaded is
// that of the model in memory, 0 when it is in none: it counts where the model sets no num_ctx, and
// Ollama chooses by the memory of the GPU.
func (m *Model) Context(loaded int) int {
	if m == nil {
		return cmp.Or(loaded, minContext)
	}

	n := cmp.Or(m.NumCtx, loaded, minContext)
	if m.Trained > 0 {
		n = min(n, m.Trained)
	}

	return n
}

// minContext is what Ollama chooses on a machine without a large GPU.
const minContext = 4096

// parsers are those of Ollama's parsers that take the text after an assistant's last message for
// the answer, whole. Others begin with the model's reasoning, whatever was said already.
var parsers = map[string]bool{
	"":                  true,
	"passthrough":       true,
	"harmony":           true,
	"cogito":            true,
	"deepseek3":         true,
	"ministral":         true,
	"nemotron-3-nano":   true,
	"olmo3":             true,
	"olmo3-think":       true,
	"qwen3-coder":       true,
	"qwen3-vl-instruct": true,
	"qwen3-vl-thinking": true,
	"lfm2":              true,
	"lfm2-thinking":     true,
}

// Parsers returns their names.
func Parsers() []string { return slices.Sorted(maps.Keys(parsers)) }

// Continues reports whether the model goes on from the last message, an assistant's: whether the
// prompt ends with exactly its text, with no end of the turn after it.
func (m *Model) Continues(messages []api.Message) bool {
	text := messages[len(messages)-1].Content
	if m == nil || !parsers[m.parser] || text == "" {
		return false
	}

	prompt, err := m.render(messages, nil)
	if err != nil || !strings.HasSuffix(prompt, text) {
		return false
	}

	// The text must be there as the end of the assistant's turn: without it the prompt ends
	// otherwise, and nothing else in it changes the end.
	other := slices.Clone(messages)
	other[len(other)-1].Content = probe
	prompt, err = m.render(other, nil)
	return err == nil && strings.HasSuffix(prompt, probe)
}

// probe is a text that no template has in it.
const probe = "\u2063seam\u2063"
