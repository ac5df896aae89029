package generation

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
)

// found is what was found for an answer. It is stored until the answer's end.
type found struct {
	Passages   []sources.Passage `json:"passages,omitempty"` // the best first
	Unsearched bool              `json:"unsearched,omitempty"`
}

// query returns what the documents are searched for, for a question and the messages before it.
func query(earlier []backendapi.Message, question string) string {
	for _, m := range slices.Backward(earlier) {
		if m.Role == "user" {
			return sources.Query(question, m.Content)
		}
	}
	return sources.Query(question, "")
}

// find searches for the answer's sources, unless that was done before it was taken over. If they
// cannot be searched, the answer goes on without. So it does if its readers know sources of which
// the texts are lost: others would get their numbers.
func (j *job) find() {
	if j.found == nil {
		if j.m.Knowledge == nil || j.sources != nil {
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
	passages, err := sources.Find(ctx, m.Knowledge, owner, query)
	result := "found"
	switch {
	case err != nil:
		m.log.WarnContext(ctx, "an answer goes on without sources", "error", err)
		result = "failed"
	case len(passages) == 0:
		result = "none"
	}

	m.metrics.searches.WithLabelValues(result).Inc()
	return found{Passages: passages, Unsearched: err != nil}
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

	return sources.ForModel(j.found.Passages)
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
