package library

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
)

// Upload is a document that was received.
type Upload struct {
	// Name is the file's name, and Content its content, from the beginning.
	Name    string
	Content *os.File
	Bytes   int64
	SHA256  string

	// By is who adds it.
	By string
}

const (
	// maxAtOnce is how many documents are read and indexed at once, for the memory that it takes.
	maxAtOnce = 1

	// maxWait is how long an add waits for its turn: as long as five others take at most, each of
	// which may be read for two minutes.
	maxWait = 10 * time.Minute
)

// Add adds a document, or replaces the one of the same name, and returns when it is found by its
// words. One that is there as it is stays. The error is a *parse.Refusal, or one of this package, if
// it is for who adds.
func (l *Library) Add(ctx context.Context, name string, u Upload) (knowledgeapi.Document, error) {
	c := l.collections[name]
	if c == nil {
		return knowledgeapi.Document{}, ErrNotFound
	}
	t, err := parse.TypeOf(u.Name)
	if err != nil {
		return knowledgeapi.Document{}, err
	}

	path := c.path("documents", key(u.Name))
	if !l.begin(path) {
		return knowledgeapi.Document{}, ErrBusy
	}
	defer l.end(path)

	c.mu.RLock()
	old := c.docs[key(u.Name)]
	same := old != nil && old.SHA256 == u.SHA256
	var there knowledgeapi.Document
	if same {
		there = l.describe(c, old)
	}
	c.mu.RUnlock()
	if same {
		return there, nil
	}

	leave, err := l.turn(ctx, path)
	if err != nil {
		return knowledgeapi.Document{}, err
	}
	defer leave()

	parsed, err := l.Parse(ctx, t, u.Content)
	if err != nil {
		return knowledgeapi.Document{}, err
	}
	passages, left := split.Document(parsed.Blocks, l.Size)
	if len(passages) == 0 {
		return knowledgeapi.Document{}, &parse.Refusal{Status: 422, Detail: "The document has no text."}
	}
	if left > 0 {
		parsed.Warnings = append(parsed.Warnings,
			fmt.Sprintf("%d words are left out that are longer than %d characters.", left, l.Size))
	}
	if l.count().Passages+len(passages) > maxPassages {
		return knowledgeapi.Document{}, ErrFull
	}

	h := header{
		ID: newID(), File: u.Name, Title: cmp.Or(parsed.Title, u.Name), Type: string(t),
		Bytes: u.Bytes, SHA256: u.SHA256, Passages: len(passages), Added: time.Now().UTC(),
		AddedBy: u.By, Warnings: parsed.Warnings,
	}
	if err := ctx.Err(); err != nil {
		return knowledgeapi.Document{}, err
	}
	return l.store(c, path, h, passages)
}

// newID returns the id of a document: 130 random bits, in letters and digits.
func newID() string { return strings.ToLower(rand.Text()) }

// begin reports whether nobody else adds or removes the document of the path.
func (l *Library) begin(path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.adding[path]; there {
		return false
	}
	l.adding[path] = false
	return true
}

func (l *Library) end(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.adding, path)
}

