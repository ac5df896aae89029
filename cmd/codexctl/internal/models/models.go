// Package models puts base models into an Ollama that cannot download them. A model comes of a GGUF
// file, of a folder of models that another Ollama made, or of a registry that this machine reaches.
//
// Ollama itself writes what it has: a model's files go to it by its API, which checks their
// digests, and it makes the model of them. So this works beside one that answers, and what it
// has is not sent again.
package models

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/types/model"

	"github.com/codexcontinue/codexcontinue/modelfiles"
)

// Model is what Ollama makes a model of.
type Model struct {
	// Request has all but the model's name.
	Request api.CreateRequest

	// Blobs are the files that the request names by their digests.
	Blobs []Blob
}

// Blob is a file of a model.
type Blob struct {
	// Digest has the form sha256:..., Size counts bytes.
	Digest string
	Size   int64

	// Open opens the content.
	Open func() (io.ReadCloser, error)
}

// Progress is called with how many bytes of how many are done.
type Progress func(what string, done, total int64)

// FullName returns the name as Ollama lists it, with its tag. It returns an error for a name that
// Ollama would not take.
func FullName(name string) (string, error) {
	n := model.ParseName(name)
	if !n.IsValid() {
		return "", fmt.Errorf("model %q: is no name of a model, such as llama3 or llama3:8b", name)
	}
	return n.DisplayShortest(), nil
}

// Open returns the model that is at the path: the weights of a GGUF file, or the one of
// that name in a folder of models or in an archive of one. The caller calls done when it
// needs the model no more.
func Open(
	ctx context.Context, path, name string, progress Progress,
) (m Model, done func() error, err error) {
	done = func() error { return nil }
	f, err := os.Open(path)
	if err != nil {
		return m, done, fmt.Errorf("model: %w", err)
	}
	defer f.Close()

	info, err := f.Stat()
	switch {
	case err != nil:
		return m, done, fmt.Errorf("model: %w", err)
	case info.IsDir():
		m, err = FromFolder(os.DirFS(path), path, name)
		return m, done, err
	case modelfiles.IsGGUF(f):
		m, err = fromFile(ctx, f, path, progress)
		return m, done, err
	case !isArchive(f):
		return m, done, fmt.Errorf("model: %s: is neither a GGUF file nor a folder of models nor an "+
			"archive of one (tar or tar.gz)", path)
	}

	a, err := openArchive(ctx, path)
	if err != nil {
		return m, done, err
	}

	m, err = FromFolder(a, path, name)
	return m, a.Close, err
}

// fromFile returns the model whose weights are the GGUF file at the path.
func fromFile(
	ctx context.Context, f *os.File, path string, progress Progress,
) (Model, error) {
	if err := modelfiles.CheckWeights(f); err != nil {
		return Model{}, fmt.Errorf("model: %s: %w", path, err)
	}
	if modelfiles.IsAdapter(f) {
		return Model{}, fmt.Errorf("model: %s: is an adapter, which answers only with its base model: "+
			"name it with ADAPTER in the Modelfile, or import the folder of models that has both", path)
	}

	info, err := f.Stat()
	if err != nil {
		return Model{}, fmt.Errorf("model: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Model{}, fmt.Errorf("model: %w", err)
	}

	h := sha256.New()
	in := &counter{
		r:     until(ctx, f),
		what:  "reading " + filepath.Base(path),
		total: info.Size(),
		told:  progress,
	}
	if _, err := io.Copy(h, in); err != nil {
		return Model{}, fmt.Errorf("model: %w", err)
	}

	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	return Model{
		Request: api.CreateRequest{Files: map[string]string{"model.gguf": digest}},
		Blobs:   []Blob{{Digest: digest, Size: info.Size(), Open: open}},
	}, nil
}

// Ollama is an Ollama to put models into.
type Ollama struct {
	// Pause is the pause after the first attempt to send a file; 0 is firstPause.
	Pause time.Duration

	client *api.Client
	http   *http.Client
	base   *url.URL
}

// sendAttempts is how often a file is sent whose connection breaks. Each sends the whole file: Ollama
// keeps nothing of one that did not come whole.
const sendAttempts = 3

// NewOllama returns the Ollama that dial connects to. The caller closes it.
func NewOllama(dial func(ctx context.Context) (net.Conn, error)) *Ollama {
	// Ollama refuses names that it does not know
	base := &url.URL{Scheme: "http", Host: "127.0.0.1"}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	return &Ollama{client: api.NewClient(base, client), http: client, base: base}
}

// Close closes its connections.
func (o *Ollama) Close() { o.http.CloseIdleConnections() }

// Version returns Ollama's version: it answers.
func (o *Ollama) Version(ctx context.Context) (string, error) { return o.client.Version(ctx) }

// Names returns the names of the models that it has, as FullName returns them.
func (o *Ollama) Names(ctx context.Context) ([]string, error) {
	list, err := o.client.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ollama: %w", unwrapURL(err))
	}

	var out []string
	for _, m := range list.Models {
		out = append(out, m.Name)
	}
	return out, nil
}

