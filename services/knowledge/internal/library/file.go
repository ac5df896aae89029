package library

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/vectors"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/words"
)

// header is the first line of a document's file. A line for each passage follows, so that one can be
// read alone.
type header struct {
	ID       string    `json:"id"`
	File     string    `json:"file"`
	Title    string    `json:"title"`
	Type     string    `json:"type"`
	Bytes    int64     `json:"bytes"`
	SHA256   string    `json:"sha256"` // of what was added
	Passages int       `json:"passages"`
	Added    time.Time `json:"added"`
	AddedBy  string    `json:"added_by,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// document is a document in memory: what is known of it, and where its passages are.
type document struct {
	header
	path    string
	offsets []int64 // of the passages, and of the end

	// The fields below change, under the lock of the collection.
	vectors *vectors.Set // nil if there are none
	problem string       // why this document has none
}

// key returns what the file of a document is called: names of files may be too long for one, or mean
// something to the system.
func key(file string) string {
	sum := sha256.Sum256([]byte(file))
	return hex.EncodeToString(sum[:16])
}

// write writes a document's file beside the place where it is to be, and returns the document.
func write(path string, h header, passages []split.Passage) (*document, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return nil, err
	}

	d := &document{header: h, path: path}
	for _, p := range passages {
		d.offsets = append(d.offsets, int64(b.Len()))
		if err := enc.Encode(p); err != nil {
			return nil, err
		}
	}
	d.offsets = append(d.offsets, int64(b.Len()))
	return d, writeSynced(path+unfinished, b.Bytes())
}

// writeSynced writes a file, which is on disk when it returns. What an error leaves is removed.
func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return Full(err)
	}

	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(path)
	}
	return Full(err)
}

// syncDir has the names in a directory on disk when it returns.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Full returns ErrFull in the place of what the system says of a volume without space.
func Full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrFull
	}
	return err
}

// read reads a document's file.
func read(path string) (*document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	d := &document{path: path}
	r := bufio.NewReader(f)
	at := int64(0)
	for n := 0; ; n++ {
		line, err := r.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0 && n > 0 && n-1 == d.Passages:
			d.offsets = append(d.offsets, at)
			return d, nil
		case err != nil:
			return nil, fmt.Errorf("the file %s is cut: %w", path, err)
		case n > 0:
			d.offsets = append(d.offsets, at)
		default:
			if err := json.Unmarshal(line, &d.header); err != nil {
				return nil, fmt.Errorf("the file %s: %w", path, err)
			}
		}
		at += int64(len(line))
	}
}

// passages returns the passages from one on to another one, without that.
func (d *document) passages(from, to int) ([]split.Passage, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	b := make([]byte, d.offsets[to]-d.offsets[from])
	if _, err := f.ReadAt(b, d.offsets[from]); err != nil {
		return nil, err
	}
	var out []split.Passage
	for line := range bytes.Lines(b) {
		var p split.Passage
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, fmt.Errorf("the file %s: %w", d.path, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// all returns all passages as the index of words takes them.
func (d *document) all() ([]words.Passage, error) {
	passages, err := d.passages(0, d.Passages)
	return forWords(passages), err
}

func forWords(passages []split.Passage) []words.Passage {
	out := make([]words.Passage, len(passages))
	for i, p := range passages {
		out[i] = words.Passage{Heading: p.Heading, Text: p.Text}
	}
	return out
}

// readDocuments reads all documents of a collection with their vectors. Vectors of documents that
// are gone are removed, and so are those that cannot be read: they are made anew.
func (l *Library) readDocuments(c *collection) error {
	entries, err := os.ReadDir(c.path("documents"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		d, err := read(c.path("documents", e.Name()))
		if err != nil {
			return err
		}
		c.docs[e.Name()], c.byID[d.ID] = d, d
	}

	entries, err = os.ReadDir(c.path("vectors"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := c.path("vectors", e.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d := c.byID[e.Name()]
		set, err := vectors.Decode(b)
		if d == nil || l.Model == "" || err != nil || set.Len() != d.Passages || set.Document != d.ID {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		d.vectors = set
	}
	return nil
}

// replaceFile puts what was written beside a path into its place, for good.
func replaceFile(path string) error {
	if err := os.Rename(path+unfinished, path); err != nil {
		return Full(err)
	}
	return syncDir(filepath.Dir(path))
}
