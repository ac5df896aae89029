// Package words finds passages by their words: a full-text index of one collection on disk. It has
// no text, only words, and the passages' ids.
package words

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/analysis/token/lowercase"
	"github.com/blevesearch/bleve/v2/analysis/token/unicodenorm"
	"github.com/blevesearch/bleve/v2/analysis/tokenizer/unicode"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/index/scorch/mergeplan"
	"github.com/blevesearch/bleve/v2/mapping"
	"github.com/blevesearch/bleve/v2/search"
	"github.com/blevesearch/bleve/v2/search/query"
	index "github.com/blevesearch/bleve_index_api"

	_ "github.com/blevesearch/bleve/v2/analysis/analyzer/custom"  // registers what the
	_ "github.com/blevesearch/bleve/v2/analysis/analyzer/keyword" // mapping names
)

// Passage is what the index knows of a passage.
type Passage struct {
	Heading, Text string
}

// Index is the full-text index of a collection.
type Index struct {
	dir   string
	bleve bleve.Index
	close func() error
}

// The fields of a passage. The text is in two: by whole words, in any language, and by the stems of
// English words.
const (
	fieldDocument = "document"
	fieldTitle    = "title"
	fieldHeading  = "heading"
	fieldText     = "text"
	fieldStems    = "stems"
)

// batchSize is how many passages are indexed at once.
const batchSize = 500

// Open opens the index in the directory, or makes an empty one. One that cannot be read is made
// anew: whoever opens it adds what is missing.
func Open(dir string) (*Index, error) {
	options := map[string]any{
		"bolt_timeout": "5s", "numSnapshotsToKeep": 1, "rollbackSamplingInterval": "0s",
	}
	b, err := bleve.OpenUsing(dir, options)
	if err != nil {
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("the index of words: %w", err)
		}
		m, err := newMapping()
		if err != nil {
			return nil, fmt.Errorf("the index of words: %w", err)
		}
		if b, err = bleve.NewUsing(dir, m, scorch.Name, scorch.Name, options); err != nil {
			return nil, fmt.Errorf("the index of words: %w", err)
		}
	}
	return &Index{dir, b, sync.OnceValue(b.Close)}, nil
}

// Close ends the index, which may be closed more than once.
func (x *Index) Close() error { return x.close() }

// newMapping returns how passages are indexed.
func newMapping() (mapping.IndexMapping, error) {
	m := bleve.NewIndexMapping()
	m.ScoringModel = index.BM25Scoring
	m.DefaultMapping = bleve.NewDocumentStaticMapping()
	if err := m.AddCustomTokenFilter("normalised", map[string]any{
		"type": unicodenorm.Name, "form": unicodenorm.NFKC,
	}); err != nil {
		return nil, err
	}

	const plain = "plain"
	if err := m.AddCustomAnalyzer(plain, map[string]any{
		"type": "custom", "tokenizer": unicode.Name,
		"token_filters": []string{"normalised", lowercase.Name},
	}); err != nil {
		return nil, err
	}

	for field, analyzer := range map[string]string{
		fieldDocument: "keyword", fieldTitle: en.AnalyzerName, fieldHeading: en.AnalyzerName,
		fieldText: plain, fieldStems: en.AnalyzerName,
	} {
		f := bleve.NewTextFieldMapping()
		f.Analyzer, f.Store, f.DocValues = analyzer, false, false
		f.IncludeInAll, f.IncludeTermVectors = false, false
		m.DefaultMapping.AddFieldMappingsAt(field, f)
	}
	return m, nil
}

// ID returns what a passage is called.
func ID(document string, n int) string { return document + "-" + strconv.Itoa(n) }

// ParseID returns the document and the number of a passage.
func ParseID(id string) (document string, n int, ok bool) {
	document, number, found := strings.Cut(id, "-")
	n, err := strconv.Atoi(number)
	return document, n, found && err == nil && n >= 0 && strconv.Itoa(n) == number
}

// Add indexes a document's passages. It is on disk when Add returns.
func (x *Index) Add(document, title string, passages []Passage) error {
	n := 0
	for part := range slices.Chunk(passages, batchSize) {
		b := x.bleve.NewBatch()
		for _, p := range part {
			if err := b.Index(ID(document, n), map[string]any{
				fieldDocument: document, fieldTitle: title, fieldHeading: p.Heading,
				fieldText: p.Text, fieldStems: p.Text,
			}); err != nil {
				return fmt.Errorf("the index of words: %w", err)
			}
			n++
		}

		if n == len(passages) {
			b.SetInternal([]byte(document), []byte(strconv.Itoa(n)))
		}
		if err := x.bleve.Batch(b); err != nil {
			return fmt.Errorf("the index of words: %w", err)
		}
	}
	return nil
}

