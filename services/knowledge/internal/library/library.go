// Package library keeps documents and finds their passages. It knows collections, and nobody who
// reads them: package api says who may.
//
// A collection is a directory:
//
//	documents/KEY   the passages of a document, with what is known of it (see file.go). The file
//	                is the document: it is there when its rename is done, and gone when it is removed
//	words/          the full-text index, which is made of the documents
//	vectors/ID      the vectors of a document, which are made of it as well
//	round           how often all vectors were asked to be made anew
//	purge           is there while something that was removed may still be in words/
//
// Beside the collections, restored has those of a backup, which take their place at the next start. It
// is called restored-taken while that goes on.
//
// What a crash leaves between two of them is put right by Open. One process at a time has the whole.
package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/words"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound reports that there is no such collection, document or passage.
	ErrNotFound = errors.New("not found")

	// ErrBusy reports that the document is being added.
	ErrBusy = errors.New("the document is being added")

	// ErrFull reports that the volume, or the library, has no room for a document.
	ErrFull = errors.New("no space is left")

	// ErrCrowded reports that too many documents are being added.
	ErrCrowded = errors.New("too many documents are being added")
)

// maxPassages bounds what a library holds, for the memory that vectors take.
const maxPassages = 250_000

// Options are what a library works with.
type Options struct {
	// Dir is where it keeps everything, and Collections are those that it has.
	Dir         string
	Collections []string

	// Size is how many characters a passage has at most.
	Size int

	// Parse reads a document. It is called by maxAtOnce adds at once at most.
	Parse func(context.Context, parse.Type, *os.File) (*parse.Document, error)

	// Model makes vectors; it is empty where there are none. Embed asks a model for them.
	Model string
	Embed func(ctx context.Context, model string, texts []string) ([][]float32, error)

	Log *slog.Logger
}

// Library keeps documents. Nothing but New, Open, Ready and Close may be called before Open has
// returned.
type Library struct {
	Options

	lock        *os.File
	collections map[string]*collection
	names       []string // in order
	places      chan struct{}
	opened      chan struct{}

	// adding has those that are being added or removed, by the paths of documents: whether they wait
	// for their turn.
	mu     sync.Mutex
	adding map[string]bool

	wake chan struct{} // has the embedder look for work
	// unable says why the model makes no vectors; it is empty while it does.
	unable   string
	unableMu sync.Mutex

	working sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc
}

// collection is the documents with one rule of who may read them.
type collection struct {
	name, dir string
	words     *words.Index
	purger    purger

	// writing is held by who changes something, mu to see and change the fields below, and files
	// that are read by them.
	writing sync.Mutex
	mu      sync.RWMutex
	docs    map[string]*document // by their keys
	byID    map[string]*document
	round   int
}

// New returns a library that Open opens.
func New(o Options) *Library {
	l := &Library{
		Options: o, collections: map[string]*collection{}, places: make(chan struct{}, maxAtOnce),
		opened: make(chan struct{}), adding: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	l.names = slices.Sorted(slices.Values(o.Collections))
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// lockPatience is how long Open waits for a process that still has the library, such as one that
// drains.
const lockPatience = time.Minute

// Open puts right what a crash has left, and begins to work in the background.
func (l *Library) Open(ctx context.Context) error {
	begun := time.Now()
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	if err := l.takeLock(ctx); err != nil {
		return err
	}
	if err := l.takeRestored(); err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	if err := os.RemoveAll(l.spool()); err != nil { // of adds that were cut
		return fmt.Errorf("DATA_DIR: %w", err)
	}
	if err := os.MkdirAll(l.spool(), 0o700); err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}

	for _, name := range l.names {
		c, err := l.openCollection(ctx, name)
		if err != nil {
			return fmt.Errorf("DATA_DIR: the collection %s: %w", name, err)
		}
		l.collections[name] = c
	}

	l.warnOfOthers()
	l.working.Go(l.embedAll)
	l.Log.Info("documents are ready", "documents", l.count().Documents, "passages",
		l.count().Passages, "after", time.Since(begun).Round(time.Millisecond).String())
	close(l.opened)
	return nil
}

// takeLock makes this process the only one that has the library.
func (l *Library) takeLock(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(l.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("DATA_DIR: %w", err)
	}

	for begun := time.Now(); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			l.lock = f
			return nil
		}
		if time.Since(begun) > lockPatience || !outage.Pause(ctx, 100*time.Millisecond) {
			_ = f.Close()
			return fmt.Errorf("DATA_DIR: another process has it: %w", err)
		}
	}
}

// spool is where documents are while they are received.
func (l *Library) spool() string { return filepath.Join(l.Dir, "spool") }

// Spool returns a file for a document that is received. Who calls it closes and removes it.
func (l *Library) Spool() (*os.File, error) {
	f, err := os.CreateTemp(l.spool(), "")
	return f, Full(err)
}

// warnOfOthers says what is kept and no longer served: a setting that lost a name deletes nothing.
func (l *Library) warnOfOthers() {
	entries, err := os.ReadDir(filepath.Join(l.Dir, "collections"))
	if err != nil {
		return
	}
	for _, e := range entries {
		if l.collections[e.Name()] == nil {
			l.Log.Warn("documents of a collection that the settings do not name are kept, and not "+
				"found: name it, and remove them if they are to be gone", "collection", e.Name())
		}
	}
}

