// Package ollama is a client of Ollama's HTTP API that reports a stream that was cut. It uses the
// types of Ollama's own client but not the client itself, which never checks the scanner's error,
// so that a stream that was cut ends like a complete one, and which allocates eight megabytes for
// each stream.
package ollama

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/vocabulary"
	"github.com/ollama/ollama/api"
)

// maxLine bounds one line of a stream in bytes. A token is a hundred bytes; the last line of
// /api/generate holds the number of every token of the context, a megabyte for 131072 of them.
const maxLine = 4 << 20

// Client talks to one Ollama. It is safe for concurrent use.
type Client struct {
	base string

	http *http.Client
	// host is what requests name as the host; empty is that of the base URL.
	host string

	mu      sync.Mutex
	current *http.Client // asks for answers; see asker
	since   time.Time
}

// reuse is how long the connections of asker take new requests.
const reuse = 5 * time.Second

// New returns a client for the base URL, such as http://ollama:11434.
func New(base string) *Client {
	t := hop.Transport()
	// loading a model takes as long as it takes; the context bounds it
	t.ResponseHeaderTimeout = 0
	t.IdleConnTimeout = time.Second // see asker
	return &Client{base: strings.TrimRight(base, "/"), http: &http.Client{Transport: t}}
}

// Secure makes the client speak TLS, for a base URL of https; nil changes nothing. It must be
// called before the first request.
func (c *Client) Secure(config *tls.Config) {
	if config == nil {
		return
	}

	hop.Secure(c.http.Transport.(*http.Transport), config)
	// Behind what ends TLS it listens on the loopback address, and refuses names that it does not
	// know.
	c.host = "localhost"
}

// NewAt returns a client for the base URL that connects to one address (host:port) of its host,
// whatever the name resolves to. The Host header and the server's name of TLS stay the URL's.
func NewAt(base, address string) *Client {
	c := New(base)
	t := c.http.Transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, address)
	}
	return c
}

// asker returns the client of requests for answers. drain, which runs Ollama in its container,
// takes each connection for an answer that is not done, and waits for those that were made up to 15
// s after it was told to stop. So a connection is used again only for some seconds after it was
// made, and is closed when nobody has used it for a second.
func (c *Client) asker() *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.current == nil || now.Sub(c.since) > reuse {
		// Requests of the one before go on, and close its connections.
		c.current, c.since = &http.Client{Transport: c.http.Transport.(*http.Transport).Clone()}, now
	}
	return c.current
}

// StatusError is a refusal by Ollama.
type StatusError struct {
	// Status is the HTTP status; 200 for an error inside a stream.
	Status  int
	Message string
}

func (e *StatusError) Error() string { return "ollama: " + e.Message }

// NotFound reports whether Ollama has no such model.
func NotFound(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Status == http.StatusNotFound
}

// Rewritten reports whether Ollama may have looked at a model in the moment in which its name was
// given to another. It writes the name's file in place, so a reader may find it empty or half
// written. A moment later it can be asked again.
func Rewritten(err error) bool {
	var s *StatusError
	return errors.As(err, &s) &&
		(s.Status == http.StatusNotFound || s.Message == "EOF" || s.Message == "unexpected EOF")
}

// TooLong reports whether Ollama refused a prompt because the model's context does not hold it.
func TooLong(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && strings.Contains(s.Message, "exceeds the context length")
}

// ErrCut reports a stream that ended before its last line.
var ErrCut = errors.New("ollama: the answer was cut off")

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, contentType = b, "application/octet-stream"
	default:
		payload, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("ollama: %w", err)
		}
		r = bytes.NewReader(payload)
	}

	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, fmt.Errorf("ollama: %w", err)
	}

	req.Host = c.host
	req.Header.Set("Content-Type", contentType)
	client := c.http
	switch body.(type) {
	case nil:
	case io.Reader:
		// Ollama answers an upload without reading what it has already: it takes the rest only of a
		// connection that stays.
	case *api.ChatRequest, *api.GenerateRequest, *api.EmbedRequest:
		client = c.asker()
	default:
		req.Close = true // a connection of its own, so that drain sees that it is not done
	}

	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}

		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL says nothing that the name does not
		}

		return nil, fmt.Errorf("ollama: %w", err)
	}

	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()

	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var e struct{ Error string }
	if json.Unmarshal(b, &e) != nil || e.Error == "" {
		e.Error = resp.Status
	}

	return nil, &StatusError{resp.StatusCode, e.Error}
}

// call reads a whole JSON answer into out, which may be nil.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if out == nil {
		return nil
	}

	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("ollama: %s: %w", path, err)
	}

	return nil
}