// Has reports whether a document with so many passages is in the index, whole.
func (x *Index) Has(document string, passages int) (bool, error) {
	v, err := x.bleve.GetInternal([]byte(document))
	if err != nil {
		return false, fmt.Errorf("the index of words: %w", err)
	}
	return string(v) == strconv.Itoa(passages), nil
}

// Remove removes a document's passages. Its words stay on disk until Purge.
func (x *Index) Remove(document string) error {
	for {
		q := bleve.NewTermQuery(document)
		q.SetField(fieldDocument)
		found, err := x.bleve.Search(bleve.NewSearchRequestOptions(q, batchSize, 0, false))
		if err != nil {
			return fmt.Errorf("the index of words: %w", err)
		}

		b := x.bleve.NewBatch()
		for _, hit := range found.Hits {
			b.Delete(hit.ID)
		}
		b.DeleteInternal([]byte(document))
		if err := x.bleve.Batch(b); err != nil {
			return fmt.Errorf("the index of words: %w", err)
		}
		if len(found.Hits) < batchSize {
			return nil
		}
	}
}

// Documents returns the documents that have passages in the index, or had some until the last
// Purge.
func (x *Index) Documents() ([]string, error) {
	d, err := x.bleve.FieldDict(fieldDocument)
	if err != nil {
		return nil, fmt.Errorf("the index of words: %w", err)
	}
	defer d.Close()

	var out []string
	for {
		e, err := d.Next()
		if err != nil {
			return nil, fmt.Errorf("the index of words: %w", err)
		}
		if e == nil {
			return out, nil
		}
		out = append(out, e.Term)
	}
}

// Hit is a passage that has words of a query.
type Hit struct {
	ID    string
	Score float64
}

// Search returns the passages of the indexes that answer a query best, the best first. How rare a
// word is counts in these indexes alone.
func Search(ctx context.Context, in []*Index, text string, limit int) ([]Hit, error) {
	if len(in) == 0 {
		return nil, nil
	}

	request := bleve.NewSearchRequestOptions(question(text), limit, 0, false)
	var all bleve.Index = in[0].bleve
	if len(in) > 1 {
		alias := bleve.NewIndexAlias()
		for _, x := range in {
			alias.Add(x.bleve)
		}
		all = alias
		ctx = context.WithValue(ctx, search.SearchTypeKey, search.GlobalScoring)
	}

	found, err := all.SearchInContext(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("the index of words: %w", err)
	}
	if found.Status != nil && found.Status.Failed > 0 {
		return nil, errors.New("the index of words: a collection did not answer")
	}

	hits := make([]Hit, 0, len(found.Hits))
	for _, h := range found.Hits {
		hits = append(hits, Hit{h.ID, h.Score})
	}
	return hits, nil
}

// boosts are how much a word counts by where it is. docs/knowledge.md has what was measured.
var boosts = map[string]float64{fieldText: 0.3, fieldStems: 1, fieldHeading: 0.5, fieldTitle: 0.3}

// question returns the query of a text.
func question(text string) query.Query {
	any := bleve.NewDisjunctionQuery()
	for _, field := range []string{fieldText, fieldStems, fieldHeading, fieldTitle} {
		q := bleve.NewMatchQuery(text)
		q.SetField(field)
		q.SetBoost(boosts[field])
		any.AddQuery(q)
	}
	return any
}

// purged is the id of what Purge adds.
const purged = "purged"

// Purge removes from disk what was removed from the index. It is done when Purge returns.
func (x *Index) Purge(ctx context.Context) error {
	before, err := x.segments()
	if err != nil {
		return err
	}

	// A single segment is merged with another one only.
	b := x.bleve.NewBatch()
	if err := b.Index(purged, map[string]any{}); err != nil {
		return fmt.Errorf("the index of words: %w", err)
	}
	if err := x.bleve.Batch(b); err != nil {
		return fmt.Errorf("the index of words: %w", err)
	}

	advanced, err := x.bleve.Advanced()
	if err != nil {
		return fmt.Errorf("the index of words: %w", err)
	}
	s, ok := advanced.(*scorch.Scorch)
	if !ok {
		return errors.New("the index of words: is of another kind")
	}
	if err := s.ForceMerge(ctx, &mergeplan.SingleSegmentMergePlanOptions); err != nil {
		return fmt.Errorf("the index of words: %w", err)
	}

	// What was merged goes when what took its place is on disk, and the next change is written.
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		now, err := x.segments()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(now, func(f string) bool { return slices.Contains(before, f) }) {
			return nil
		}

		b := x.bleve.NewBatch()
		b.SetInternal([]byte(purged), nil)
		if err := x.bleve.Batch(b); err != nil {
			return fmt.Errorf("the index of words: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// segments returns the files that hold the words.
func (x *Index) segments() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(x.dir, "store", "*.zap"))
	if err != nil {
		return nil, fmt.Errorf("the index of words: %w", err)
	}
	return files, nil
}
