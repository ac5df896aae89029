package api

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// maxChatBody is the greatest size of a chat request in bytes: a message of which every byte is
// escaped, and the rest.
const maxChatBody = 6*backendapi.MaxMessage + 16<<10

type chatInput struct {
	Owned
	Accept string     `header:"Accept" hidden:"true"`
	Key    messageKey `header:"Idempotency-Key"`
	Body   backendapi.ChatRequest
}

// keyPattern is the pattern of an idempotency key.
const keyPattern = "^[A-Za-z0-9_-]+$"

// messageKey names a message.
type messageKey string

// Schema implements huma.SchemaProvider.
func (messageKey) Schema(huma.Registry) *huma.Schema {
	return textSchema(1, 64, keyPattern,
		"Names the message: sent again with the same key, "+
			"it is still one message, and the response is that of the first time")
}

// Resolve implements huma.Resolver: it checks what a schema cannot say. Lengths are of bytes.
func (in *chatInput) Resolve(huma.Context) []error {
	var errs []error
	again := in.Body.Replaces != nil && in.Body.Message == ""
	if in.Body.Replaces != nil && in.Body.ConversationID == "" {
		errs = append(errs, &huma.ErrorDetail{
			Location: "body.conversation_id", Message: "must name what replaces is about",
		})
	}

	switch {
	case strings.TrimSpace(in.Body.Message) == "" && !again:
		errs = append(errs, &huma.ErrorDetail{
			Location: "body.message", Message: "must say something",
		})
	case len(in.Body.Message) > backendapi.MaxMessage:
		errs = append(errs, &huma.ErrorDetail{
			Location: "body.message",
			Message: fmt.Sprintf("has %d bytes; at most %d are allowed",
				len(in.Body.Message), backendapi.MaxMessage),
		})
	}

	return append(errs, checkModel(in.Body.Model)...)
}

