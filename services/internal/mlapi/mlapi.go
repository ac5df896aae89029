// Package mlapi describes the HTTP API between the ml service and its clients.
//
// POST /chat and POST /generate answer with application/x-ndjson: one Chunk a line, the last one
// with Done or Error. A stream that ends without either was cut and is an error. Before the
// first line a refusal is an RFC 9457 problem: 400 invalid, 404 no such model, 413 a message
// that alone does not fit the model's context (problem.TypeTooLong), 429 queue full
// (Retry-After, queue_position), 503 model not ready or draining (problem.TypeDraining). A
// stream may also end with the error draining while it waits for its turn: nothing was produced,
// so the request may be sent again.
package mlapi

import "github.com/codexcontinue/codexcontinue/services/internal/problem"

// NDJSON is the media type of a stream of chunks.
const NDJSON = "application/x-ndjson"

// Message is one turn of a conversation. Role is system, user or assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// ChatRequest asks for the next assistant message. An empty Model means the default model.
//
// The last message is the user's, or the assistant's: the text so far, not empty, of an answer that
// was cut. The answer continues from there if the model's template can do that; if it cannot, the
// first chunk has Again.
type ChatRequest struct {
	Model    string         `json:"model,omitempty"`
	Messages []Message      `json:"messages"`
	Options  map[string]any `json:"options,omitempty"`
}

// GenerateRequest asks for the continuation of one prompt.
type GenerateRequest struct {
	Model   string         `json:"model,omitempty"`
	Prompt  string         `json:"prompt"`
	System  string         `json:"system,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// Chunk is one line of an answer.
type Chunk struct {
	// Queue is the request's place in the queue, 1 is next. It is sent when it changes while the
	// request waits for its turn.
	Queue int `json:"queue,omitempty"`

	// LeftOut is how many of the request's oldest messages were left out because the model's
	// context does not hold them. It is sent at most once, before any text.
	LeftOut int `json:"left_out,omitempty"`

	// Again is set if the text so far could not be continued: what follows is the answer from its
	// beginning. It is sent at most once, before any text.
	Again bool `json:"again,omitempty"`

	// Thinking is what the model added to its reasoning, which is not part of the answer.
	Thinking string `json:"thinking,omitempty"`

	// Text is what the model added.
	Text string `json:"text,omitempty"`

	// Done ends a complete answer.
	Done *Done `json:"done,omitempty"`

	// Error ends an answer that could not be completed.
	Error *problem.Problem `json:"error,omitempty"`
}

// Done describes how a complete answer ended.
type Done struct {
	// Model is the model that answered.
	Model string `json:"model"`

	// Reason is stop or length.
	Reason string `json:"reason"`

	// PromptTokens and Tokens count the tokens read and written.
	PromptTokens int `json:"prompt_tokens"`
	Tokens       int `json:"tokens"`

	// QueueMS, LoadMS, PromptMS and EvalMS are durations in milliseconds: waiting for a turn,
	// loading the model, reading the prompt, writing the answer.
	QueueMS  float64 `json:"queue_ms"`
	LoadMS   float64 `json:"load_ms"`
	PromptMS float64 `json:"prompt_ms"`
	EvalMS   float64 `json:"eval_ms"`
}

// EmbedRequest asks for one vector per input.
type EmbedRequest struct {
	Model string   `json:"model,omitempty"`
	Input []string `json:"input"`
}

// EmbedResponse holds the vectors in the order of the inputs.
type EmbedResponse struct {
	Model        string      `json:"model"`
	Embeddings   [][]float32 `json:"embeddings"`
	PromptTokens int         `json:"prompt_tokens"`
}

// ModelInfo is a model that can be chosen.
type ModelInfo struct {
	Name          string `json:"name"`
	Digest        string `json:"digest"`
	SizeBytes     int64  `json:"size_bytes"`
	Family        string `json:"family,omitempty"`
	ParameterSize string `json:"parameter_size,omitempty"`
	Quantization  string `json:"quantization,omitempty"`

	// Default is set for the stack's custom model, Loaded for a model that is in memory.
	Default bool `json:"default"`
	Loaded  bool `json:"loaded"`
}

// The states of a model build, in their order; failed may follow any.
const (
	BuildPending  = "pending"
	BuildPulling  = "pulling"
	BuildCreating = "creating"
	BuildTesting  = "testing"
	BuildReady    = "ready"
	BuildFailed   = "failed"
)

// Build is the progress of the custom model.
type Build struct {
	Name  string `json:"name"`
	State string `json:"state"`

	// Detail is Ollama's name of the step, such as "pulling manifest".
	Detail string `json:"detail,omitempty"`

	// Completed and Total count bytes of the pull.
	Completed int64 `json:"completed,omitempty"`
	Total     int64 `json:"total,omitempty"`

	// Error tells why the state is failed, and what to do.
	Error string `json:"error,omitempty"`

	// Digest is the digest of the Modelfile, and of what it names, from which the model is built.
	Digest string `json:"digest,omitempty"`
}

// Models is the response of GET /models.
type Models struct {
	Models []ModelInfo `json:"models"`
	Build  Build       `json:"build"`
}
