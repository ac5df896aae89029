package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ollama/ollama/types/model"
)

// Download attempts, and the pause after the first one, which grows.
const (
	attempts   = 5
	firstPause = 2 * time.Second
)

// manifestType is the type of what a registry says that a model consists of.
const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

// Registry downloads models as Ollama does, from the registry that a model's name names: Ollama's
// own unless it does. A name that begins with http:// is of one without TLS.
type Registry struct {
	Client *http.Client

	// Pause is the pause after the first attempt; 0 is firstPause.
	Pause time.Duration
}

// Download puts the model into the folder, which FromFolder reads. What is there of an earlier
// download is not asked for again.
func (r Registry) Download(ctx context.Context, name, dir string, progress Progress) error {
	n := model.ParseName(name)
	if !n.IsValid() {
		return fmt.Errorf("model %q: is no name of a model, such as llama3 or llama3:8b", name)
	}

	at := r.url(name, n)
	fail := func(err error) error { return fmt.Errorf("model %s: %s: %w", name, at.Host, err) }
	text, err := r.manifest(ctx, at.JoinPath("manifests", n.Tag))
	if err != nil {
		return fail(err)
	}

	var list manifest
	if err := json.Unmarshal(text, &list); err != nil {
		return fail(fmt.Errorf("its manifest: %w", err))
	}

	for _, l := range append(list.Layers, list.Config) {
		if err := r.blob(ctx, at, l, dir, progress); err != nil {
			return fail(err)
		}
	}

	to := filepath.Join(dir, filepath.FromSlash(manifestPath(n)))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("model %s: %w", name, err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		return fmt.Errorf("model %s: %w", name, err)
	}

	return nil
}

func (r Registry) url(name string, n model.Name) *url.URL {
	u := &url.URL{Scheme: "https", Host: n.Host}
	if strings.HasPrefix(name, "http://") {
		u.Scheme = "http"
	}
	return u.JoinPath("v2", n.Namespace, n.Model)
}

// refusedError is an answer that another attempt does not change.
type refusedError struct{ text string }

func (e refusedError) Error() string { return e.text }

// get requests the URL from the byte on.
func (r Registry) get(ctx context.Context, at *url.URL, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}

	req.Header.Set("Accept", manifestType+", application/octet-stream;q=0.9, */*;q=0.8")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}

	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}

	switch s := resp.StatusCode; {
	case s == http.StatusOK || s == http.StatusPartialContent && from > 0:
		return resp, nil
	case s == http.StatusNotFound:
		err = refusedError{"it has no such model"}
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		err = refusedError{"it shows the model only to who signs in there: download it with `ollama " +
			"pull` where you are signed in, then `codexctl model import` of ~/.ollama/models"}
	case s < http.StatusInternalServerError && s != http.StatusTooManyRequests:
		err = refusedError{resp.Status}
	default:
		err = errors.New(resp.Status)
	}

	resp.Body.Close()
	return nil, err
}

func (r Registry) manifest(ctx context.Context, at *url.URL) (text []byte, err error) {
	err = r.retry(ctx, func() error {
		resp, err := r.get(ctx, at, 0)
		if err != nil {
			return err
		}
		defer resp.Body.Close()

		text, err = io.ReadAll(io.LimitReader(resp.Body, maxText))
		return err
	})

	return text, err
}

// blob downloads a part of the model, going on where an earlier download stopped.
func (r Registry) blob(
	ctx context.Context, at *url.URL, l layer, dir string, progress Progress,
) error {
	name, err := blobPath(l.Digest)
	if err != nil {
		return err
	}

	to := filepath.Join(dir, filepath.FromSlash(name))
	if info, err := os.Stat(to); err == nil && info.Size() == l.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}

	f, err := os.OpenFile(to+".part", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()

	err = r.retry(ctx, func() error {
		return r.fill(ctx, at.JoinPath("blobs", l.Digest), l, f, progress)
	})
	if err != nil {
		return err
	}

	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}

	h := sha256.New()
	if _, err := io.Copy(h, until(ctx, f)); err != nil {
		return err
	}

	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != l.Digest {
		return errors.Join(fmt.Errorf("%.19s: what came has the digest %.19s", l.Digest, got),
			os.Remove(f.Name()))
	}

	return os.Rename(f.Name(), to)
}

// fill downloads what the file lacks.
func (r Registry) fill(
	ctx context.Context, at *url.URL, l layer, f *os.File, progress Progress,
) error {
	from, err := f.Seek(0, io.SeekEnd)
	if err != nil || from == l.Size {
		return err
	}
	if from > l.Size {
		from = 0
	}

	resp, err := r.get(ctx, at, from)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusPartialContent {
		from = 0 // the registry begins at the beginning
	}
	if err := f.Truncate(from); err != nil {
		return err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}

	what := fmt.Sprintf("downloading %.12s", l.Digest[len("sha256:"):])
	n, err := io.Copy(f, &counter{
		r:     io.LimitReader(resp.Body, l.Size-from),
		what:  what,
		done:  from,
		total: l.Size,
		told:  progress,
	})
	if err == nil && from+n != l.Size {
		err = io.ErrUnexpectedEOF
	}

	return err
}

// retry calls try until it succeeds, is refused, or has failed too often.
func (r Registry) retry(ctx context.Context, try func() error) error {
	pause := r.Pause
	if pause == 0 {
		pause = firstPause
	}

	for n := 1; ; n++ {
		err := try()
		if _, refused := errors.AsType[refusedError](err); err == nil || refused ||
			ctx.Err() != nil {
			return err
		}

		if n == attempts {
			return fmt.Errorf("%w, in %d attempts: the next run goes on where this one stopped",
				err, n)
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(n) * pause):
		}
	}
}
