package generation

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

const (
	// searchTime bounds what an answer waits for its sources.
	searchTime = 2 * time.Second

	// searchLimit is how many passages are asked for, and maxFound the most bytes of them that are
	// kept and sent to ml.
	searchLimit = 6
	maxFound    = 64 << 10

	// shortQuestion is up to how many words a question is taken to be about the one before it as
	// well, as "And for children?" is.
	shortQuestion = 8
)

// found is what was found for an answer. It is stored until the answer's end.
type found struct {
	Passages   []passage `json:"passages,omitempty"` // the best first
	Unsearched bool      `json:"unsearched,omitempty"`
}

// passage is a source with its text.
type passage struct {
	backendapi.Source
	Text string `json:"text"`
}

// query returns what the documents are searched for, for a question and the messages before it.
func query(earlier []backendapi.Message, question string) string {
	if len(strings.Fields(question)) <= shortQuestion {
		for _, m := range slices.Backward(earlier) {
			if m.Role == "user" {
				question += "\n" + m.Content
				break
			}
		}
	}

	question, _ = cut(question, knowledgeapi.MaxQuery)
	return question
}

// find searches for the answer's sources, unless that was done before it was taken over. If they
// cannot be searched, the answer goes on without.
func (j *job) find() {
	if j.found == nil {
		if j.m.Knowledge == nil {
			return
		}

		f := j.m.search(j.ctx, j.g.Owner, j.search)
		if j.ctx.Err() != nil {
			return
		}

		j.found = &f
		j.keep(f)
	}

	if len(j.found.Passages) == 0 { // of others ml says which the model got
		j.tell(backendapi.Sources{Unsearched: j.found.Unsearched})
	}
}

// search asks knowledge.
func (m *Manager) search(ctx context.Context, owner, query string) found {
	ctx, cancel := context.WithTimeout(hop.Repeatable(ctx), searchTime)
	defer cancel()
	var out knowledgeapi.SearchResponse
	err := m.Knowledge.JSON(ctx, http.MethodPost, "/search",
		knowledgeapi.SearchRequest{Query: query, Limit: searchLimit}, &out,
		http.Header{wire.OwnerHeader: {owner}})
	if err != nil {
		m.log.WarnContext(ctx, "an answer goes on without sources", "error", err)
		m.metrics.searches.WithLabelValues("failed").Inc()
		return found{Unsearched: true}
	}

	f := foundOf(out.Passages)
	result := "found"
	if len(f.Passages) == 0 {
		result = "none"
	}
	m.metrics.searches.WithLabelValues(result).Inc()
	return f
}

// foundOf numbers the passages, and leaves out those beyond what is kept.
func foundOf(given []knowledgeapi.Passage) found {
	var f found
	size := 0
	for _, p := range given {
		if size += len(p.Text); size > maxFound || len(f.Passages) == searchLimit {
			break
		}

		f.Passages = append(f.Passages, passage{Text: p.Text, Source: backendapi.Source{
			N:          len(f.Passages) + 1,
			PassageID:  p.ID,
			Collection: p.Collection,
			File:       p.File,
			Title:      p.Title,
			Heading:    p.Heading,
			Page:       p.Page,
		}})
	}

	return f
}

// keep stores what was found, for whoever takes the answer over. Without it that one searches again.
func (j *job) keep(f found) {
	data, err := json.Marshal(f)
	if err == nil {
		ctx, cancel := context.WithTimeout(j.detached, time.Second)
		defer cancel()
		err = j.m.store.Found(ctx, j.g, string(data))
	}
	if err != nil { // if the answer is somebody else's now, the next write fails with that
		j.m.log.WarnContext(j.detached, "what was found for an answer was lost",
			"generation", j.g.ID, "error", err)
	}
}

// foundBefore reads what keep has stored; nil if it is nothing.
func (j *job) foundBefore(data string) *found {
	if data == "" {
		return nil
	}

	f := &found{}
	if err := json.Unmarshal([]byte(data), f); err != nil {
		j.m.log.WarnContext(j.detached, "what was found for an answer cannot be read",
			"generation", j.g.ID, "error", err)
		return nil
	}

	return f
}

// passages returns what ml gets.
func (j *job) passages() []mlapi.Passage {
	if j.found == nil || j.unquoted {
		return nil
	}

	var out []mlapi.Passage
	for _, p := range j.found.Passages {
		title := p.Title
		if p.Heading != "" {
			title += ", " + p.Heading
		}
		out = append(out, mlapi.Passage{N: p.N, Title: title, Text: p.Text})
	}

	return out
}

// got returns the sources of an answer, when the model gets the passages with the numbers. Those
// that it got before, which may be cited already, stay.
func (f *found) got(numbers []int, before *backendapi.Sources) backendapi.Sources {
	var out backendapi.Sources
	for _, p := range f.Passages {
		had := before != nil && slices.Contains(before.Sources, p.Source)
		if had || slices.Contains(numbers, p.N) {
			out.Sources = append(out.Sources, p.Source)
		}
	}

	out.LeftOut = len(f.Passages) - len(out.Sources)
	return out
}

// tell notes the sources, unless they are known.
func (j *job) tell(s backendapi.Sources) {
	if j.sources == nil || !reflect.DeepEqual(*j.sources, s) {
		j.sources = &s
		j.inbox.setSources(s)
	}
}
