package web

import (
	"context"
	"net/http"
	"net/url"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
)

func ratingPath(conversation, answer string) string {
	return "/api/conversations/" + url.PathEscape(conversation) + "/ratings/" +
		url.PathEscape(answer)
}

func (c *client) rate(ctx context.Context, caller, conversation, answer, verdict string) error {
	ctx = hop.Repeatable(ctx) // the same verdict twice is one verdict
	return c.hop.JSON(ctx, http.MethodPut, ratingPath(conversation, answer),
		backendapi.Rate{Verdict: verdict}, nil, of(caller))
}

func (c *client) unrate(ctx context.Context, caller, conversation, answer string) error {
	return c.hop.JSON(ctx, http.MethodDelete, ratingPath(conversation, answer), nil, nil, of(caller))
}

func (c *client) submit(
	ctx context.Context, caller, conversation, answer string, v backendapi.Submit,
) error {
	ctx = hop.Repeatable(ctx) // it takes the place of what was handed over before
	return c.hop.JSON(ctx, http.MethodPost, ratingPath(conversation, answer)+"/submission", v, nil,
		of(caller))
}

func (c *client) submissions(
	ctx context.Context, caller string,
) (list backendapi.Submissions, err error) {
	err = c.hop.JSON(ctx, http.MethodGet, "/api/submissions", nil, &list, of(caller))
	return list, err
}

func (c *client) withdraw(ctx context.Context, caller, answer string) error {
	return c.hop.JSON(ctx, http.MethodDelete, "/api/submissions/"+url.PathEscape(answer), nil, nil,
		of(caller))
}

func (c *client) reviews(
	ctx context.Context, caller, state, before string,
) (list backendapi.Submissions, err error) {
	q := url.Values{"state": {state}}
	if before != "" {
		q.Set("before", before)
	}
	err = c.hop.JSON(ctx, http.MethodGet, "/api/reviews?"+q.Encode(), nil, &list, of(caller))
	return list, err
}

func (c *client) decide(
	ctx context.Context, caller, answer string, d backendapi.Decision,
) error {
	return c.hop.JSON(ctx, http.MethodPut, "/api/reviews/"+url.PathEscape(answer), d, nil, of(caller))
}
