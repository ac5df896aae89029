// Package scaffold adds a new domain or a new service to the checkout: the files that it is made
// of, and the entries by which the rest of the sources knows it.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Change is what is added to the checkout.
type Change struct {
	// Files are new: none of them may exist.
	Files []File

	// Edits change files that exist.
	Edits []Edit

	// Next is what to do once it is written, a step an element.
	Next []string
}

// File is a new file. Its path is relative to the root of the checkout, with slashes.
type File struct {
	Path, Text string

	// Link makes the file a symbolic link to that path. It has no Text then.
	Link string
}

// Edit changes one file.
type Edit struct {
	Path string

	// Apply returns the new text of the file, given the present one.
	Apply func(text []byte) ([]byte, error)
}

// Write makes the whole change in the checkout at dir. If it returns an error, it has changed
// nothing.
func (c Change) Write(dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	edited, err := c.check(root)
	if err != nil {
		return err
	}

	w := writer{root: root}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.undo())
		}
	}()

	for _, f := range c.Files {
		if err := w.create(f); err != nil {
			return err
		}
	}
	for i, e := range c.Edits {
		if err := w.replace(e.Path, edited[i]); err != nil {
			return err
		}
	}

	return nil
}

// check returns the new text of each edited file. It reports everything that stands in the way of
// the change.
func (c Change) check(root *os.Root) ([][]byte, error) {
	var errs []error
	for _, f := range c.Files {
		if _, err := root.Lstat(f.Path); err == nil {
			errs = append(errs, fmt.Errorf("%s: exists already: choose another name", f.Path))
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}

	var edited [][]byte
	for _, e := range c.Edits {
		text, err := root.ReadFile(e.Path)
		if err != nil {
			errs = append(errs, err)
			continue
		}

		text, err = e.Apply(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Path, err))
		}
		edited = append(edited, text)
	}

	return edited, errors.Join(errs...)
}

// writer writes into a checkout and remembers how to take each step back.
type writer struct {
	root  *os.Root
	steps []func() error
}

func (w *writer) undo() error {
	var errs []error
	for _, back := range slices.Backward(w.steps) {
		errs = append(errs, back())
	}
	return errors.Join(errs...)
}

// create writes a new file, and the folders above it that are missing.
func (w *writer) create(f File) error {
	dir := ""
	for element := range strings.SplitSeq(path.Dir(f.Path), "/") {
		dir = path.Join(dir, element)
		made := dir
		err := w.root.Mkdir(made, 0o755)
		if err == nil {
			w.steps = append(w.steps, func() error { return w.root.Remove(made) })
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}

	if f.Link != "" {
		err := w.root.Symlink(f.Link, f.Path)
		if err == nil {
			w.steps = append(w.steps, func() error { return w.root.Remove(f.Path) })
		}
		return err
	}

	file, err := w.root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.steps = append(w.steps, func() error { return w.root.Remove(f.Path) })

	_, err = file.WriteString(f.Text)
	return errors.Join(err, file.Close())
}

// replace gives a file another text. A reader sees the one or the other.
func (w *writer) replace(name string, text []byte) error {
	info, err := w.root.Stat(name)
	if err != nil {
		return err
	}
	old, err := w.root.ReadFile(name)
	if err != nil {
		return err
	}

	set := func(text []byte) error {
		beside := name + ".new"
		// What is there already is somebody's.
		file, err := w.root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
		if err != nil {
			return err
		}

		_, err = file.Write(text)
		if err = errors.Join(err, file.Close()); err == nil {
			err = w.root.Rename(beside, name)
		}
		if err != nil {
			return errors.Join(err, w.root.Remove(beside))
		}
		return nil
	}

	if err := set(text); err != nil {
		return err
	}
	w.steps = append(w.steps, func() error { return set(old) })
	return nil
}
