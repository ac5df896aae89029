package models

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// archive is a tar archive of a folder of models. It lists nothing: its files are opened by name.
type archive struct {
	f     *os.File
	files map[string]section

	// unpacked is the copy that was made of a compressed archive, or "".
	unpacked string
}

// section is where the archive has a file.
type section struct{ at, size int64 }

// isArchive reports whether the file is one that openArchive reads. It reads from the beginning.
func isArchive(f *os.File) bool {
	if compressed(f) {
		return true
	}
	_, err := tar.NewReader(f).Next()
	return err == nil
}

func compressed(f *os.File) bool {
	var magic [2]byte
	n, _ := f.ReadAt(magic[:], 0)
	return n == 2 && magic == [2]byte{0x1f, 0x8b}
}

// openArchive opens a tar archive. One that is compressed with gzip is unpacked into a temporary
// file first. The caller closes it.
func openArchive(ctx context.Context, name string) (_ *archive, err error) {
	fail := func(err error) (*archive, error) { return nil, fmt.Errorf("model: %s: %w", name, err) }
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}

	a := &archive{f: f, files: map[string]section{}}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()

	if compressed(f) {
		if err := a.unpack(ctx); err != nil {
			return fail(err)
		}
	}

	for entries := tar.NewReader(a.f); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return fail(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}

		at, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return fail(err)
		}

		clean := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		a.files[strings.TrimPrefix(clean, ".ollama/")] = section{at, h.Size}
	}
}

// unpack replaces the file by an uncompressed copy.
func (a *archive) unpack(ctx context.Context) error {
	z, err := gzip.NewReader(a.f)
	if err != nil {
		return err
	}

	to, err := os.CreateTemp("", "codexctl-model-*.tar")
	if err != nil {
		return err
	}

	packed := a.f
	defer packed.Close()
	a.f, a.unpacked = to, to.Name()
	if _, err := io.Copy(to, until(ctx, z)); err != nil {
		return err
	}

	_, err = to.Seek(0, io.SeekStart)
	return err
}

// Close closes the archive and removes its copy.
func (a *archive) Close() error {
	err := a.f.Close()
	if a.unpacked != "" {
		err = errors.Join(err, os.Remove(a.unpacked))
	}
	return err
}

// Open implements fs.FS.
func (a *archive) Open(name string) (fs.File, error) {
	s, ok := a.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	r := io.NewSectionReader(a.f, s.at, s.size)
	return &entry{SectionReader: r, name: path.Base(name)}, nil
}

// names returns those of the files.
func (a *archive) names() []string {
	out := make([]string, 0, len(a.files))
	for name := range a.files {
		out = append(out, name)
	}
	return out
}

// entry is an open file of an archive.
type entry struct {
	*io.SectionReader
	name string
}

func (e *entry) Close() error { return nil }

func (e *entry) Stat() (fs.FileInfo, error) {
	return (&tar.Header{Name: e.name, Size: e.Size(), Typeflag: tar.TypeReg}).FileInfo(), nil
}
