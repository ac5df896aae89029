// Package knowledge lets administrators manage the documents of the service knowledge: on a page,
// and by the command `gate knowledge`.
package knowledge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

const (
	// askTime bounds a question, and the removal of a document.
	askTime = 30 * time.Second

	// addTime bounds how long a document may be on its way, wait for others, and be read.
	addTime = 20 * time.Minute
)

// Client asks knowledge in the name of administrators. Its errors wrap a *problem.Problem.
type Client struct {
	peer *hop.Client
	sign func(identity.Person) string
}

// NewClient returns a client of the peer, which takes the tokens that sign makes. The peer has to be
// one of hop.NewStreaming, as it may take long to read a document, and all that is asked here may be
// asked again.
func NewClient(peer *hop.Client, sign func(identity.Person) string) *Client {
	return &Client{peer, sign}
}

// Collections returns the collections that there are.
func (c *Client) Collections(
	ctx context.Context, who identity.Person,
) (all documents.Collections, err error) {
	err = c.ask(ctx, who, http.MethodGet, "/collections", &all)
	return all, err
}

// Documents returns what is in the collection.
func (c *Client) Documents(
	ctx context.Context, who identity.Person, collection string,
) (all documents.Documents, err error) {
	err = c.ask(ctx, who, http.MethodGet, path(collection, "documents"), &all)
	return all, err
}

// Waits reports whether a document that is being added waits for others.
func (c *Client) Waits(
	ctx context.Context, who identity.Person, collection, file string,
) (bool, error) {
	var turn knowledgeapi.Turn
	err := c.ask(ctx, who, http.MethodGet, path(collection, "documents", file, "turn"), &turn)
	return turn.Waits, err
}

// Remove removes the document with the id.
func (c *Client) Remove(ctx context.Context, who identity.Person, collection, id string) error {
	return c.ask(ctx, who, http.MethodDelete, path(collection, "documents", id), nil)
}

// Reindex has the vectors of the collection made anew.
func (c *Client) Reindex(ctx context.Context, who identity.Person, collection string) error {
	return c.ask(ctx, who, http.MethodPost, path(collection, "reindex"), nil)
}

// Put adds a document, or replaces the one of its name. The body has size bytes, or ends by itself
// if that is negative.
func (c *Client) Put(
	ctx context.Context, who identity.Person, collection, file string, body io.Reader, size int64,
) (d documents.Document, err error) {
	ctx, cancel := context.WithTimeout(ctx, addTime)
	defer cancel()
	header := c.as(who)
	header.Set("Content-Type", "application/octet-stream")
	resp, err := c.peer.Send(ctx, http.MethodPut, path(collection, "documents", file), body, size,
		header)
	if err != nil {
		return d, explained(err)
	}
	defer resp.Body.Close()

	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&d); err != nil {
		return d, explained(fmt.Errorf("the answer is not the JSON expected: %w", err))
	}

	return d, nil
}

func (c *Client) ask(
	ctx context.Context, who identity.Person, method, path string, out any,
) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if err := c.peer.JSON(ctx, method, path, nil, out, c.as(who)); err != nil {
		return explained(err)
	}
	return nil
}

// as returns the header of a request in the name of the person.
func (c *Client) as(who identity.Person) http.Header {
	return http.Header{"Authorization": {identity.Authorization(c.sign(who))}}
}

// path returns the path of something of the collection.
func path(collection string, words ...string) string {
	p := "/collections/" + url.PathEscape(collection)
	for _, word := range words {
		p += "/" + url.PathEscape(word)
	}
	return p
}

// explained returns the error as one that wraps a problem: that of knowledge, if it is the person's.
func explained(err error) error {
	var fault *problem.Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge) && tooLarge.Limit == maxForm:
		return errLargeForm()
	case errors.As(err, &tooLarge):
		return errTooLarge()
	case errors.As(err, &fault) && forPerson(fault):
		return fault
	}

	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // its URL has the name of a file, which no log has
	}

	p := problem.New(http.StatusServiceUnavailable,
		"The documents cannot be reached at the moment. Try again in a few seconds.")
	p.RetryAfter = 5
	return fmt.Errorf("%w (knowledge: %w)", p, err)
}

// forPerson reports whether a problem of knowledge says what the person can do.
func forPerson(p *problem.Problem) bool {
	switch p.Status {
	case http.StatusUnauthorized:
		return false
	case http.StatusServiceUnavailable: // others are adding documents, or it is being replaced
		return p.Type == "" && p.RetryAfter > 0
	}
	return p.Status < http.StatusInternalServerError || p.Status == http.StatusInsufficientStorage
}

// faultOf returns the problem that an error of a Client wraps.
func faultOf(err error) *problem.Problem {
	var fault *problem.Problem
	if !errors.As(err, &fault) {
		fault = problem.New(http.StatusInternalServerError, "Something went wrong here.")
	}
	return fault
}

// errTooLarge returns the refusal of a document that is too large.
func errTooLarge() error {
	return problem.New(http.StatusRequestEntityTooLarge, "It is larger than %d MiB.",
		knowledgeapi.MaxDocument>>20)
}

// RemoveRecorded removes the documents of the collection whose names is says to be meant. A
// collection that is not there has none.
func (c *Client) RemoveRecorded(
	ctx context.Context, who identity.Person, collection string, is func(file string) bool,
) error {
	all, err := c.Documents(ctx, who, collection)
	if err != nil {
		if faultOf(err).Status == http.StatusNotFound {
			return nil
		}
		return err
	}

	for _, d := range all.Documents {
		if is(d.File) {
			if err := c.Remove(ctx, who, collection, d.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
