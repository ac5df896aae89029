package prompt

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxModels is how many models are kept; a vocabulary takes up to some fifty megabytes.
	maxModels = 2

	// loadTimeout bounds asking for a model: Ollama reads the vocabulary from the disk, and writes
	// some megabytes of JSON.
	loadTimeout = 30 * time.Second

	// retryAfter is how long a model that could not be asked for is taken as unknown.
	retryAfter = 2 * time.Second
)

// Catalog keeps what is known of models by their digest. It is safe for concurrent use.
type Catalog struct {
	source Source
	log    *slog.Logger

	mu      sync.Mutex
	entries map[string]*entry // by the digest; by the name where none is known
	uses    int
}

type entry struct {
	done chan struct{}
	used int // the number of the last use

	// When done: the model, or nil when it could not be asked for.
	model *Model
	ended time.Time
}

// NewCatalog makes a catalog that asks the source.
func NewCatalog(source Source, log *slog.Logger) *Catalog {
	return &Catalog{source: source, log: log, entries: map[string]*entry{}}
}

// Get returns what is known of a model, asking for it when that is the first time. It returns nil
// when nothing can be known now, or not before the context is done.
func (c *Catalog) Get(ctx context.Context, name, digest string) *Model {
	e := c.enter(name, digest)
	select {
	case <-e.done:
		return e.model
	case <-ctx.Done():
		return nil
	}
}

// Warm asks for a model that will be needed, and does not wait for the answer.
func (c *Catalog) Warm(name, digest string) { c.enter(name, digest) }

func (c *Catalog) enter(name, digest string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := cmp.Or(digest, name) // one digest is one model, whatever its names
	c.uses++
	if e := c.entries[k]; e != nil && !e.failed() {
		e.used = c.uses
		return e
	}

	e := &entry{done: make(chan struct{}), used: c.uses}
	c.entries[k] = e
	c.bound()
	go c.load(name, e)
	return e
}

// failed reports whether it is time to ask again.
func (e *entry) failed() bool {
	select {
	case <-e.done:
		return e.model == nil && time.Since(e.ended) > retryAfter
	default:
		return false
	}
}

// bound forgets the models that were not used for longest.
func (c *Catalog) bound() {
	for len(c.entries) > maxModels {
		oldest := ""
		least := c.uses + 1
		for k, e := range c.entries {
			if e.used < least {
				oldest, least = k, e.used
			}
		}

		delete(c.entries, oldest)
	}
}

// load is not bounded by the request that asked first: others may wait for the same model.
func (c *Catalog) load(name string, e *entry) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	m, err := load(ctx, c.source, name)
	switch {
	case err != nil:
		c.log.Warn("nothing is known of a model: its prompts are estimated",
			"model", name, "error", err)
	case !m.Vocabulary.Exact():
		c.log.Info("the model's tokenizer is not known: its prompts are estimated", "model", name)
	}

	e.model, e.ended = m, time.Now()
	close(e.done)
}
