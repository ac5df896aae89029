package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
)

// chatRequest is a request for the next turn of a conversation.
type chatRequest struct {
	sampling
	Model               string            `json:"model"`
	Messages            []message         `json:"messages"`
	MaxCompletionTokens *int              `json:"max_completion_tokens"`
	ResponseFormat      *responseFormat   `json:"response_format"`
	Tools               []json.RawMessage `json:"tools"`
	ToolChoice          any               `json:"tool_choice"`
	ParallelToolCalls   *bool             `json:"parallel_tool_calls"`

	// Knowledge is set if the answer shall rest on documents.
	Knowledge bool `json:"knowledge"`
}

// message is one turn.
type message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCalls  []toolCall      `json:"tool_calls"`
	ToolCallID string          `json:"tool_call_id"`
}

// toolCall is a call of a function that a model asks for. Arguments is the text of a JSON object.
type toolCall struct {
	Index    *int   `json:"index,omitempty"` // in a stream
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// responseFormat is the form that an answer has to have.
type responseFormat struct {
	Type       string `json:"type"`
	JSONSchema *struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// maxName bounds the name of a function.
const maxName = 64

// function is the name of a function that a model may call.
var function = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// chat answers /v1/chat/completions.
func (s *service) chat(w http.ResponseWriter, r *http.Request, owner string) error {
	var req chatRequest
	if err := decode(r, chatRules, &req); err != nil {
		return err
	}

	ask, err := req.ask()
	if err != nil {
		return err
	}

	a := &answer{
		id: "chatcmpl-", object: "chat.completion", chunk: "chat.completion.chunk",
		model: req.Model, prompt: "messages", form: chatForm{},
		oneCall: req.ParallelToolCalls != nil && !*req.ParallelToolCalls,
	}
	if req.Knowledge {
		query, err := s.query(ask)
		if err != nil {
			return err
		}
		a.find = func(ctx context.Context) ([]sources.Passage, error) {
			found, err := s.find(ctx, owner, query)
			ask.Passages = sources.ForModel(found)
			return found, err
		}
	}

	how := req.sampling // the rest of the request is not held while ml answers
	return s.answer(w, r, owner, &how, a, "/chat", ask)
}

// ask returns what ml is asked for.
func (r *chatRequest) ask() (*mlapi.ChatRequest, error) {
	if r.Model == "" {
		return nil, invalid("model", "model must name a model: GET /v1/models lists them.")
	}
	if r.MaxCompletionTokens != nil {
		if *r.MaxCompletionTokens < 1 { // ml's refusal would name max_tokens
			return nil, invalid("max_completion_tokens", "max_completion_tokens must be 1 or more.")
		}
		r.MaxTokens = r.MaxCompletionTokens
	}

	out := &mlapi.ChatRequest{Model: r.Model, Whole: true, Options: r.options()}
	names := map[string]string{} // of the functions, by the ids of their calls
	for i := range r.Messages {
		m, err := r.Messages[i].turn(fmt.Sprintf("messages[%d]", i), names)
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, m)
	}

	if last := len(r.Messages) - 1; last < 0 || r.Messages[last].Role == "assistant" {
		return nil, invalid("messages", "messages must end with one that is to be answered, "+
			"which the assistant's is not.")
	}

	if err := r.checkTools(); err != nil {
		return nil, err
	}
	if r.ToolChoice != "none" {
		out.Tools = r.Tools
	}

	var err error
	out.Format, err = r.ResponseFormat.format()
	return out, err
}

// checkTools returns a fault for a tool that is no function, and for a choice that the models cannot
// be held to.
func (r *chatRequest) checkTools() error {
	for i, raw := range r.Tools {
		var t struct {
			Type     string
			Function struct{ Name string }
		}
		at := fmt.Sprintf("tools[%d]", i)
		switch err := json.Unmarshal(raw, &t); {
		case err != nil:
			return invalid(at, "%s is no tool.", at)
		case t.Type != "function":
			return refused(at+".type", "%s.type must be function.", at)
		case !function.MatchString(t.Function.Name):
			return invalid(at+".function.name",
				"%s.function.name must be 1 to 64 letters, digits, _ and -.", at)
		}
	}

	switch r.ToolChoice {
	case nil, "none", "auto":
		return nil
	}

	return refused("tool_choice", "tool_choice can be auto and none: the models cannot be made to "+
		"call a tool.")
}

// format returns ml's format.
func (f *responseFormat) format() (json.RawMessage, error) {
	switch {
	case f == nil || f.Type == "text":
		return nil, nil
	case f.Type == "json_object":
		return json.RawMessage(`"json"`), nil
	case f.Type != "json_schema":
		return nil, refused("response_format.type",
			"response_format.type can be text, json_object and json_schema.")
	case f.JSONSchema == nil || !bytes.HasPrefix(bytes.TrimSpace(f.JSONSchema.Schema), []byte("{")):
		return nil, invalid("response_format.json_schema.schema",
			"response_format.json_schema.schema must be a JSON schema.")
	}

	return f.JSONSchema.Schema, nil
}

// turn returns the message as ml has it. names are those of the functions that were called so far.
func (m *message) turn(at string, names map[string]string) (out mlapi.Message, err error) {
	out.Role = m.Role
	if out.Content, err = text(at+".content", m.Content); err != nil {
		return out, err
	}

	switch m.Role {
	case "developer":
		out.Role = "system"
	case "system", "user":
	case "assistant":
		out.ToolCalls, err = m.calls(at, names)
	case "tool":
		name, ok := names[m.ToolCallID]
		if !ok {
			return out, invalid(at+".tool_call_id",
				"%s.tool_call_id is the id of no call in a message before it.", at)
		}
		out.ToolCallID, out.ToolName = m.ToolCallID, name
	default:
		return out, refused(at+".role", "%s.role can be system, developer, user, assistant and tool.",
			at)
	}

	return out, err
}

// calls returns the calls of an assistant's message, and adds their names to those of before.
func (m *message) calls(at string, names map[string]string) ([]mlapi.ToolCall, error) {
	var out []mlapi.ToolCall
	for i, c := range m.ToolCalls {
		at := fmt.Sprintf("%s.tool_calls[%d]", at, i)
		if c.Type != "" && c.Type != "function" {
			return nil, refused(at+".type", "%s.type must be function.", at)
		}

		arguments := strings.TrimSpace(c.Function.Arguments)
		if arguments == "" {
			arguments = "{}"
		}
		if arguments[0] != '{' || !json.Valid([]byte(arguments)) {
			return nil, invalid(at+".function.arguments",
				"%s.function.arguments must be the text of a JSON object.", at)
		}
		if len(c.Function.Name) > maxName { // each result of the call repeats it
			return nil, invalid(at+".function.name",
				"%s.function.name must have %d characters at most.", at, maxName)
		}

		names[c.ID] = c.Function.Name
		out = append(out, mlapi.ToolCall{
			ID: c.ID, Name: c.Function.Name, Arguments: json.RawMessage(arguments),
		})
	}

	return out, nil
}

// text returns a message's content: a text, or the texts of its parts.
func text(at string, content json.RawMessage) (string, error) {
	var one *string
	if len(content) == 0 || json.Unmarshal(content, &one) == nil {
		if one == nil {
			return "", nil
		}
		return *one, nil
	}

	var parts []struct{ Type, Text, Refusal string }
	if err := json.Unmarshal(content, &parts); err != nil {
		return "", invalid(at, "%s must be a text or a list of parts.", at)
	}

	texts := make([]string, len(parts))
	for i, p := range parts {
		switch p.Type {
		case "text":
			texts[i] = p.Text
		case "refusal":
			texts[i] = p.Refusal
		default:
			at := fmt.Sprintf("%s[%d].type", at, i)
			return "", refused(at, "%s can be text: images, sounds and files are not taken.", at)
		}
	}

	return strings.Join(texts, "\n\n"), nil
}