// stream calls line for each line of an NDJSON answer until the end or an error.
func (c *Client) stream(ctx context.Context, path string, body any, line func([]byte) error) error {
	resp, err := c.do(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	s := bufio.NewScanner(resp.Body)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for s.Scan() {
		if len(s.Bytes()) == 0 {
			continue
		}
		if err := line(s.Bytes()); err != nil {
			return err
		}
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("ollama: %s: a line of more than %d bytes", path, maxLine)
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %v", ErrCut, err)
	}

	return nil
}

// Token is one line of an answer.
type Token struct {
	Text string

	// Thinking is the model's reasoning, which is not part of the answer.
	Thinking  string
	ToolCalls []api.ToolCall
	Done      bool
	Reason    string
	api.Metrics
}

// tokenLine is the part of Ollama's two kinds of answers that is used.
type tokenLine struct {
	Message struct {
		Content, Thinking string
		ToolCalls         []api.ToolCall `json:"tool_calls"`
	}
	Response   string
	Thinking   string
	Done       bool
	DoneReason string `json:"done_reason"`
	Error      string
	api.Metrics
}

// Chat streams the answer to a conversation. It returns nil only after the token with Done.
func (c *Client) Chat(ctx context.Context, req *api.ChatRequest, token func(Token) error) error {
	return c.generate(ctx, "/api/chat", req, token)
}

// Generate streams the continuation of a prompt. It returns nil only after the token with Done.
func (c *Client) Generate(
	ctx context.Context, req *api.GenerateRequest, token func(Token) error,
) error {
	return c.generate(ctx, "/api/generate", req, token)
}

func (c *Client) generate(
	ctx context.Context, path string, req any, token func(Token) error,
) error {
	done := false
	var l tokenLine // one for all lines: a token then costs its text only
	err := c.stream(ctx, path, req, func(b []byte) error {
		l = tokenLine{}
		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("ollama: %s: %w", path, err)
		}
		if l.Error != "" {
			return &StatusError{http.StatusOK, l.Error}
		}

		done = done || l.Done
		return token(Token{
			Text:      l.Message.Content + l.Response,
			Thinking:  l.Message.Thinking + l.Thinking,
			ToolCalls: l.Message.ToolCalls,
			Done:      l.Done,
			Reason:    l.DoneReason,
			Metrics:   l.Metrics,
		})
	})
	if err == nil && !done {
		return ErrCut
	}

	return err
}

// Version returns Ollama's version. It is the cheapest question.
func (c *Client) Version(ctx context.Context) (string, error) {
	var v struct{ Version string }
	err := c.call(ctx, http.MethodGet, "/api/version", nil, &v)
	return v.Version, err
}

// List returns every model that Ollama has.
func (c *Client) List(ctx context.Context) ([]api.ListModelResponse, error) {
	var l api.ListResponse
	err := c.call(ctx, http.MethodGet, "/api/tags", nil, &l)
	return l.Models, err
}

// Running returns every model in memory.
func (c *Client) Running(ctx context.Context) ([]api.ProcessModelResponse, error) {
	var l api.ProcessResponse
	err := c.call(ctx, http.MethodGet, "/api/ps", nil, &l)
	return l.Models, err
}

// Show describes a model.
func (c *Client) Show(ctx context.Context, name string) (*api.ShowResponse, error) {
	var s api.ShowResponse
	err := c.call(ctx, http.MethodPost, "/api/show", &api.ShowRequest{Model: name}, &s)
	return &s, err
}

// Vocabulary returns the tokens of a model: some megabytes.
func (c *Client) Vocabulary(ctx context.Context, name string) (vocabulary.Metadata, error) {
	var s struct {
		ModelInfo vocabulary.Metadata `json:"model_info"`
	}
	req := &api.ShowRequest{Model: name, Verbose: true}
	err := c.call(ctx, http.MethodPost, "/api/show", req, &s)
	return s.ModelInfo, err
}

// Embed makes vectors of texts.
func (c *Client) Embed(ctx context.Context, req *api.EmbedRequest) (*api.EmbedResponse, error) {
	var e api.EmbedResponse
	err := c.call(ctx, http.MethodPost, "/api/embed", req, &e)
	return &e, err
}

// Pull downloads a model from its registry. What is there already is not downloaded again.
func (c *Client) Pull(
	ctx context.Context, req *api.PullRequest, progress func(api.ProgressResponse),
) error {
	return c.progress(ctx, "/api/pull", req, progress)
}

// Create makes a model; the name's former content is replaced.
func (c *Client) Create(
	ctx context.Context, req *api.CreateRequest, progress func(api.ProgressResponse),
) error {
	return c.progress(ctx, "/api/create", req, progress)
}

// progress reads a stream that ends with the status success.
func (c *Client) progress(
	ctx context.Context, path string, req any, progress func(api.ProgressResponse),
) error {
	success := false
	err := c.stream(ctx, path, req, func(b []byte) error {
		var l struct {
			api.ProgressResponse
			Error string
		}

		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("ollama: %s: %w", path, err)
		}
		if l.Error != "" {
			return &StatusError{http.StatusOK, l.Error}
		}

		success = success || l.Status == "success"
		progress(l.ProgressResponse)
		return nil
	})
	if err == nil && !success {
		return ErrCut
	}

	return err
}

// HasBlob reports whether Ollama has the content of that digest (sha256:...).
func (c *Client) HasBlob(ctx context.Context, digest string) (bool, error) {
	resp, err := c.do(ctx, http.MethodHead, "/api/blobs/"+digest, nil)
	if NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}

	return true, resp.Body.Close()
}

// CreateBlob uploads content; Ollama checks it against the digest.
func (c *Client) CreateBlob(ctx context.Context, digest string, content io.Reader) error {
	return c.call(ctx, http.MethodPost, "/api/blobs/"+digest, content, nil)
}

// Copy gives a model a second name; a former model of that name is replaced.
func (c *Client) Copy(ctx context.Context, from, to string) error {
	return c.call(ctx, http.MethodPost, "/api/copy",
		&api.CopyRequest{Source: from, Destination: to}, nil)
}

// Delete takes a name away.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/api/delete", &api.DeleteRequest{Model: name}, nil)
}
