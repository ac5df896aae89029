package openai

import (
	"context"
	"net/http"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
)

// query returns what the documents are searched for. It refuses a conversation without a question,
// and a stack without documents.
func (s *service) query(ask *mlapi.ChatRequest) (string, error) {
	if s.Knowledge == nil {
		return "", refused("knowledge", "knowledge can be false: there are no documents here.")
	}

	var questions []string // the last one first
	for _, m := range slices.Backward(ask.Messages) {
		if m.Role == "user" && m.Content != "" {
			questions = append(questions, m.Content)
		}
	}

	switch len(questions) {
	case 0:
		return "", invalid("knowledge", "knowledge needs a message of the user's to search for.")
	case 1:
		return sources.Query(questions[0], ""), nil
	}

	return sources.Query(questions[0], questions[1]), nil
}

// find searches the documents that the owner may read. A program that asks for sources is told that
// there are none, and gets no answer that only looks as if it had some.
func (s *service) find(ctx context.Context, owner, query string) ([]sources.Passage, error) {
	found, err := sources.Find(ctx, s.Knowledge, owner, query)
	if err == nil || ctx.Err() != nil {
		return found, err
	}

	f := fault(http.StatusServiceUnavailable, "", "knowledge_unavailable", "The documents cannot be "+
		"searched at the moment. Try again in a few seconds, or without knowledge.")
	f.Type, f.RetryAfter, f.cause = typeServer, 5, err
	return nil, f
}

// cited returns the passages that the model got, of which the numbers are those; nil if none were
// asked for.
func (a *answer) cited() []sources.Passage {
	if a.find == nil {
		return nil
	}

	out := []sources.Passage{}
	for _, p := range a.found {
		if slices.Contains(a.used, p.N) {
			out = append(out, p)
		}
	}

	return out
}