// Ready returns an error until Open has returned.
func (l *Library) Ready(context.Context) error {
	select {
	case <-l.opened:
		return nil
	default:
		return errors.New("the documents are being opened")
	}
}

// Close ends what goes on in the background.
func (l *Library) Close() error {
	l.stop()
	l.working.Wait()
	var errs []error
	for _, c := range l.collections {
		errs = append(errs, c.words.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// openCollection reads a collection's documents, and makes its indexes what they are to be.
func (l *Library) openCollection(ctx context.Context, name string) (*collection, error) {
	c := &collection{
		name: name, dir: filepath.Join(l.Dir, "collections", name), docs: map[string]*document{},
		byID: map[string]*document{},
	}
	for _, dir := range []string{"documents", "vectors"} {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o700); err != nil {
			return nil, err
		}
		if err := removeUnfinished(filepath.Join(c.dir, dir)); err != nil {
			return nil, err
		}
	}

	b, err := os.ReadFile(c.path("round"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.round, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	if err := l.readDocuments(c); err != nil {
		return nil, err
	}

	if c.words, err = words.Open(c.path("words")); err != nil {
		return nil, err
	}
	if err := l.repair(ctx, c); err != nil {
		_ = c.words.Close()
		return nil, err
	}
	return c, nil
}

func (c *collection) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// unfinished ends the names of files that are being written.
const unfinished = ".tmp"

// removeUnfinished removes files whose writing was cut.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unfinished) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// repair makes the index of words what the documents are.
func (l *Library) repair(ctx context.Context, c *collection) error {
	for _, d := range c.docs {
		has, err := c.words.Has(d.ID, d.Passages)
		if err != nil {
			return err
		}
		if has {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}

		l.Log.Info("a document is indexed anew", "collection", c.name, "document", d.ID)
		passages, err := d.all()
		if err != nil {
			return err
		}
		if err := c.words.Remove(d.ID); err != nil { // what there may be of it
			return err
		}
		if err := c.words.Add(d.ID, d.Title, passages); err != nil {
			return err
		}
	}

	indexed, err := c.words.Documents()
	if err != nil {
		return err
	}
	removed := false
	for _, id := range indexed {
		if c.byID[id] == nil {
			removed = true
			if err := c.words.Remove(id); err != nil {
				return err
			}
		}
	}
	_, err = os.Stat(c.path("purge"))
	if removed || err == nil {
		_, err := l.requestPurge(c)
		return err
	}
	return nil
}

// count returns how much there is in all collections.
func (l *Library) count() (sum knowledgeapi.Collection) {
	for _, c := range l.List() {
		sum.Documents += c.Documents
		sum.Passages += c.Passages
		sum.Bytes += c.Bytes
		sum.Pending += c.Pending
	}
	return sum
}

// Count returns how much there is in all collections.
func (l *Library) Count() knowledgeapi.Collection {
	if l.Ready(context.Background()) != nil {
		return knowledgeapi.Collection{}
	}
	return l.count()
}

// List returns what is in each collection, by their names.
func (l *Library) List() []knowledgeapi.Collection {
	var out []knowledgeapi.Collection
	for _, name := range l.names {
		if c := l.collections[name]; c != nil {
			out = append(out, l.summary(c))
		}
	}
	return out
}

func (l *Library) summary(c *collection) knowledgeapi.Collection {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := knowledgeapi.Collection{Name: c.name, Documents: len(c.docs)}
	for _, d := range c.docs {
		s.Passages += d.Passages
		s.Bytes += d.Bytes
		if l.pending(c, d) {
			s.Pending += d.Passages
		}
	}
	return s
}

// Documents returns what is in a collection, by the names of the files.
func (l *Library) Documents(name string) ([]knowledgeapi.Document, error) {
	c := l.collections[name]
	if c == nil {
		return nil, ErrNotFound
	}

	c.mu.RLock()
	defer c.mu.RUnlock()
	out := []knowledgeapi.Document{}
	for _, d := range c.docs {
		out = append(out, l.describe(c, d))
	}
	slices.SortFunc(out, func(a, b knowledgeapi.Document) int { return cmp.Compare(a.File, b.File) })
	return out, nil
}

// describe returns what the API says of a document. The caller holds c.mu.
func (l *Library) describe(c *collection, d *document) knowledgeapi.Document {
	out := knowledgeapi.Document{
		ID: d.ID, File: d.File, Title: d.Title, Type: d.Type, SHA256: d.SHA256,
		Bytes: d.Bytes, Passages: d.Passages, Added: d.Added, AddedBy: d.AddedBy, Warnings: d.Warnings, State: knowledgeapi.StateIndexed,
	}
	if l.pending(c, d) {
		out.State, out.Problem = knowledgeapi.StateIndexing, cmp.Or(d.problem, l.unableTo())
		if out.Problem != "" {
			out.State = knowledgeapi.StateFailed
		}
	}
	return out
}
