// Package bundle writes and reads bundles: one file with all that a machine needs to run a stack
// without internet. It is a tar archive whose first entry is a signed manifest with the size and
// the checksum of every other.
package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/mod/sumdb/note"
)

// Progress is called with how many bytes of how many are done.
type Progress func(what string, done, total int64)

// Draft is a bundle that is being made.
type Draft struct {
	Manifest Manifest

	// Dir is a folder for what is made of the sources. The caller removes it.
	Dir string

	open map[string]func() (io.ReadCloser, error)
}

// Add adds a part whose size and checksum are known. open is called when it is written.
func (d *Draft) Add(p Part, open func() (io.ReadCloser, error)) {
	if d.open == nil {
		d.open = map[string]func() (io.ReadCloser, error){}
	}
	if _, ok := d.open[p.Name]; ok {
		return // of the same name and content
	}

	d.open[p.Name] = open
	d.Manifest.Parts = append(d.Manifest.Parts, p)
}

// AddFile adds a file as it is.
func (d *Draft) AddFile(ctx context.Context, p Part, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()

	h := sha256.New()
	if p.Size, err = io.Copy(h, until(ctx, f)); err != nil {
		return fmt.Errorf("bundle: %s: %w", p.Name, err)
	}

	p.SHA256 = sum(h)
	d.Add(p, fileOpener(file))
	return nil
}

// AddMade adds a part that write makes, compressed.
func (d *Draft) AddMade(ctx context.Context, p Part, write func(w io.Writer) error) error {
	file, size, digest, err := d.compress(ctx, write)
	if err != nil {
		return fmt.Errorf("bundle: %s: %w", p.Name, err)
	}

	p.Size, p.SHA256 = size, digest
	d.Add(p, fileOpener(file))
	return nil
}

// fileOpener returns a function that opens the file.
func fileOpener(file string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(file) }
}

// AddProgram adds a program, compressed.
func (d *Draft) AddProgram(ctx context.Context, p Part, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()

	return d.AddMade(ctx, p, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// ReadMade calls use with a reader of what AddMade was given.
func (d *Draft) ReadMade(name string, use func(from io.Reader) error) error {
	from, err := d.open[name]()
	if err != nil {
		return fmt.Errorf("bundle: %s: %w", name, err)
	}
	defer from.Close()

	return uncompress(from, use)
}

// compress writes a file of the draft's folder and returns its size and checksum.
func (d *Draft) compress(
	ctx context.Context, write func(w io.Writer) error,
) (file string, size int64, digest string, err error) {
	f, err := os.CreateTemp(d.Dir, "part-")
	if err != nil {
		return "", 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	h := sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, h))
	if err := write(writeFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return z.Write(b)
	})); err != nil {
		return "", 0, "", err
	}
	if err := z.Close(); err != nil {
		return "", 0, "", err
	}

	info, err := f.Stat()
	if err != nil {
		return "", 0, "", err
	}
	return f.Name(), info.Size(), sum(h), nil
}

// Write writes the bundle, signed. What is written before an error or an interrupt is removed.
func (d *Draft) Write(
	ctx context.Context, file string, by note.Signer, progress Progress,
) (err error) {
	d.Manifest.Format = format
	if _, ok := d.open[EmbeddingModel]; ok {
		d.Manifest.Format = formatEmbedding
	}
	fail := func(err error) error { return fmt.Errorf("bundle: %s: %w", file, err) }
	if err := d.Manifest.check(); err != nil {
		return fail(err)
	}

	signed, err := d.Manifest.sign(by)
	if err != nil {
		return fail(err)
	}

	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing of that name
	defer f.Close()

	if err := d.write(ctx, f, signed, progress); err != nil {
		return fail(err)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fail(err)
	}

	// Unlike a rename this replaces nothing.
	if err := os.Link(f.Name(), file); errors.Is(err, fs.ErrExist) {
		return fail(errors.New("is there: remove it, or name another with -o"))
	} else if err == nil {
		return nil
	}

	if err := os.Rename(f.Name(), file); err != nil { // a file system without links
		return fail(err)
	}
	return nil
}

func (d *Draft) write(
	ctx context.Context, to io.Writer, signed []byte, progress Progress,
) error {
	w := tar.NewWriter(to)
	h := &tar.Header{Name: manifestName, Mode: 0o644, Size: int64(len(signed))}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if _, err := w.Write(signed); err != nil {
		return err
	}

	var done, total int64
	for _, p := range d.Manifest.Parts {
		total += p.Size
	}

	for _, p := range d.Manifest.Parts {
		h := &tar.Header{Name: p.Name, Mode: 0o644, Size: p.Size}
		if strings.HasPrefix(p.Name, "bin/") {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}

		counted := writeFunc(func(b []byte) (int, error) {
			done += int64(len(b))
			progress("writing the bundle", done, total)
			return w.Write(b)
		})
		if err := d.writePart(ctx, counted, p); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}

	return w.Close()
}

func (d *Draft) writePart(ctx context.Context, to io.Writer, p Part) error {
	from, err := d.open[p.Name]()
	if err != nil {
		return err
	}
	defer from.Close()

	_, err = io.Copy(to, &checked{r: until(ctx, from), part: p, sum: sha256.New()})
	return err
}

// checked is a reader of a part that returns an error in the place of io.EOF if what was
// read is not the part.
type checked struct {
	r    io.Reader
	part Part
	done int64
	sum  hash.Hash
}

func (c *checked) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.sum.Write(b[:n])
	switch {
	case c.done > c.part.Size:
		return 0, errors.New("is longer than the manifest says")
	case !errors.Is(err, io.EOF):
	case c.done < c.part.Size:
		return n, fmt.Errorf("ends after %d bytes of %d", c.done, c.part.Size)
	case sum(c.sum) != c.part.SHA256:
		return n, errors.New("has another checksum than the manifest says")
	}

	return n, err
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// writeFunc is an io.Writer, readFunc an io.Reader.
type (
	writeFunc func(b []byte) (int, error)
	readFunc  func(b []byte) (int, error)
)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }
func (f readFunc) Read(b []byte) (int, error)   { return f(b) }

// until returns a reader of r that fails once the context has ended.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}
