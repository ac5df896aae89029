package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/mod/sumdb/note"
)

// Reader reads a bundle.
type Reader struct {
	Manifest

	f     *os.File
	parts map[string]section
}

// section is where the file has a part.
type section struct {
	Part
	at int64
}

// Open opens a bundle whose manifest the key has signed. It looks at nothing else before it knows
// that; the parts are checked by Verify, and again as they are read. The caller closes it.
func Open(file string, key note.Verifier) (*Reader, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}

	r := &Reader{f: f, parts: map[string]section{}}
	if err := r.index(key); err != nil {
		f.Close()
		return nil, fmt.Errorf("bundle: %s: %w", file, err)
	}

	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// index reads the manifest and finds the parts.
func (r *Reader) index(key note.Verifier) error {
	entries := tar.NewReader(r.f)
	h, err := entries.Next()
	if err != nil || h.Name != manifestName || h.Size > maxManifest {
		return errors.New("is no bundle: it does not begin with a manifest")
	}

	signed, err := io.ReadAll(entries)
	if err != nil {
		return cutOff(err)
	}
	if r.Manifest, err = parse(signed, key); err != nil {
		return err
	}

	known := map[string]Part{}
	for _, p := range r.Parts {
		known[p.Name] = p
	}

	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return cutOff(err)
		}

		p, ok := known[h.Name]
		_, again := r.parts[h.Name]
		switch {
		case !ok:
			return fmt.Errorf("has %q, which its manifest does not name", h.Name)
		case again:
			return fmt.Errorf("has %s twice", h.Name)
		case h.Typeflag != tar.TypeReg || h.Size != p.Size:
			return fmt.Errorf("%s is not what its manifest says", h.Name)
		}

		at, err := r.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		r.parts[h.Name] = section{p, at}
	}

	for _, p := range r.Parts {
		if _, ok := r.parts[p.Name]; !ok {
			return fmt.Errorf("%s is missing: the file is not whole", p.Name)
		}
	}

	return nil
}

// cutOff returns what to say of an error in the archive's form.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("ends in the middle: copy it again")
	}
	return err
}

// Verify reads every part and compares it with the manifest.
func (r *Reader) Verify(ctx context.Context, progress Progress) error {
	var done, total int64
	for _, p := range r.Parts {
		total += p.Size
	}

	for _, p := range r.Parts {
		err := r.Read(p.Name, func(from io.Reader) error {
			_, err := io.Copy(writeFunc(func(b []byte) (int, error) {
				done += int64(len(b))
				progress("checking the bundle", done, total)
				return len(b), nil
			}), until(ctx, from))
			return err
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// Has reports whether the bundle has the part.
func (r *Reader) Has(name string) bool {
	_, ok := r.parts[name]
	return ok
}

// Open opens a part. Its reader ends with an error if what was read is not the part.
func (r *Reader) Open(name string) (io.ReadCloser, error) {
	s, ok := r.parts[name]
	if !ok {
		return nil, fmt.Errorf("bundle: has no %s", name)
	}

	return io.NopCloser(&checked{
		r: io.NewSectionReader(r.f, s.at, s.Size), part: s.Part, sum: sha256.New(),
	}), nil
}

// Read calls use with a reader of the part.
func (r *Reader) Read(name string, use func(from io.Reader) error) error {
	from, err := r.Open(name)
	if err == nil {
		err = use(from)
	}
	if err != nil {
		return fmt.Errorf("bundle: %s: %w", name, err)
	}
	return nil
}

// ReadMade calls use with a reader of what a compressed part holds.
func (r *Reader) ReadMade(name string, use func(from io.Reader) error) error {
	return r.Read(name, func(from io.Reader) error { return uncompress(from, use) })
}

// uncompress calls use with a reader of what the draft has compressed, and then reads to the end,
// where a reader of a part checks it.
func uncompress(from io.Reader, use func(from io.Reader) error) error {
	z, err := gzip.NewReader(from)
	if err != nil {
		return err
	}
	if err := use(z); err != nil {
		return err
	}

	if _, err := io.Copy(io.Discard, z); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, from)
	return err
}

// Copy writes the part to a file. A file of that name is replaced once the other is whole.
func (r *Reader) Copy(name, file string, mode fs.FileMode) error {
	return r.Read(name, func(from io.Reader) error { return writeWhole(file, mode, from) })
}

// Install writes the program that a compressed part holds. A program of that name is replaced once
// the other is whole.
func (r *Reader) Install(name, file string) error {
	return r.ReadMade(name, func(from io.Reader) error {
		return writeWhole(file, 0o755, from)
	})
}
