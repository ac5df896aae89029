package library

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/vectors"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/words"
)

const (
	// candidates is how many passages each way of finding them puts forward.
	candidates = 50

	// fusion is the constant of reciprocal rank fusion, as its authors chose it: how little the
	// first place counts more than the second one.
	fusion = 60

	// questionPatience is how long a search waits for the vector of what is asked.
	questionPatience = 3 * time.Second
)

// Mode is how passages are found.
type Mode struct{ Words, Vectors bool }

// Both finds passages by their words and by their vectors.
var Both = Mode{Words: true, Vectors: true}

// Search returns the passages of the collections that answer a question best, the best first, and
// whether words alone were used. A collection that is not named takes no part: not in what is found,
// and not in how it is ranked.
func (l *Library) Search(
	ctx context.Context, names []string, question string, limit int, mode Mode,
) (found []knowledgeapi.Passage, wordsAlone bool, err error) {
	var in []*collection
	var indexes []*words.Index
	for _, name := range names {
		if c := l.collections[name]; c != nil {
			in, indexes = append(in, c), append(indexes, c.words)
		}
	}

	var (
		wg    sync.WaitGroup
		ranks [][]string // of each way the ids of passages, the best first
	)
	if mode.Vectors {
		wg.Go(func() { ranks, wordsAlone = l.near(ctx, in, question) })
	}
	var hits []words.Hit
	if mode.Words {
		hits, err = words.Search(ctx, indexes, question, candidates)
	}
	wg.Wait()
	if err != nil {
		return nil, false, err
	}

	var ids []string
	for _, h := range hits {
		ids = append(ids, h.ID)
	}
	ranks = append(ranks, ids)
	for _, r := range fuse(ranks) {
		if len(found) == limit {
			break
		}
		p, ok, err := l.load(in, r.id, false)
		if err != nil {
			return nil, false, err
		}
		if ok {
			p.Score = r.score
			found = append(found, p)
		}
	}
	return found, wordsAlone, nil
}

// near returns for each space of vectors the ids of the passages nearest to a question, the nearest
// first. While vectors of a new model are made there are two.
func (l *Library) near(
	ctx context.Context, in []*collection, question string,
) (ranks [][]string, none bool) {
	spaces := map[vectors.Space][]*vectors.Set{}
	for _, c := range in {
		c.mu.RLock()
		for _, d := range c.docs {
			if d.vectors != nil {
				spaces[d.vectors.Space] = append(spaces[d.vectors.Space], d.vectors)
			}
		}
		c.mu.RUnlock()
	}

	ctx, cancel := context.WithTimeout(ctx, questionPatience)
	defer cancel()
	asked := map[string][]float32{}
	for space, sets := range spaces {
		v, ok := asked[space.Model]
		if !ok {
			v = l.vector(ctx, space.Model, question)
			asked[space.Model] = v
		}
		if len(v) != space.Dimensions {
			continue
		}

		var ids []string
		for _, h := range vectors.Nearest(sets, v, candidates) {
			ids = append(ids, words.ID(h.Document, h.N))
		}
		ranks = append(ranks, ids)
	}
	return ranks, len(ranks) == 0
}

// vector returns the unit vector of a question, nil if the model does not answer.
func (l *Library) vector(ctx context.Context, model, question string) []float32 {
	all, err := l.Embed(ctx, model, []string{question})
	if err != nil || len(all) != 1 {
		if ctx.Err() == nil || err != nil {
			l.Log.WarnContext(ctx, "a question has no vector: words alone answer", "error", err)
		}
		return nil
	}
	v, err := vectors.Unit(all[0])
	if err != nil {
		l.Log.WarnContext(ctx, "a question has no vector: words alone answer", "error", err)
		return nil
	}
	return v
}

// ranked is a passage with its score.
type ranked struct {
	id    string
	score float64
}

// fuse ranks passages by their places in all lists: reciprocal rank fusion (Cormack and others,
// 2009). Scores of words and of vectors cannot be compared, places can.
func fuse(lists [][]string) []ranked {
	scores := map[string]float64{}
	for _, list := range lists {
		for place, id := range list {
			scores[id] += 1 / float64(fusion+place+1)
		}
	}

	out := make([]ranked, 0, len(scores))
	for id, score := range scores {
		out = append(out, ranked{id, score})
	}
	slices.SortFunc(out, func(a, b ranked) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return strings.Compare(a.id, b.id)
	})
	return out
}

// load returns a passage of the collections, with those beside it if asked for. ok is false if there
// is none: its document was removed, or is being added.
func (l *Library) load(
	in []*collection, id string, beside bool,
) (p knowledgeapi.Passage, ok bool, err error) {
	document, n, ok := words.ParseID(id)
	if !ok {
		return p, false, nil
	}

	for _, c := range in {
		p, ok, err := c.passage(document, n, beside)
		if ok || err != nil {
			return p, ok, err
		}
	}
	return p, false, nil
}

// passage returns a passage of the collection. The lock keeps its file from being replaced.
func (c *collection) passage(
	id string, n int, beside bool,
) (p knowledgeapi.Passage, ok bool, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d := c.byID[id]
	if d == nil || n >= d.Passages {
		return p, false, nil
	}

	from, to := n, n+1
	if beside {
		from, to = max(n-1, 0), min(n+2, d.Passages)
	}
	passages, err := d.passages(from, to)
	if err != nil {
		return p, false, err
	}

	this := passages[n-from]
	p = knowledgeapi.Passage{
		ID: words.ID(d.ID, n), Collection: c.name, DocumentID: d.ID, File: d.File, Title: d.Title,
		Heading: this.Heading, Page: this.Page, Text: this.Text,
	}
	if from < n {
		p.Before = passages[0].Text
	}
	if beside && to > n+1 {
		p.After = passages[len(passages)-1].Text
	}
	return p, true, nil
}

// Passage returns a passage of the collections with those beside it.
func (l *Library) Passage(names []string, id string) (knowledgeapi.Passage, error) {
	var in []*collection
	for _, name := range names {
		if c := l.collections[name]; c != nil {
			in = append(in, c)
		}
	}
	p, ok, err := l.load(in, id, true)
	if err == nil && !ok {
		err = ErrNotFound
	}
	return p, err
}
