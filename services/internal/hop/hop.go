// Package hop is the HTTP client for calls from one service of the stack to the next: it passes
// the request's id on, sends a request again that has produced nothing (the peer is being
// replaced, and its name resolves to another container), and turns an error response into the
// problem the peer sent.
//
// A request has produced nothing when no connection could be made, and when the peer refused it as
// draining or starting. It is also sent again when the connection broke before the response, if
// doing it twice is doing it once: GET, HEAD, PUT, DELETE, a request with a key
// (wire.KeyHeader), and those that Repeatable or NewStreaming declare to be so.
package hop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Client calls one peer.
type Client struct {
	peer, base string
	resender   *resender
	http       *http.Client

	// sign returns a token for the owner of what a request is about; nil signs none.
	sign func(ctx context.Context, owner string) string
}

// Sign makes the client say for whom its requests are with a token that sign returns for the owner
// that wire.OwnerHeader names, "" if it names none. The header itself is not sent then. It must be
// called before the first request.
func (c *Client) Sign(sign func(ctx context.Context, owner string) string) { c.sign = sign }

// Signing returns a client of the same peer, with the connections and the counter of c, that signs
// as Sign says.
func (c *Client) Signing(sign func(ctx context.Context, owner string) string) *Client {
	signing := *c
	signing.sign = sign
	return &signing
}

// Secure makes the client speak TLS, for a base URL of https; nil changes nothing. It must be
// called before the first request.
func (c *Client) Secure(config *tls.Config) {
	secure(c.resender.transport, c.resender.dialer.avoid, config)
}

// New returns a client for the peer at the base URL. Errors have the peer's name.
func New(peer, base string) *Client {
	r := newResender(peer)
	base = strings.TrimRight(base, "/")
	return &Client{peer: peer, base: base, resender: r, http: &http.Client{Transport: r}}
}

// NewStreaming returns a client for calls whose answer may begin late, as with a model's first
// token: only the request's context bounds the wait. The calls ask for text and change nothing, so
// all of them may be repeated.
func NewStreaming(peer, base string) *Client {
	c := New(peer, base)
	c.resender.transport.ResponseHeaderTimeout, c.resender.repeatable = 0, true
	return c
}

// Transport returns the client's transport, which sends requests again as Do does.
func (c *Client) Transport() http.RoundTripper { return c.resender }

// Register adds the counter of what was sent again, hop_resends_total, of which there
// is one for each peer.
func (c *Client) Register(reg prometheus.Registerer) { reg.MustRegister(c.resender.resends) }

// Transport is the transport of calls inside the stack: no proxy from the environment, connections
// kept, no compression (streams must not be buffered), and no bound on the time between the parts
// of a stream, which the request's context bounds.
func Transport() *http.Transport {
	t, _ := transport()
	return t
}

func transport() (*http.Transport, *dialer) {
	d := newDialer()
	return &http.Transport{
		DialContext:           d.dial,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ExpectContinueTimeout: expectTimeout,
		DisableCompression:    true,
	}, d
}

// Do sends the request, body as JSON when it is not nil, and returns the response with a
// status below 400; the caller closes its body. Any other outcome is an error: a
// *problem.Problem when the peer answered.
func (c *Client) Do(
	ctx context.Context, method, path string, body any, header http.Header,
) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		var payload bytes.Buffer
		enc := json.NewEncoder(&payload)
		enc.SetEscapeHTML(false) // else every < takes six bytes, and the peer bounds what it reads
		if err := enc.Encode(body); err != nil {
			return nil, fmt.Errorf("%s: %w", c.peer, err)
		}
		r = bytes.NewReader(bytes.TrimSuffix(payload.Bytes(), []byte("\n")))
	}

	req, err := c.request(ctx, method, path, r)
	if err != nil {
		return nil, err
	}

	maps.Copy(req.Header, header)
	if c.sign != nil {
		token := c.sign(ctx, req.Header.Get(wire.OwnerHeader))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Del(wire.OwnerHeader)
	}

	if body != nil {
		req.Header.Set("Content-Type", "application/json")
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

// request returns a request with the id of the one that it is made for.
func (c *Client) request(
	ctx context.Context, method, path string, body io.Reader,
) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.peer, err)
	}
	if id := logging.RequestID(ctx); id != "" {
		req.Header.Set(wire.RequestIDHeader, id)
	}

	return req, nil
}

// problem returns the peer's problem, or one for an answer that is none. It keeps a
// Retry-After header in seconds.
func (c *Client) problem(resp *http.Response) *problem.Problem {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	p := &problem.Problem{}
	if media == problem.ContentType && json.Unmarshal(b, p) == nil && p.Title != "" {
		p.Status = resp.StatusCode
	} else {
		p = problem.New(resp.StatusCode, "%s answered %s", c.peer, resp.Status)
	}

	p.Header = resp.Header
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.RetryAfter = s
	}

	return p
}

// JSON is Do for a response that is read whole into out, which may be nil.
func (c *Client) JSON(
	ctx context.Context, method, path string, body, out any, header http.Header,
) error {
	resp, err := c.Do(ctx, method, path, body, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(out); err != nil {
		return fmt.Errorf("%s: the answer is not the JSON expected: %w", c.peer, err)
	}

	return nil
}
