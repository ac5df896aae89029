package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// client calls the backend's API. Its errors are *problem.Problem if the backend answered.
type client struct{ hop *hop.Client }

func newClient(base string) *client { return &client{hop.New("backend", base)} }

// of returns the headers of a request of the caller.
func of(caller string) http.Header { return http.Header{"Authorization": {caller}} }

// start sends a message under its key. Sent again with it, it is still one message.
func (c *client) start(
	ctx context.Context, caller, key string, req backendapi.ChatRequest,
) (g backendapi.Generation, err error) {
	h := of(caller)
	h.Set(wire.KeyHeader, key)
	err = c.hop.JSON(ctx, http.MethodPost, "/api/chat", req, &g, h)
	return g, err
}

// follow opens the events of an answer, from the one after the event with the id after, or from the
// first if that is empty.
func (c *client) follow(
	ctx context.Context, caller, generation, after string,
) (*http.Response, error) {
	h := of(caller)
	h.Set("Accept", sse.ContentType)
	if after != "" {
		h.Set("Last-Event-ID", after)
	}
	return c.hop.Do(ctx, http.MethodGet, "/api/generations/"+url.PathEscape(generation)+"/events",
		nil, h)
}

func (c *client) stop(ctx context.Context, caller, generation string) error {
	return c.hop.JSON(ctx, http.MethodDelete, "/api/generations/"+url.PathEscape(generation), nil,
		nil, of(caller))
}

func (c *client) conversations(
	ctx context.Context, caller, cursor string,
) (p backendapi.ConversationPage, err error) {
	q := url.Values{"limit": {"50"}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	err = c.hop.JSON(ctx, http.MethodGet, "/api/conversations?"+q.Encode(), nil, &p, of(caller))
	return p, err
}

// search returns a page of the conversations in which the words of the query occur.
func (c *client) search(
	ctx context.Context, caller, query, cursor string,
) (p backendapi.ConversationPage, err error) {
	q := url.Values{"limit": {"20"}, "q": {query}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	err = c.hop.JSON(ctx, http.MethodGet, "/api/conversations?"+q.Encode(), nil, &p, of(caller))
	return p, err
}

// conversation returns a conversation with the messages before the cursor, or its last
// ones if that is empty.
func (c *client) conversation(
	ctx context.Context, caller, id, before string,
) (d backendapi.ConversationDetail, err error) {
	path := "/api/conversations/" + url.PathEscape(id)
	if before != "" {
		path += "?" + url.Values{"before": {before}}.Encode()
	}
	err = c.hop.JSON(ctx, http.MethodGet, path, nil, &d, of(caller))
	return d, err
}

func (c *client) rename(ctx context.Context, caller, id, title string) error {
	ctx = hop.Repeatable(ctx) // the same title twice is one title
	return c.hop.JSON(ctx, http.MethodPatch, "/api/conversations/"+url.PathEscape(id),
		backendapi.Rename{Title: title}, nil, of(caller))
}

func (c *client) remove(ctx context.Context, caller, id string) error {
	return c.hop.JSON(ctx, http.MethodDelete, "/api/conversations/"+url.PathEscape(id), nil, nil,
		of(caller))
}

// passage returns a source of an answer, if the caller may read it.
func (c *client) passage(
	ctx context.Context, caller, id string,
) (p knowledgeapi.Passage, err error) {
	err = c.hop.JSON(ctx, http.MethodGet, "/api/passages/"+url.PathEscape(id), nil, &p, of(caller))
	return p, err
}

func (c *client) models(ctx context.Context, caller string) (m mlapi.Models, err error) {
	err = c.hop.JSON(ctx, http.MethodGet, "/api/models", nil, &m, of(caller))
	return m, err
}

func (c *client) status(ctx context.Context, caller string) (s backendapi.Status, err error) {
	err = c.hop.JSON(ctx, http.MethodGet, "/api/status", nil, &s, of(caller))
	return s, err
}

// typeUnreachable is the type of the problem that the backend cannot be reached.
const typeUnreachable = "/problems/unreachable"

// asProblem returns the backend's problem, or that it cannot be reached if it did not answer.
func asProblem(err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}

	return &problem.Problem{
		Type:   typeUnreachable,
		Title:  "Not reachable",
		Status: http.StatusBadGateway,
		Detail: "The chat service cannot be reached right now. It may be restarting: try again " +
			"in a moment.",
	}
}

// isUnknown reports whether a backend of the former version refused what it does not know, which
// has the location in the request.
func isUnknown(p *problem.Problem, location string) bool {
	return p.Status == http.StatusUnprocessableEntity &&
		slices.ContainsFunc(p.Errors, func(e problem.FieldError) bool {
			return e.Location == location
		})
}

func isNotFound(err error) bool {
	var p *problem.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// isGone reports whether an answer does not exist, or no longer exists.
func isGone(err error) bool {
	var p *problem.Problem
	return errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusGone)
}