// modelName is a model as Ollama names it: host/namespace/model:tag.
var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}$`)

func checkModel(name string) []error {
	if name == "" || modelName.MatchString(name) {
		return nil
	}
	return []error{&huma.ErrorDetail{Location: "body.model", Message: "is not a model's name"}}
}

type eventsInput struct {
	Owned
	ID          string `path:"id" doc:"The answer"`
	LastEventID string `header:"Last-Event-ID" doc:"The last event that was read: those after it are sent"`
}

type generationInput struct {
	Owned
	ID string `path:"id" doc:"The answer"`
}

const eventsDoc = "Events: start (Start), queue (Queue), history (History), sources " +
	"(Sources), thinking and delta (Delta), and as the last one done (Done), error (Problem) or stopped. " +
	"A stream that ends without one of these was cut: resume it with Last-Event-ID."

func (a *API) chatRoutes() {
	text := &huma.Schema{Type: huma.TypeString}
	stream := &huma.Response{Description: eventsDoc,
		Content: map[string]*huma.MediaType{sse.ContentType: {Schema: text}}}
	started := a.huma.OpenAPI().Components.Schemas.Schema(
		reflect.TypeFor[backendapi.Generation](), true, "")

	op := operation("chat", "POST /api/chat", "chat", "Send a message and start its answer")
	op.Description = "With Accept: text/event-stream the response is the answer's events, else it " +
		"names the answer. A message is at most 65536 bytes. With replaces the last questions and " +
		"answers of the conversation go, and an empty message asks the first of them again. A " +
		"request that the model service refuses at once, such as for its full queue (429), leaves " +
		"no trace, and what it would have replaced stays."
	op.DefaultStatus, op.MaxBodyBytes = http.StatusAccepted, maxChatBody
	op.Errors = []int{
		http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
		http.StatusRequestEntityTooLarge,
		http.StatusTooManyRequests, http.StatusBadGateway, http.StatusInsufficientStorage,
	}

	op.Responses = map[string]*huma.Response{"200": stream, "202": {
		Description: "The answer was started",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: started}},
		Headers: map[string]*huma.Param{
			"Location": {Description: "The answer's events", Schema: text},
		},
	}}

	register(a, op, a.chat)

	op = operation("followGeneration", "GET /api/generations/{id}/events", "chat",
		"Read the events of an answer")
	op.Description = "From its beginning, or after Last-Event-ID. An answer can be read for an hour " +
		"after its end."
	op.Errors = []int{http.StatusBadRequest, http.StatusNotFound, http.StatusTooManyRequests}
	op.Responses = map[string]*huma.Response{"200": stream, "204": {
		Description: "The answer has ended and Last-Event-ID is its last event",
	}}
	register(a, op, a.events)

	op = operation("stopGeneration", "DELETE /api/generations/{id}", "chat", "Stop an answer")
	op.Description = "What came so far is kept. An answer that has ended stays as it is."
	op.DefaultStatus, op.Errors = http.StatusNoContent, []int{http.StatusNotFound}
	register(a, op, a.stop)
}

func (a *API) chat(ctx context.Context, in *chatInput) (*huma.StreamResponse, error) {
	var release func()
	follow := accepts(in.Accept, sse.ContentType)
	if follow {
		var err error
		if release, err = a.Jobs.Admit(in.owner()); err != nil {
			return nil, err
		}
	}

	g, err := a.ask(ctx, in)
	if err != nil {
		if follow {
			release()
		}
		return nil, err
	}

	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Location", "/api/generations/"+g.ID+"/events")
		if follow {
			defer release()
			a.stream(hc, g, "")
			return
		}

		hc.SetHeader("Content-Type", "application/json")
		hc.SetStatus(http.StatusAccepted)
		// the client is gone
		_ = json.NewEncoder(hc.BodyWriter()).Encode(backendapi.Generation{
			ID: g.ID, ConversationID: g.ConversationID,
		})
	}}, nil
}

// ask starts the answer to a message.
func (a *API) ask(ctx context.Context, in *chatInput) (store.Generation, error) {
	question := a.record(ctx, auditlog.Question, in.owner(), aConversation, in.Body.ConversationID)
	question.Model, question.Bytes = in.Body.Model, len(in.Body.Message)
	act, err := a.Audit.Begin(ctx, question)
	if err != nil {
		return store.Generation{}, err
	}

	g, err := a.Jobs.Start(ctx, in.owner(), string(in.Key), in.Body)
	if act != nil && err == nil { // a new conversation has its name now
		act.Record.Object = a.Audit.Name(aConversation, g.ConversationID)
	}

	act.End(result(err))
	return g, err
}

func (a *API) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	g, err := a.Store.Generation(ctx, in.owner(), in.ID)
	if err != nil {
		return nil, err
	}

	if in.LastEventID != "" {
		if err := g.CheckEventID(in.LastEventID); err != nil {
			return nil, err
		}
	}

	if g.Ended && in.LastEventID == g.LastEvent {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetStatus(http.StatusNoContent) // tells an EventSource not to connect again
		}}, nil
	}

	release, err := a.Jobs.Admit(in.owner())
	if err != nil {
		return nil, err
	}

	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer release()
		a.stream(hc, g, in.LastEventID)
	}}, nil
}

func (a *API) stream(hc huma.Context, g store.Generation, after string) {
	r, w := humago.Unwrap(hc)
	events, err := sse.NewWriter(w, a.Jobs.WriteTimeout())
	if err != nil {
		return // the client is gone
	}

	if err := a.Jobs.Follow(r.Context(), g, after, events); err != nil && r.Context().Err() == nil {
		a.Log.WarnContext(r.Context(), "a stream of events was cut",
			"generation", g.ID, "error", err)
	}
}

func (a *API) stop(ctx context.Context, in *generationInput) (*struct{}, error) {
	g, err := a.Store.Generation(ctx, in.owner(), in.ID)
	if err != nil || g.Ended {
		return nil, err // nothing is done, and nothing recorded
	}

	act := a.Audit.BeginAnyway(ctx,
		a.record(ctx, auditlog.Stop, in.owner(), anAnswer, in.ID))
	err = a.Jobs.Stop(ctx, g)
	act.End(result(err))
	return nil, err
}

// accepts reports whether an Accept header names the media type, with a quality above 0.
func accepts(header, mediaType string) bool {
	for part := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil || media != mediaType {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		return err != nil || q > 0
	}

	return false
}
