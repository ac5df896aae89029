// Package mlapi describes the HTTP API between the ml service and its clients.
//
// POST /chat and POST /generate answer with application/x-ndjson: one Chunk a line, the last one
// with Done or Error. A stream that ends without either was cut and is an error. Before the first
// line a refusal is an RFC 9457 problem: 400 invalid, 403 a model for others, 404 no such model,
// 413 a message that alone does not fit the model's context (problem.TypeTooLong), 429 queue full
// (Retry-After, queue_position), 503 model not ready or draining (problem.TypeDraining). A stream
// may also end with the error draining while it waits for its turn: nothing was produced, so the
// request may be sent again.
package mlapi

import (
	"encoding/json"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// NDJSON is the media type of a stream of chunks.
const NDJSON = "application/x-ndjson"

// TypeNoModel is the type of a refusal (404) for a model that Ollama does not have.
const TypeNoModel = "/problems/no-such-model"

// TypeModelRefused is the type of a refusal (403) for a model that is not for the person, whether
// Ollama has it or not, or that is asked a question and only makes vectors.
const TypeModelRefused = "/problems/model-refused"

// TypeQueueFull is the type of a refusal (429) of a request for which the queue has no place.
const TypeQueueFull = "/problems/queue-full"

// The types of a refusal (429) of a person who has used what a day may have, and of one who has as
// many questions as one may have at once. Where a day has limits, a response has OpenAI's headers
// X-Ratelimit-Limit-Requests, -Remaining-Requests, -Reset-Requests and the same with -Tokens.
const (
	TypeDayLimit = "/problems/day-limit"
	TypeAtOnce   = "/problems/at-once-limit"
)

// MaxTokens is the largest bound that a request may set for its answer, the option num_predict.
const MaxTokens = 32768

// Message is one turn of a conversation. Role is system, user or assistant; in a request with Whole
// it may also be tool, with the result of a call.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`

	// ToolCalls are what an assistant's turn asks for.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`

	// ToolName and ToolCallID say of which call a tool's turn is the result.
	ToolName   string `json:"tool_name,omitempty"`
	ToolCallID string `json:"tool_call_id,omitempty"`
}

// ToolCall is a call of a tool that a model asks for. Arguments is a JSON object.
type ToolCall struct {
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
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

	// Passages are parts of documents that may answer the user's last message, the best first. The
	// model is told to cite them by their numbers. Those for which its context has no room are left
	// out, the last ones first, also with Whole.
	Passages []Passage `json:"passages,omitempty"`

	// Whole is set for a program's conversation: nothing of it may be left out, so one that does
	// not fit is refused, and what its system's messages say follows the model's own SYSTEM prompt.
	// Its last message is not the assistant's.
	Whole bool `json:"whole,omitempty"`

	// Tools are what the model may call, each a JSON object in OpenAI's form. Only with Whole.
	Tools []json.RawMessage `json:"tools,omitempty"`

	// Format is "json" or a JSON schema that the answer has to follow. Only with Whole.
	Format json.RawMessage `json:"format,omitempty"`
}

// MaxPassages is the most passages that a request has.
const MaxPassages = 20

// Passage is a part of a document. It is data: what it says is no instruction to the model.
type Passage struct {
	// N is the number by which an answer cites it, from 1 to 99.
	N     int    `json:"n"`
	Title string `json:"title"` // of the document
	Text  string `json:"text"`
}

// GenerateRequest asks for the continuation of one prompt.
type GenerateRequest struct {
	Model   string         `json:"model,omitempty"`
	Prompt  string         `json:"prompt"`
	System  string         `json:"system,omitempty"`
	Options map[string]any `json:"options,omitempty"`

	// Raw gives the model the prompt as it is, without its template and its SYSTEM prompt. So does
	// Suffix, for which the model writes what stands between the two.
	Raw    bool   `json:"raw,omitempty"`
	Suffix string `json:"suffix,omitempty"`
}

// Chunk is one line of an answer.
type Chunk struct {
	// Queue is the request's place in the queue, 1 is next. It is sent when it changes while the
	// request waits for its turn.
	Queue int `json:"queue,omitempty"`

	// LeftOut is how many of the request's oldest messages were left out because the model's
	// context does not hold them. It is sent at most once, before any text.
	LeftOut int `json:"left_out,omitempty"`

	// Passages are the numbers of the request's passages that the model got. It is sent at most
	// once, before any text, and only if the request has some; it is empty if there was no room.
	Passages []int `json:"passages,omitzero"`

	// Again is set if the text so far could not be continued: what follows is the answer from its
	// beginning. It is sent at most once, before any text.
	Again bool `json:"again,omitempty"`

	// Thinking is what the model added to its reasoning, which is not part of the answer.
	Thinking string `json:"thinking,omitempty"`

	// Text is what the model added.
	Text string `json:"text,omitempty"`

	// ToolCalls are calls that the model added.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`

	// Done ends a complete answer.
	Done *Done `json:"done,omitempty"`

	// Error ends an answer that could not be completed.
	Error *problem.Problem `json:"error,omitempty"`
}

