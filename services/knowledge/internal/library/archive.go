package library

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An archive is a tar archive with the file of each document, COLLECTION/KEY. What is made of the
// documents, indexes and vectors, is not in it: it is made again.

// Archive writes all documents. One that is removed meanwhile may be missing.
func (l *Library) Archive(ctx context.Context, to io.Writer) error {
	w := tar.NewWriter(to)
	for _, name := range l.names {
		c := l.collections[name]
		c.mu.RLock()
		var keys []string
		for k := range c.docs {
			keys = append(keys, k)
		}
		c.mu.RUnlock()

		slices.Sort(keys)
		for _, k := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := archiveFile(w, name+"/"+k, c.path("documents", k)); err != nil {
				return fmt.Errorf("archive: %s: %w", name, err)
			}
		}
	}
	return w.Close()
}

// archiveFile writes a file, unless it is gone. It is never changed, only replaced.
func archiveFile(w *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()

	info, err := f.Stat()
	if err == nil {
		err = w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o600,
		})
	}
	if err == nil {
		_, err = io.Copy(w, f)
	}
	return err
}

// ErrArchive reports that what is to be restored is no archive of documents.
var ErrArchive = errors.New("it is no archive of documents")

// restored is where an archive is until Open puts it into the place of the collections.
func (l *Library) restored() string { return filepath.Join(l.Dir, "restored") }

// Restore keeps the documents of an archive for the next Open, which puts them into the place of
// all that are there, unless that is later than waits. Until then nothing changes. Nothing is kept of
// what is no archive, or has another SHA-256 than sum, in hexadecimal: an archive that is cut before
// the first document, or between two, is one with fewer documents otherwise.
func (l *Library) Restore(
	ctx context.Context, from io.Reader, sum string,
) (documents int, err error) {
	dir := l.restored() + unfinished
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, Full(err)
	}

	hash := sha256.New()
	from = io.TeeReader(from, hash)
	r := tar.NewReader(from)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := restoreFile(dir, h, r); err != nil {
			return 0, err
		}
		documents++
	}

	if _, err := io.Copy(io.Discard, from); err != nil { // what follows the last document
		return 0, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return 0, fmt.Errorf("%w: it was cut or damaged on its way here, its SHA-256 is %s", ErrArchive,
			got)
	}

	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(l.restored()); err != nil { // of a restore that nobody waited for
		return 0, err
	}
	if err := os.Rename(dir, l.restored()); err != nil {
		return 0, err
	}
	return documents, syncDir(l.Dir)
}

var (
	keyForm        = regexp.MustCompile(`^[0-9a-f]{32}$`)
	collectionForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
)

// restoreFile writes the file of a document, which must be one.
func restoreFile(dir string, h *tar.Header, from io.Reader) error {
	collection, k, _ := strings.Cut(h.Name, "/")
	if h.Typeflag != tar.TypeReg || !collectionForm.MatchString(collection) || !keyForm.MatchString(k) {
		return fmt.Errorf("%w: it has an entry %q", ErrArchive, h.Name)
	}

	path := filepath.Join(dir, collection, "documents", k)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Full(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Full(err)
	}

	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Sync(), f.Close())
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err != nil {
		return Full(err)
	}

	d, err := read(path)
	if err == nil && key(d.File) != k {
		err = errors.New("it has the name of another document")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrArchive, h.Name, err)
	}
	return nil
}

// waits is how long an archive waits for the next Open. Who restores restarts the service at once;
// of a restore that ended before that, nothing must come back days later.
const waits = time.Hour

// takeRestored puts what Restore has kept into the place of all collections. After a crash it is
// called again, and goes on.
func (l *Library) takeRestored() error {
	// Restore, of which this is left, has ended with the process.
	if err := os.RemoveAll(l.restored() + unfinished); err != nil {
		return err
	}

	taken := l.restored() + "-taken"
	switch info, err := os.Stat(l.restored()); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case time.Since(info.ModTime()) > waits:
		l.Log.Warn("the documents of a restore that did not end are dropped")
		if err := os.RemoveAll(l.restored()); err != nil {
			return err
		}
	default:
		if err := os.Rename(l.restored(), taken); err != nil {
			return err
		}
		if err := syncDir(l.Dir); err != nil {
			return err
		}
	}

	if _, err := os.Stat(taken); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	collections := filepath.Join(l.Dir, "collections")
	if err := os.RemoveAll(collections); err != nil {
		return err
	}
	if err := os.Rename(taken, collections); err != nil {
		return err
	}
	l.Log.Info("the documents of a backup have taken the place of those that were here")
	return syncDir(l.Dir)
}
