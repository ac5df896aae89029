package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/ollama/ollama/api"
)

// maxMessages and maxTools bound what a program sends: a template's work grows with their square.
const (
	maxMessages = 4096
	maxTools    = 256
)

// checkWhole returns what is wrong with a program's conversation, or nil.
func checkWhole(req *mlapi.ChatRequest) *problem.Problem {
	switch {
	case len(req.Messages) > maxMessages:
		return invalid("body.messages", "must be %d at most", maxMessages)
	case len(req.Tools) > maxTools:
		return invalid("body.tools", "must be %d at most", maxTools)
	}

	for i, m := range req.Messages {
		switch m.Role {
		case "system", "user", "assistant", "tool":
		default:
			return invalid(fmt.Sprintf("body.messages[%d].role", i),
				"%q is none of system, user, assistant, tool", m.Role)
		}

		if len(m.ToolCalls) > 0 && m.Role != "assistant" {
			return invalid(fmt.Sprintf("body.messages[%d].tool_calls", i),
				"only the assistant calls tools")
		}
	}

	last := len(req.Messages) - 1
	if last < 0 || req.Messages[last].Role == "assistant" {
		return invalid("body.messages", "the last message must not be the assistant's")
	}

	format := bytes.TrimSpace(req.Format)
	if len(format) > 0 && format[0] != '{' && string(format) != `"json"` {
		return invalid("body.format", `must be "json" or a JSON schema`)
	}

	return nil
}

// prepareWhole makes the job of a program's conversation. It refuses one that does not fit; where
// the context or the tokenizer is not known, that is left to Ollama.
func (s *service) prepareWhole(ctx context.Context, req *mlapi.ChatRequest) (*job, error) {
	k, err := s.measure(ctx, req.Model, req.Options)
	if err != nil {
		return nil, err
	}

	messages := make([]api.Message, len(req.Messages))
	for i, x := range req.Messages {
		// The stack's own words are in the model alone, so these are all a client's.
		messages[i] = api.Message{
			Role:       x.Role,
			Content:    k.m.Neutralise(x.Content),
			ToolName:   k.m.Neutralise(x.ToolName),
			ToolCallID: k.m.Neutralise(x.ToolCallID),
		}
		for n, c := range x.ToolCalls {
			call := api.ToolCall{ID: k.m.Neutralise(c.ID)}
			call.Function.Index, call.Function.Name = n, k.m.Neutralise(c.Name)
			if err := decodeNeutral(k.m, c.Arguments, &call.Function.Arguments); err != nil {
				return nil, invalid(fmt.Sprintf("body.messages[%d].tool_calls[%d].arguments", i, n),
					"must be a JSON object: %v", err)
			}
			messages[i].ToolCalls = append(messages[i].ToolCalls, call)
		}
	}

	tools := make(api.Tools, len(req.Tools))
	for i, raw := range req.Tools {
		if err := decodeNeutral(k.m, raw, &tools[i]); err != nil {
			return nil, invalid(fmt.Sprintf("body.tools[%d]", i), "is no tool: %v", err)
		}
	}

	j := &job{
		model: k.name, key: beginning(messages), options: req.Options,
		whole: true, tools: tools, format: req.Format, quotes: len(req.Passages) > 0,
	}

	led, ok := k.m.Led(messages)
	if !ok {
		p := problem.Typed("/problems/model-not-ready", http.StatusServiceUnavailable,
			"The model's own SYSTEM prompt is not known yet, which the request's has to follow.")
		p.RetryAfter = 3
		return nil, p
	}

	j.messages, j.passages = led, passagesOf(k.m, req.Passages)
	for {
		err := k.m.Check(prompt.Quote(led, j.passages), tools, k.size-k.reserve)
		switch last := len(j.passages) - 1; {
		case err == nil:
			return j, nil
		case last >= 0:
			j.passages = j.passages[:last]
		case k.sure:
			return nil, err
		default:
			return j, nil
		}
	}
}

// prepareText makes the job of a text that is completed without the model's template, or of one
// between which and its suffix the model writes. It refuses what does not fit, as prepareWhole does.
func (s *service) prepareText(ctx context.Context, req *mlapi.GenerateRequest) (*job, error) {
	k, err := s.measure(ctx, req.Model, req.Options)
	if err != nil {
		return nil, err
	}

	j := &job{model: k.name, options: req.Options, whole: true, prompt: req.Prompt}
	j.key = j.prompt[:min(len(j.prompt), textKey)]
	text := j.prompt
	if req.Suffix != "" {
		// The template marks what is before and what after, which a control token in it would move.
		j.prompt, j.suffix = k.m.Neutralise(req.Prompt), k.m.Neutralise(req.Suffix)
		if text, err = k.m.Between(j.prompt, j.suffix); err != nil {
			text = j.prompt + j.suffix
		}
	}

	if err := k.m.CheckText(text, k.size-k.reserve); err != nil && k.sure {
		return nil, err
	}

	return j, nil
}

// textKey is how much of a text, in bytes, tells which replica has its beginning in memory.
const textKey = 1024

// decodeNeutral decodes JSON of a client whose strings have the model's control tokens broken up.
func decodeNeutral(m *prompt.Model, raw json.RawMessage, into any) error {
	var out bytes.Buffer
	rest := []byte(raw)
	for {
		begin := bytes.IndexByte(rest, '"')
		if begin < 0 {
			break
		}

		end := begin + 1
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}

		end = min(end+1, len(rest))
		var text string
		if err := json.Unmarshal(rest[begin:end], &text); err != nil {
			return err
		}

		neutral, err := json.Marshal(m.Neutralise(text))
		if err != nil {
			return err
		}

		out.Write(rest[:begin])
		out.Write(neutral)
		rest = rest[end:]
	}

	out.Write(rest)
	return json.Unmarshal(out.Bytes(), into)
}

// toolCalls returns the calls that a model asks for, as the API has them.
func toolCalls(given []api.ToolCall) ([]mlapi.ToolCall, error) {
	var out []mlapi.ToolCall
	for _, c := range given {
		arguments, err := json.Marshal(c.Function.Arguments)
		if err != nil {
			return nil, fmt.Errorf("the arguments of a call of the model: %w", err)
		}
		out = append(out, mlapi.ToolCall{
			ID: c.ID, Name: c.Function.Name, Arguments: arguments,
		})
	}

	return out, nil
}
