package api

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/danielgtaylor/huma/v2"
)

// maxBody is the greatest size of a request that is not a chat message, in bytes.
const maxBody = 16 << 10

// NewConversation is the body of POST /api/conversations.
type NewConversation struct {
	Title string `json:"title,omitempty" doc:"Without one the first message gives it"`
	Model string `json:"model,omitempty" doc:"The model that answers; the stack's own without one"`
}

type createInput struct {
	Owned
	Key  requestKey `header:"Idempotency-Key"`
	Body *NewConversation
}

// requestKey names a request for a new conversation.
type requestKey string

// Schema implements huma.SchemaProvider.
func (requestKey) Schema(huma.Registry) *huma.Schema {
	return textSchema(1, 64, keyPattern, "Names the request: sent again with the same key, it is "+
		"still one conversation, and the response is that conversation")
}

// Resolve implements huma.Resolver.
func (in *createInput) Resolve(huma.Context) []error {
	if in.Body == nil {
		return nil
	}

	var errs []error
	if in.Body.Title != "" {
		errs = checkTitle(in.Body.Title)
	}

	return append(errs, checkModel(in.Body.Model)...)
}

type conversationInput struct {
	Owned
	ID string `path:"id" doc:"The conversation"`
}

type detailInput struct {
	Owned
	ID     string `path:"id" doc:"The conversation"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The greatest number of messages"`
	Before cursor `query:"before"`
}

// cursor is a place among a conversation's messages.
type cursor string

// Schema implements huma.SchemaProvider.
func (cursor) Schema(huma.Registry) *huma.Schema {
	return textSchema(0, 16, "",
		"earlier of the page that comes after; without it the page is the last one")
}

type renameInput struct {
	Owned
	ID   string `path:"id" doc:"The conversation"`
	Body backendapi.Rename
}

// Resolve implements huma.Resolver.
func (in *renameInput) Resolve(huma.Context) []error { return checkTitle(in.Body.Title) }

func checkTitle(title string) []error {
	fault := ""
	switch {
	case strings.TrimSpace(title) == "":
		fault = "must say something"
	case utf8.RuneCountInString(title) > backendapi.MaxTitle:
		fault = "has more than " + strconv.Itoa(backendapi.MaxTitle) + " characters"
	case strings.ContainsFunc(title, unicode.IsControl):
		fault = "must be one line without control characters"
	default:
		return nil
	}

	return []error{&huma.ErrorDetail{Location: "body.title", Message: fault}}
}