// Put makes the model of that name. What Ollama has of it is not sent. A file whose connection
// breaks is sent again.
func (o *Ollama) Put(ctx context.Context, name string, m Model, progress Progress) error {
	for _, b := range m.Blobs {
		if err := o.bring(ctx, b, progress); err != nil {
			return fmt.Errorf("model %s: %.19s: %w", name, b.Digest, err)
		}
	}

	req := m.Request
	req.Model = name
	made := false
	err := o.client.Create(ctx, &req, func(p api.ProgressResponse) error {
		made = made || p.Status == "success"
		progress("making "+name+": "+p.Status, 0, 0)
		return nil
	})
	if err == nil && !made {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("model %s: ollama: %w", name, err)
	}

	return nil
}

// bring sends the blob unless Ollama has it, until it came whole, Ollama refuses it, or its
// connection broke too often.
func (o *Ollama) bring(ctx context.Context, b Blob, progress Progress) error {
	what := fmt.Sprintf("sending %.12s", b.Digest[len("sha256:"):])
	for n := 1; ; n++ {
		has, err := o.has(ctx, b.Digest)
		if err == nil && has {
			return nil
		}
		if err == nil {
			err = o.send(ctx, b, what, progress)
		}

		_, refused := errors.AsType[api.StatusError](err)
		if _, unread := errors.AsType[*fs.PathError](err); err == nil || refused || unread ||
			ctx.Err() != nil {
			return err
		}

		// It may have come whole, and the answer not.
		o.http.CloseIdleConnections()
		if n == sendAttempts {
			if has, _ := o.has(ctx, b.Digest); has {
				return nil
			}
			return fmt.Errorf("%w, in %d attempts: the next import sends this file anew", err, n)
		}

		what = fmt.Sprintf("sending %.12s again, as the connection broke", b.Digest[len("sha256:"):])
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(n) * cmp.Or(o.Pause, firstPause)):
		}
	}
}

// has reports whether Ollama has the blob.
func (o *Ollama) has(ctx context.Context, digest string) (bool, error) {
	at := o.base.JoinPath("api", "blobs", digest).String()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return false, err
	}

	resp, err := o.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("ollama: %w", unwrapURL(err))
	}

	resp.Body.Close()

	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}

	return false, fmt.Errorf("ollama: blob %.19s: %s", digest, resp.Status)
}

func (o *Ollama) send(ctx context.Context, b Blob, what string, progress Progress) error {
	f, err := b.Open()
	if err != nil {
		return err
	}
	defer f.Close()

	err = o.client.CreateBlob(ctx, b.Digest,
		&counter{r: f, what: what, total: b.Size, told: progress})
	return unwrapURL(err)
}

// unwrapURL returns the error without the request's URL, which is of no place.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// counter tells how much of a file is read.
type counter struct {
	r           io.Reader
	what        string
	done, total int64
	told        Progress
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.told(c.what, c.done, c.total)
	return n, err
}

// readFunc is an io.Reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// until returns a reader of r that fails once the context has ended.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}
