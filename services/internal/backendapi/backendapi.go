// Package backendapi describes the backend's REST API, its JSON and its event streams. The
// frontend is a client of it.
//
//	POST   /api/chat                        start an answer      202 Generation, or with
//	                                        Accept: text/event-stream its events; with replaces
//	                                        in the place of the last ones
//	GET    /api/generations/{id}/events     the events of an answer; Last-Event-ID resumes
//	DELETE /api/generations/{id}            stop it (204; also when it has ended)
//	POST   /api/conversations               create               201 Conversation
//	GET    /api/conversations?limit&cursor&q  list, newest first, or search  200 ConversationPage
//	GET    /api/conversations/{id}?limit&before  read with its last messages  200 ConversationDetail
//	GET    /api/conversations/{id}/export?format  all of it in a file: markdown or json
//	PATCH  /api/conversations/{id}          rename               200 Conversation
//	DELETE /api/conversations/{id}          delete               204
//	GET    /api/passages/{id}               a source of an answer, to read
//	GET    /api/models                      200 mlapi.Models
//	GET    /api/status                      200 Status
//
// Every request may carry wire.OwnerHeader: conversations and generations belong to an owner and no
// other can see them. Without the header the owner is "public". The frontend sets it from the
// browser's session cookie and never passes on one that the browser sent.
//
// A message that replaces the end of a conversation is how a question is asked again, as it was or
// in other words. Nothing is replaced while an answer is being written (409), nor if the
// conversation does not end any more as the request says (409, TypeChanged).
//
// A message and a new conversation may carry wire.KeyHeader, 1 to 64 letters, digits, dashes
// and underscores, made by the client: sent again with the same key, because the reply was
// lost, it is still one message, and the reply is that of the first time. A key is remembered
// for an hour at least.
//
// An answer is a job of the backend: a reader that goes away does not cancel it; DELETE does. Its
// events have the ids of a Redis stream, so a reader resumes with Last-Event-ID where it was. The
// event's name is the type below, its data the JSON of the struct of that name.
package backendapi

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// MaxMessage is the greatest length of one message in bytes.
const MaxMessage = 64 << 10

// MaxTitle is the greatest length of a conversation's title in characters.
const MaxTitle = 200

// The names of an answer's events. Exactly one of EventDone, EventError and
// EventStopped comes last.
const (
	EventStart    = "start"    // Start
	EventQueue    = "queue"    // Queue
	EventHistory  = "history"  // History
	EventSources  = "sources"  // Sources: before the first word, where the stack has documents
	EventThinking = "thinking" // Delta: of the model's reasoning, which is not part of the answer
	EventDelta    = "delta"    // Delta
	EventDone     = "done"     // mlapi.Done
	EventError    = "error"    // problem.Problem
	EventStopped  = "stopped"  // {}
)

// Final reports whether the event is the last of an answer.
func Final(name string) bool {
	return name == EventDone || name == EventError || name == EventStopped
}

// TypeChanged is the type of a refusal (409): the conversation does not end any more with what the
// message should replace.
const TypeChanged = "/problems/conversation-changed"

// ChatRequest sends a message. Without a conversation one is created, titled by
// the message's beginning.
type ChatRequest struct {
	ConversationID string `json:"conversation_id,omitempty"`
	Model          string `json:"model,omitempty"`
	Message        string `json:"message"`

	// Replaces is the end of the conversation that this message takes the place of. With it the
	// message may be empty: then the first question that goes is asked again.
	Replaces *Replaces `json:"replaces,omitempty"`
}

// Replaces names answers, which go together with their questions: those from one to the
// conversation's last. What has come after the last one that a person saw is never dropped so.
type Replaces struct {
	From string `json:"from" doc:"The generation_id of the first answer that goes"`
	To   string `json:"to" doc:"The generation_id of the last one, the conversation's last"`
}

// Generation names an answer that was started.
type Generation struct {
	ID             string `json:"id"`
	ConversationID string `json:"conversation_id"`
}

// Start is the first event of an answer.
type Start struct {
	GenerationID   string `json:"generation_id"`
	ConversationID string `json:"conversation_id"`
	Title          string `json:"title"`
	Model          string `json:"model"`
}

// Queue is the answer's place among those that wait for the model: 1 is next.
type Queue struct {
	Position int `json:"position"`
}

// History is sent when the model did not get all of the conversation.
type History struct {
	// LeftOut is how many of the oldest messages the model's context does not hold.
	LeftOut int `json:"left_out"`
}

// Sources are what an answer may rest on. They are empty if nothing was found.
type Sources struct {
	// Sources are the passages that the model got. The answer cites them by their numbers, as in
	// [1].
	Sources []Source `json:"sources,omitempty"`

	// LeftOut is how many more were found, for which the model's context has no room.
	LeftOut int `json:"left_out,omitempty"`

	// Unsearched is set if the documents could not be searched, so that the model got none.
	Unsearched bool `json:"unsearched,omitempty"`
}

