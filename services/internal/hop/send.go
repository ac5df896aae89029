package hop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// expectTimeout is how long the body of Send waits for the peer's word that it takes it.
const expectTimeout = 2 * time.Second

// Send sends a request with a body that is not kept here, of size bytes, or of as many as come if
// size is negative. The peer is asked first whether it takes the body. The request is sent again as
// with Do, but once a part of the body was read only if that is an io.Seeker. The body is not read
// any more when Send returns. The outcome is that of Do.
func (c *Client) Send(
	ctx context.Context, method, path string, body io.Reader, size int64, header http.Header,
) (*http.Response, error) {
	req, err := c.request(ctx, method, path, nil)
	if err != nil {
		return nil, err
	}

	maps.Copy(req.Header, header)
	if size != 0 {
		sent := &sentBody{from: body}
		defer sent.end()
		req.Header.Set("Expect", "100-continue")
		req.Body, req.ContentLength = sent, size
	}

	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.peer, err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()

	return nil, c.problem(resp)
}

// errEnded reports that a transport reads a body after the end of the try that it was for.
var errEnded = errors.New("the request has ended")

// sentBody is the body of Send. Each try reads it by a bodyTry, as a transport may go on to read
// after it has returned a response.
type sentBody struct {
	mu   sync.Mutex // is held while from is read
	from io.Reader

	begun bool // reports whether a part was read
	last  *bodyTry
}

// again returns the body for one more try, or reports that there can be none.
func (b *sentBody) again() (io.ReadCloser, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil {
		b.last.ended.Store(true)
	}

	if b.begun {
		s, ok := b.from.(io.Seeker)
		if !ok {
			return nil, false
		}
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return nil, false
		}
		b.begun = false
	}

	b.last = &bodyTry{body: b}
	return b.last, true
}

// end has nobody read the body any more.
func (b *sentBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil {
		b.last.ended.Store(true)
	}
}

// Read implements io.Reader. It is not called: each try has a body of its own.
func (b *sentBody) Read([]byte) (int, error) { return 0, errEnded }

// Close implements io.Closer.
func (b *sentBody) Close() error { return nil }

// bodyTry is the body of one try.
type bodyTry struct {
	body  *sentBody
	ended atomic.Bool
}

// Read implements io.Reader.
func (t *bodyTry) Read(p []byte) (int, error) {
	t.body.mu.Lock()
	defer t.body.mu.Unlock()
	if t.ended.Load() {
		return 0, errEnded
	}

	t.body.begun = true
	return t.body.from.Read(p)
}

// Close implements io.Closer. It does not wait for a Read.
func (t *bodyTry) Close() error {
	t.ended.Store(true)
	return nil
}
