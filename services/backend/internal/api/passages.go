package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// passageTimeout bounds the reading of a passage.
const passageTimeout = 5 * time.Second

type passageInput struct {
	Owned
	ID string `path:"id" maxLength:"200" doc:"The passage_id of a source"`
}

func (a *API) passageRoute() {
	op := operation("getPassage", "GET /api/passages/{id}", "sources",
		"Read a source of an answer, with what is before and after it")
	op.Description = "One that is gone, one that is for others and one that never was are the same."
	op.Errors = []int{http.StatusNotFound}
	register(a, op, a.passage)
}

// passage asks knowledge each time: whether the person may read it is not known from an answer.
func (a *API) passage(
	ctx context.Context, in *passageInput,
) (*body[knowledgeapi.Passage], error) {
	gone := problem.New(http.StatusNotFound, "This document is no longer there, or not for you.")
	if a.Knowledge == nil {
		return nil, gone
	}

	ctx, cancel := context.WithTimeout(ctx, passageTimeout)
	defer cancel()
	out := &body[knowledgeapi.Passage]{}
	err := a.Knowledge.JSON(ctx, http.MethodGet, "/passages/"+url.PathEscape(in.ID), nil, &out.Body,
		http.Header{wire.OwnerHeader: {in.owner()}})
	var p *problem.Problem
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, &p) && p.Status == http.StatusNotFound:
		return nil, gone
	}

	a.Log.WarnContext(ctx, "knowledge", "error", err)
	p = problem.New(http.StatusServiceUnavailable,
		"The documents cannot be reached right now. Try again in a moment.")
	p.RetryAfter = 5
	return nil, p
}