// Waits reports whether a document that is being added waits for its turn.
func (l *Library) Waits(name, file string) (bool, error) {
	c := l.collections[name]
	if c == nil {
		return false, ErrNotFound
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	return l.adding[c.path("documents", key(file))], nil
}

// turn waits until the add of the path may go on. Those that wait go in the order in which they came.
func (l *Library) turn(ctx context.Context, path string) (leave func(), err error) {
	leave = func() { <-l.places }
	select {
	case l.places <- struct{}{}:
		return leave, nil
	default:
	}

	waits := func(is bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.adding[path] = is
	}
	waits(true)
	defer waits(false)
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case l.places <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, ErrCrowded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// store makes a document a part of the collection. Its words are in the index before its file is in
// place, so that a document that is there is found; until then searches leave them out.
func (l *Library) store(
	c *collection, path string, h header, passages []split.Passage,
) (knowledgeapi.Document, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	d, err := write(path, h, passages)
	if err != nil {
		return knowledgeapi.Document{}, err
	}
	if err := c.words.Add(d.ID, d.Title, forWords(passages)); err != nil {
		return knowledgeapi.Document{}, errors.Join(Full(err), l.undo(c, d))
	}

	c.mu.RLock()
	old := c.docs[key(d.File)]
	c.mu.RUnlock()
	if old != nil {
		if _, err := l.requestPurge(c); err != nil {
			return knowledgeapi.Document{}, errors.Join(err, l.undo(c, d))
		}
	}

	c.mu.Lock()
	if err := replaceFile(path); err != nil {
		c.mu.Unlock()
		return knowledgeapi.Document{}, errors.Join(err, l.undo(c, d))
	}
	c.docs[key(d.File)], c.byID[d.ID] = d, d
	if old != nil {
		delete(c.byID, old.ID)
	}
	described := l.describe(c, d)
	c.mu.Unlock()

	l.wakeUp()
	if old != nil {
		if err := forget(c, old.ID); err != nil {
			// It is not found any more, and Open removes what is left.
			l.Log.Error("a document was replaced, and what was made of it is left", "error", err)
		}
	}
	return described, nil
}

// undo removes what there is of a document that could not be added.
func (l *Library) undo(c *collection, d *document) error {
	_ = os.Remove(d.path + unfinished)
	_, err := l.requestPurge(c)
	return errors.Join(err, forget(c, d.ID))
}

// forget removes what was made of a document that is gone. A purge has been asked for.
func forget(c *collection, id string) error {
	if err := os.Remove(c.path("vectors", id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.words.Remove(id)
}

// purgePatience is how long Remove waits until nothing is left on disk.
const purgePatience = 20 * time.Second

// Find returns the file's name of a document.
func (l *Library) Find(name, id string) (file string, err error) {
	c := l.collections[name]
	if c == nil {
		return "", ErrNotFound
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if d := c.byID[id]; d != nil {
		return d.File, nil
	}
	return "", ErrNotFound
}

// Remove removes a document. When it returns the document is not found any more, and nothing of it
// is on disk, or else is about to go: what takes longer than a while goes on without the caller.
func (l *Library) Remove(ctx context.Context, name, id string) error {
	file, err := l.Find(name, id)
	if err != nil {
		return err
	}

	c := l.collections[name]
	path := c.path("documents", key(file))
	if !l.begin(path) {
		return ErrBusy
	}
	defer l.end(path)
	purged, err := l.remove(c, key(file), id)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, purgePatience)
	defer cancel()
	select {
	case <-purged:
	case <-ctx.Done():
	}
	return nil
}

// remove removes a document from the collection. It returns what is closed when nothing of it is on
// disk any more.
func (l *Library) remove(c *collection, key, id string) (purged <-chan struct{}, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	purged, err = l.requestPurge(c) // its turn waits for the lock
	if err != nil {
		return nil, err
	}

	c.mu.Lock()
	d := c.docs[key]
	if d == nil || d.ID != id {
		c.mu.Unlock()
		return nil, ErrNotFound
	}
	err = os.Remove(d.path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		delete(c.docs, key)
		delete(c.byID, id)
		err = syncDir(c.path("documents"))
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return purged, forget(c, id)
}

// Reindex has the vectors of a collection made anew. The ones that there are answer until then.
func (l *Library) Reindex(name string) error {
	c := l.collections[name]
	if c == nil {
		return ErrNotFound
	}

	c.writing.Lock()
	defer c.writing.Unlock()
	round := strconv.Itoa(c.round + 1)
	if err := writeSynced(c.path("round"+unfinished), []byte(round)); err != nil {
		return err
	}
	if err := replaceFile(c.path("round")); err != nil {
		return err
	}

	c.mu.Lock()
	c.round++
	for _, d := range c.docs {
		d.problem = ""
	}
	c.mu.Unlock()
	l.wakeUp()
	return nil
}