type listInput struct {
	Owned
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"The greatest number of conversations"`
	Cursor string `query:"cursor" maxLength:"128" doc:"next of the page before"`
	Query  query  `query:"q"`
}

// query is what a search looks for.
type query string

// Schema implements huma.SchemaProvider.
func (query) Schema(huma.Registry) *huma.Schema {
	return textSchema(0, backendapi.MaxQuery, "", "Only those conversations in which each of these "+
		"words, 16 at most, is part of the title or of a message, in whatever case")
}

type body[T any] struct{ Body T }

type createdOutput struct {
	Location string `header:"Location"`
	Body     backendapi.Conversation
}

func (a *API) conversationRoutes() {
	const tag = "conversations"
	op := operation("createConversation", "POST /api/conversations", tag, "Create a conversation")
	op.DefaultStatus, op.MaxBodyBytes = http.StatusCreated, maxBody
	op.Errors = []int{
		http.StatusNotFound, http.StatusTooManyRequests, http.StatusInsufficientStorage,
	}
	register(a, op, a.create)

	op = operation("listConversations", "GET /api/conversations", tag,
		"List conversations, the last changed first, or search them")
	op.Description = "A search ends after two seconds, behind the conversation that it is at. " +
		"What it has found by then is a page that is partial, and its next goes on."
	op.Errors = []int{http.StatusBadRequest, http.StatusTooManyRequests}
	register(a, op, a.list)

	op = operation("getConversation", "GET /api/conversations/{id}", tag,
		"Read a conversation with its last messages, or those before a cursor")
	op.Description = "A page has at most limit messages and 1 MiB. A message in state streaming " +
		"has no content yet: its generation's events have it all."
	op.Errors = []int{http.StatusBadRequest, http.StatusNotFound}
	register(a, op, a.get)

	a.exportRoute()
	a.allRoutes()

	op = operation("renameConversation", "PATCH /api/conversations/{id}", tag,
		"Rename a conversation")
	op.MaxBodyBytes = maxBody
	op.Errors = []int{http.StatusNotFound, http.StatusInsufficientStorage}
	register(a, op, a.rename)

	op = operation("deleteConversation", "DELETE /api/conversations/{id}", tag,
		"Delete a conversation")
	op.Description = "An answer that is being written in it is stopped."
	op.DefaultStatus, op.Errors = http.StatusNoContent, []int{http.StatusNotFound}
	register(a, op, a.remove)
}

func (a *API) create(ctx context.Context, in *createInput) (*createdOutput, error) {
	title, asked := "", ""
	if in.Body != nil {
		title, asked = strings.TrimSpace(in.Body.Title), in.Body.Model
	}

	c, err := a.Store.Create(ctx, in.owner(), string(in.Key), title, asked,
		cmp.Or(asked, a.DefaultModel))
	if err != nil {
		return nil, err
	}

	return &createdOutput{Location: "/api/conversations/" + c.ID, Body: c.Public()}, nil
}

func (a *API) list(ctx context.Context, in *listInput) (*body[backendapi.ConversationPage], error) {
	if strings.TrimSpace(string(in.Query)) != "" {
		return a.search(ctx, in)
	}

	page, err := a.Store.List(ctx, in.owner(), in.Limit, in.Cursor)
	return &body[backendapi.ConversationPage]{page}, err
}

// Searches read all that an owner has: few go on at once, fewer of one owner, and none for long.
const (
	maxSearches    = 4
	maxOwnSearches = 2
	searchTime     = 2 * time.Second
)

func (a *API) search(
	ctx context.Context, in *listInput,
) (*body[backendapi.ConversationPage], error) {
	leave, ok := a.searchers.Take(in.owner(), 1)
	if !ok {
		p := problem.New(http.StatusTooManyRequests,
			"You have %d searches at once already. Try again in a moment.", maxOwnSearches)
		p.RetryAfter = int(searchTime.Seconds())
		return nil, p
	}
	defer leave()

	select {
	case a.searches <- struct{}{}:
		defer func() { <-a.searches }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	page, err := a.Store.Search(ctx, in.owner(), string(in.Query), in.Limit, in.Cursor, searchTime)
	return &body[backendapi.ConversationPage]{page}, err
}

func (a *API) get(ctx context.Context, in *detailInput) (*body[backendapi.ConversationDetail],
	error) {
	c, page, err := a.Store.Detail(ctx, in.owner(), in.ID, in.Limit, string(in.Before))
	if err != nil {
		return nil, err
	}

	if c.Generation != "" {
		running, err := a.Jobs.Settle(ctx, c)
		if err != nil {
			return nil, err
		}

		if !running { // its answer has just ended: tell how
			c, page, err = a.Store.Detail(ctx, in.owner(), in.ID, in.Limit, string(in.Before))
			if err != nil {
				return nil, err
			}
		}
	}

	ratings, err := a.Store.Ratings(ctx, in.owner(), in.ID)
	return &body[backendapi.ConversationDetail]{backendapi.ConversationDetail{
		Conversation: c.Public(), Messages: page.Messages, Earlier: page.Earlier,
		Ratings: ratings}}, err
}

func (a *API) rename(ctx context.Context, in *renameInput) (*body[backendapi.Conversation], error) {
	c, err := a.Store.Rename(ctx, in.owner(), in.ID, strings.TrimSpace(in.Body.Title))
	return &body[backendapi.Conversation]{c.Public()}, err
}

func (a *API) remove(ctx context.Context, in *conversationInput) (*struct{}, error) {
	if _, err := a.Store.Get(ctx, in.owner(), in.ID); err != nil {
		return nil, err // nothing is done, and nothing recorded
	}

	act := a.Audit.BeginAnyway(ctx,
		a.record(ctx, auditlog.Delete, in.owner(), aConversation, in.ID))
	generation, err := a.Store.Delete(ctx, in.owner(), in.ID)
	act.End(result(err))
	if err == nil && generation != "" {
		a.Jobs.Cancel(generation)
	}
	return nil, err
}
