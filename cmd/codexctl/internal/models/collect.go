package models

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Collect puts the model into the folder dir, which FromFolder reads, out of another folder of
// models, whose files read writes to w by their paths in it. Ollama itself shows nobody what it has.
func Collect(
	ctx context.Context, name, dir string,
	read func(ctx context.Context, path string, w io.Writer) error, progress Progress,
) error {
	at, err := ManifestPath(name)
	if err != nil {
		return err
	}

	fail := func(err error) error { return fmt.Errorf("model %s: %w", name, err) }
	var text bytes.Buffer
	if err := read(ctx, at, &text); err != nil {
		return fail(err)
	}
	var list manifest
	if err := json.Unmarshal(text.Bytes(), &list); err != nil {
		return fail(fmt.Errorf("its manifest: %w", err))
	}

	for _, l := range append(list.Layers, list.Config) {
		from, err := blobPath(l.Digest)
		if err != nil {
			return fail(err)
		}

		to := filepath.Join(dir, filepath.FromSlash(from))
		err = write(to, func(w io.Writer) error {
			return read(ctx, from, &writeCounter{w, counter{
				what: fmt.Sprintf("reading %.12s", l.Digest[len("sha256:"):]), total: l.Size, told: progress,
			}})
		})
		if err != nil {
			return fail(err)
		}
		if info, err := os.Stat(to); err != nil || info.Size() != l.Size {
			return fail(fmt.Errorf("%.19s: did not come whole", l.Digest))
		}
	}

	return write(filepath.Join(dir, filepath.FromSlash(at)), func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
}

// write makes the file with what fill writes to it, and its folder.
func write(name string, fill func(w io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}

	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = fill(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// writeCounter tells how much of a file is written.
type writeCounter struct {
	w io.Writer
	counter
}

func (c *writeCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.done += int64(n)
	c.told(c.what, c.done, c.total)
	return n, err
}
