// Package sources finds the passages of documents on which an answer may rest.
package sources

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const (
	// timeout bounds what an answer waits for its sources.
	timeout = 2 * time.Second

	// limit is how many passages there are at most, and maxBytes how long their texts are together.
	limit    = 6
	maxBytes = 64 << 10

	// short is up to how many words a question is taken to be about the one before it as well, as
	// "And for children?" is.
	short = 8
)

// Passage is a source with its text.
type Passage struct {
	backendapi.Source
	Text string `json:"text"`
}

// Query returns what the documents are searched for, for a question and the one before it, which
// may be empty.
func Query(question, before string) string {
	if before != "" && len(strings.Fields(question)) <= short {
		question += "\n" + before
	}

	if end := knowledgeapi.MaxQuery; len(question) > end {
		for !utf8.RuneStart(question[end]) {
			end--
		}
		question = question[:end]
	}

	return question
}

// Find returns the passages that the owner may read and that answer the query best, the best first,
// with their numbers. It takes two seconds at most.
func Find(
	ctx context.Context, knowledge *hop.Client, owner, query string,
) ([]Passage, error) {
	ctx, cancel := context.WithTimeout(hop.Repeatable(ctx), timeout)
	defer cancel()
	var found knowledgeapi.SearchResponse
	err := knowledge.JSON(ctx, http.MethodPost, "/search",
		knowledgeapi.SearchRequest{Query: query, Limit: limit}, &found,
		http.Header{wire.OwnerHeader: {owner}})
	if err != nil {
		return nil, err
	}

	var out []Passage
	size := 0
	for _, p := range found.Passages {
		if size += len(p.Text); size > maxBytes || len(out) == limit {
			break
		}

		out = append(out, Passage{Text: p.Text, Source: backendapi.Source{
			N:          len(out) + 1,
			PassageID:  p.ID,
			Collection: p.Collection,
			File:       p.File,
			Title:      p.Title,
			Heading:    p.Heading,
			Page:       p.Page,
		}})
	}

	return out, nil
}

// ForModel returns the passages as ml gets them.
func ForModel(all []Passage) []mlapi.Passage {
	out := make([]mlapi.Passage, len(all))
	for i, p := range all {
		title := p.Title
		if p.Heading != "" {
			title += ", " + p.Heading
		}
		out[i] = mlapi.Passage{N: p.N, Title: title, Text: p.Text}
	}

	return out
}
