// Package hop is the HTTP client for calls from one service of the stack to the next: it passes the request's id on,
// retries a connection that could not be made (the peer is being replaced, and its name may resolve to another
// container already), and turns an error response into the problem the peer sent.
package hop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// Client calls one peer.
type Client struct {
	peer, base string
	http       *http.Client
}

// Attempts and pauses of a connection that cannot be made: together about two seconds, the time in which a replaced
// container's name resolves anew.
const (
	attempts = 6
	pause    = 100 * time.Millisecond
)

// New makes a client for the peer at the base URL; the name stands in errors.
func New(peer, base string) *Client {
	return &Client{peer: peer, base: strings.TrimRight(base, "/"), http: &http.Client{Transport: Transport()}}
}

// NewStreaming makes a client for calls whose answer may begin late, such as with a model's first token: only the
// request's context bounds the wait.
func NewStreaming(peer, base string) *Client {
	c, t := New(peer, base), Transport()
	t.ResponseHeaderTimeout = 0
	c.http.Transport = t
	return c
}

// Transport is the transport of calls inside the stack: no proxy from the environment, connections kept, no
// compression (streams must not be buffered), and no bound on the time between the parts of a stream, which the
// request's context bounds.
func Transport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		DisableCompression:    true,
	}
}

// Do sends the request, body as JSON when it is not nil, and returns the response with a status below 400; the caller
// closes its body. Any other outcome is an error: a *problem.Problem when the peer answered.
func (c *Client) Do(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("%s: %w", c.peer, err)
		}
	}
	for attempt := 1; ; attempt++ {
		resp, err := c.once(ctx, method, path, payload, header)
		if err == nil {
			return resp, nil
		}
		var p *problem.Problem
		if errors.As(err, &p) || !neverSent(err) || attempt == attempts {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", c.peer, ctx.Err())
		case <-time.After(time.Duration(attempt) * pause):
		}
	}
}

func (c *Client) once(ctx context.Context, method, path string, payload []byte, header http.Header) (*http.Response, error) {
	var r io.Reader
	if payload != nil {
		r = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.peer, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if id := logging.RequestID(ctx); id != "" {
		req.Header.Set(server.RequestIDHeader, id)
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

// problem reads the peer's problem, or makes one of an answer that is none. A Retry-After header in seconds is kept.
func (c *Client) problem(resp *http.Response) *problem.Problem {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	p := &problem.Problem{}
	if media == problem.ContentType && json.Unmarshal(b, p) == nil && p.Title != "" {
		p.Status = resp.StatusCode
	} else {
		p = problem.New(resp.StatusCode, "%s answered %s", c.peer, resp.Status)
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.RetryAfter = s
	}
	return p
}

// JSON is Do for a response that is read whole into out, which may be nil.
func (c *Client) JSON(ctx context.Context, method, path string, body, out any, header http.Header) error {
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

// neverSent says that no connection was made, so the request cannot have had an effect.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}
