// Package depot is where backups are kept: a directory, or a bucket of S3.
package depot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrNotFound reports that there is no file of the name.
var ErrNotFound = errors.New("there is no such file")

// Depot keeps the files of one stack. A file is there whole, or not at all.
type Depot interface {
	// List returns all files.
	List(ctx context.Context) ([]File, error)

	// Create writes a file with what is read until its end. If a Read fails there is none.
	Create(ctx context.Context, name string, content io.Reader) error

	// Open reads a file, which the caller closes.
	Open(ctx context.Context, name string) (io.ReadCloser, error)

	// Remove removes a file, if there is one.
	Remove(ctx context.Context, name string) error

	// Clean removes what a Create left that was begun before the time, and has not ended.
	Clean(ctx context.Context, before time.Time) error

	// String returns where it is, for people.
	String() string
}

// File is a file of a depot, and its size in bytes.
type File struct {
	Name string
	Size int64
}

// Directory is a Depot in a directory.
type Directory struct {
	dir string
}

// unfinished begins the names of files that are being written.
const unfinished = ".unfinished-"

// NewDirectory returns the depot of the stack in the directory, which has to be there.
func NewDirectory(root, stack string) (*Directory, error) {
	d := &Directory{filepath.Join(root, stack)}
	if err := os.Mkdir(d.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d, nil
}

// Clean implements Depot, by when a file was last written to.
func (d *Directory) Clean(_ context.Context, before time.Time) error {
	paths, err := filepath.Glob(filepath.Join(d.dir, unfinished+"*"))
	for _, path := range paths {
		info, e := os.Stat(path)
		if e == nil && info.ModTime().Before(before) {
			e = os.Remove(path)
		}
		if errors.Is(e, fs.ErrNotExist) {
			e = nil // it has just ended
		}
		err = errors.Join(err, e)
	}
	return err
}

func (d *Directory) String() string { return d.dir }

// List implements Depot.
func (d *Directory) List(context.Context) ([]File, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}

	var files []File
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just been removed
		}
		if err != nil {
			return nil, err
		}
		files = append(files, File{e.Name(), info.Size()})
	}
	return files, nil
}

// Create implements Depot. The file is on the disk when it returns.
func (d *Directory) Create(ctx context.Context, name string, content io.Reader) error {
	f, err := os.CreateTemp(d.dir, unfinished+"*")
	if err != nil {
		return err
	}

	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Sync(), f.Close(), ctx.Err())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}

	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open implements Depot.
func (d *Directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

// Remove implements Depot.
func (d *Directory) Remove(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