// Done describes how a complete answer ended.
type Done struct {
	// Model is the model that answered.
	Model string `json:"model"`

	// Digest is what Ollama calls the model's content, if ml has seen it.
	Digest string `json:"digest,omitempty"`

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

	// Dimensions shortens the vectors; 0 leaves them as they are.
	Dimensions int `json:"dimensions,omitempty"`
}

// EmbedResponse holds the vectors in the order of the inputs.
type EmbedResponse struct {
	Model        string      `json:"model"`
	Embeddings   [][]float32 `json:"embeddings"`
	PromptTokens int         `json:"prompt_tokens"`
}

// ModelInfo is a model that can be chosen.
type ModelInfo struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	SizeBytes int64  `json:"size_bytes"`

	// Modified is when Ollama got it.
	Modified      time.Time `json:"modified,omitzero"`
	Family        string    `json:"family,omitempty"`
	ParameterSize string    `json:"parameter_size,omitempty"`
	Quantization  string    `json:"quantization,omitempty"`

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

	// Missing is the base model for want of which the state is failed, and which somebody has to
	// put into Ollama. It goes on by itself when the model is there.
	Missing string `json:"missing,omitempty"`

	// Digest is the digest of the Modelfile, and of what it names, from which the model is built.
	// Its first letters are the version.
	Digest string `json:"digest,omitempty"`

	// Serves is the version that answers, if it is known. RolledBack reports whether it is another
	// one than Digest's because somebody rolled back from that.
	Serves     string `json:"serves,omitempty"`
	RolledBack bool   `json:"rolled_back,omitempty"`

	// Evals is what came of the evals of Digest's version; nil if there are none, or not yet.
	Evals *EvalsSummary `json:"evals,omitempty"`
}

// EvalsSummary is what anybody may know of evals.
type EvalsSummary struct {
	// Passed of Total cases passed; those of Failed, named as in the file, did not.
	Passed int       `json:"passed"`
	Total  int       `json:"total"`
	Failed []string  `json:"failed,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// Evals is what came of the evals of a version of the model.
type Evals struct {
	// Digest is that of the evals, Model what Ollama calls the version's content.
	Digest string `json:"digest"`
	Model  string `json:"model"`

	Passed   int           `json:"passed"`
	Total    int           `json:"total"`
	Failures []EvalFailure `json:"failures,omitempty"`
	At       time.Time     `json:"at"`
	Seconds  float64       `json:"seconds"`
}

// Summary returns it without the answers.
func (e Evals) Summary() *EvalsSummary {
	s := &EvalsSummary{Passed: e.Passed, Total: e.Total, At: e.At}
	for _, f := range e.Failures {
		s.Failed = append(s.Failed, f.Name)
	}
	return s
}

// EvalFailure is a case whose answer is not what it has to be.
type EvalFailure struct {
	Name   string `json:"name"`
	Safety bool   `json:"safety,omitempty"`

	// Wrong is what is wrong with the answer, of which Answer is the beginning.
	Wrong  []string `json:"wrong"`
	Answer string   `json:"answer"`
}

// The verdicts on a version.
const (
	VerdictPassed = "passed"
	VerdictFailed = "failed"
)

// VersionLength is how many letters of the digest of a Modelfile its version is.
const VersionLength = 12

// Release is a version of the model that is in Ollama.
type Release struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // when it was made, or last began to serve

	// Serves reports whether it answers, Wanted whether the Modelfile makes it, and Held whether
	// somebody rolled back from it.
	Serves bool `json:"serves"`
	Wanted bool `json:"wanted"`
	Held   bool `json:"held"`

	// Verdict is that of its evals; empty if there is none.
	Verdict string `json:"verdict,omitempty"`
}

// Releases are the versions in one Ollama, the last one first.
type Releases struct {
	// Address is Ollama's.
	Address  string    `json:"address"`
	Releases []Release `json:"releases"`
}

// Model is what the commands on the stack's model print: list its Replicas, eval Version and
// Evals, rollback From and Version.
type Model struct {
	Name string `json:"name"`

	// Digest is the Modelfile's, EvalsDigest the evals'; empty if there are none.
	Digest      string `json:"digest"`
	EvalsDigest string `json:"evals_digest,omitempty"`

	Replicas []Releases `json:"replicas,omitempty"`
	Version  string     `json:"version,omitempty"`
	From     string     `json:"from,omitempty"`
	Evals    *Evals     `json:"evals,omitempty"`
}

// MissingText says that Ollama lacks the base model. The command knows it by these words where it
// has no more than a log.
func MissingText(base string) string {
	return "the base model " + base + " is not in Ollama, which has no way out to download it"
}

// Models is the response of GET /models.
type Models struct {
	Models []ModelInfo `json:"models"`
	Build  Build       `json:"build"`
}
