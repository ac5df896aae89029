package openai

import "github.com/codexcontinue/codexcontinue/services/internal/mlapi"

// chatForm is the form of /v1/chat/completions.
type chatForm struct{}

// delta is what a chunk adds to a message.
type delta struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	Reasoning string     `json:"reasoning_content,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type chatChoice struct {
	Index        int     `json:"index"`
	Delta        delta   `json:"delta"`
	Logprobs     *int    `json:"logprobs"` // always null
	FinishReason *string `json:"finish_reason"`
}

func (chatForm) begin() any {
	return chatChoice{Delta: delta{Role: "assistant", Content: new("")}}
}

func (chatForm) add(c *mlapi.Chunk, first int) []any {
	var out []any
	if c.Thinking != "" {
		out = append(out, chatChoice{Delta: delta{Reasoning: c.Thinking}})
	}
	if c.Text != "" {
		out = append(out, chatChoice{Delta: delta{Content: &c.Text}})
	}
	if len(c.ToolCalls) > 0 {
		calls := callsOf(c.ToolCalls)
		for i := range calls {
			calls[i].Index = new(first + i)
		}
		out = append(out, chatChoice{Delta: delta{ToolCalls: calls}})
	}

	return out
}

func (chatForm) end(reason string) any { return chatChoice{FinishReason: &reason} }

func (chatForm) whole(text, thinking string, calls []mlapi.ToolCall, reason string) any {
	type whole struct {
		Role      string     `json:"role"`
		Content   *string    `json:"content"`
		Refusal   *string    `json:"refusal"` // always null
		Reasoning string     `json:"reasoning_content,omitempty"`
		ToolCalls []toolCall `json:"tool_calls,omitempty"`
	}

	m := whole{Role: "assistant", Content: &text, Reasoning: thinking, ToolCalls: callsOf(calls)}
	if text == "" && len(calls) > 0 {
		m.Content = nil
	}

	return struct {
		Index        int    `json:"index"`
		Message      whole  `json:"message"`
		Logprobs     *int   `json:"logprobs"`
		FinishReason string `json:"finish_reason"`
	}{0, m, nil, reason}
}

// callsOf returns calls as a client has them.
func callsOf(given []mlapi.ToolCall) []toolCall {
	out := make([]toolCall, len(given))
	for i, c := range given {
		out[i].ID, out[i].Type = c.ID, "function"
		out[i].Function.Name, out[i].Function.Arguments = c.Name, string(c.Arguments)
	}
	return out
}

// textForm is the form of /v1/completions.
type textForm struct{}

type textChoice struct {
	Index        int     `json:"index"`
	Text         string  `json:"text"`
	Logprobs     *int    `json:"logprobs"` // always null
	FinishReason *string `json:"finish_reason"`
}

func (textForm) begin() any { return nil }

func (textForm) add(c *mlapi.Chunk, _ int) []any {
	if c.Text == "" {
		return nil
	}
	return []any{textChoice{Text: c.Text}}
}

func (textForm) end(reason string) any { return textChoice{FinishReason: &reason} }

func (textForm) whole(text, _ string, _ []mlapi.ToolCall, reason string) any {
	return textChoice{Text: text, FinishReason: &reason}
}