// Source is a passage of a document. What it says is not kept with an answer: who opens it is asked
// anew whether it is theirs to read.
type Source struct {
	N          int    `json:"n"` // the number that stands for it in the answer
	PassageID  string `json:"passage_id"`
	Collection string `json:"collection"`
	File       string `json:"file"`
	Title      string `json:"title"`
	Heading    string `json:"heading,omitempty"` // the path of headings above it
	Page       int    `json:"page,omitempty"`    // the one that it begins on, from 1
}

// Delta is text that the model added.
type Delta struct {
	Text string `json:"text"`
}

// Conversation is a conversation without its messages.
type Conversation struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Model     string    `json:"model"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// Found is where the words of a search are. It is set in a search's results only.
	Found *Found `json:"found,omitempty"`
}

// Found shows where the words of a search are in a conversation: in its title, and in an excerpt of
// the message that has the most of those that the title lacks.
type Found struct {
	Title   []Piece `json:"title"`
	Excerpt []Piece `json:"excerpt,omitempty"`
}

// Piece is a part of a text. Hit is set if it is one of the words that were looked for.
type Piece struct {
	Text string `json:"text"`
	Hit  bool   `json:"hit,omitempty"`
}

// The states of a message. Only an assistant's message is ever anything but complete.
const (
	MessageComplete  = "complete"
	MessageStreaming = "streaming"
	MessageStopped   = "stopped"
	MessageFailed    = "failed"
)

// Message is one turn.
type Message struct {
	ID string `json:"id"`

	// Role is user or assistant.
	Role    string `json:"role"`
	Content string `json:"content"`
	Model   string `json:"model,omitempty"`
	State   string `json:"state"`

	// Digest is what Ollama calls the content of the model that wrote the answer, if it is known.
	Digest string `json:"digest,omitempty"`

	// Thinking is the model's reasoning, which is not part of the answer.
	Thinking string `json:"thinking,omitempty"`

	// LeftOut is how many of the conversation's oldest messages the model did
	// not get for this answer.
	LeftOut int `json:"left_out,omitempty"`

	// Sources are what an answer may rest on; nil where the stack has no documents.
	Sources *Sources `json:"sources,omitempty"`

	// GenerationID is the answer's job, set on assistant messages. A page with a streaming
	// message follows its events.
	GenerationID string `json:"generation_id,omitempty"`

	// Error tells why the state is failed.
	Error     *problem.Problem `json:"error,omitempty"`
	CreatedAt time.Time        `json:"created_at"`
}

// ConversationDetail is a conversation with a page of its messages, oldest first: the last ones, or
// those before a cursor.
type ConversationDetail struct {
	Conversation
	Messages []Message `json:"messages"`

	// Earlier is the cursor (before) of the page before these messages; empty if there is none.
	Earlier string `json:"earlier,omitempty"`

	// Ratings are the verdicts on answers by the answers' ids.
	Ratings map[string]string `json:"ratings,omitempty"`
}

// All is all that an owner has.
type All struct {
	Conversations []ConversationDetail `json:"conversations"`

	// Submissions are what the owner has handed over for review.
	Submissions []Submission `json:"submissions"`
}

// Take is the body of POST /api/conversations/take.
type Take struct {
	// From is a token in the name of the owner whose conversations are taken.
	From string `json:"from" minLength:"1" maxLength:"4096" doc:"A token in the other owner's name"`
}

// ConversationPage is a page of the list. Next is empty on the last one.
type ConversationPage struct {
	Conversations []Conversation `json:"conversations"`
	Next          string         `json:"next,omitempty"`

	// Partial is set if a search ended for want of time, and not because the page is full. Next
	// goes on with it.
	Partial bool `json:"partial,omitempty"`
}

// MaxQuery is the greatest length of a search's query in characters.
const MaxQuery = 200

// Rename is the body of PATCH.
type Rename struct {
	Title string `json:"title"`
}

// The states of a stack and of a service.
const (
	StatusReady    = "ready"
	StatusDegraded = "degraded"
	StatusDown     = "down"
)

// Status is the response of GET /api/status.
type Status struct {
	// Status is ready if every service is ready and the model can be used, else degraded.
	Status   string          `json:"status"`
	Services []ServiceStatus `json:"services"`
	Model    mlapi.Build     `json:"model"`
}

// ServiceStatus is the state of one service as the backend sees it: backend, redis, ml, ollama.
type ServiceStatus struct {
	Name   string `json:"name"`
	Status string `json:"status"`

	// Detail tells a person what is wrong.
	Detail string `json:"detail,omitempty"`

	// LatencyMS is how long the check took, in milliseconds.
	LatencyMS float64 `json:"latency_ms"`
}
