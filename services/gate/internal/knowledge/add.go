package knowledge

import (
	"context"
	"io"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// adder adds documents to a collection, one after the other.
type adder struct {
	client     *Client
	who        identity.Person
	collection string

	// replace lets a document take the place of the one of its name.
	replace bool

	// there are the names of those that the collection has.
	there map[string]bool
}

// adder returns what adds documents to the collection, which has to be there.
func (c *Client) adder(
	ctx context.Context, who identity.Person, collection string, replace bool,
) (*adder, error) {
	all, err := c.Documents(ctx, who, collection)
	if err != nil {
		return nil, err
	}

	a := &adder{c, who, collection, replace, map[string]bool{}}
	for _, d := range all.Documents {
		a.there[d.File] = true
	}

	return a, nil
}

// add adds one document. The body has size bytes, or ends by itself if that is negative. The error is
// that of the result, as it is.
func (a *adder) add(
	ctx context.Context, file string, body io.Reader, size int64,
) (documents.Result, error) {
	if size < 0 {
		body = http.MaxBytesReader(nil, io.NopCloser(body), documents.MaxSize)
	}

	err := a.refusal(file, size)
	var d documents.Document
	if err == nil {
		d, err = a.client.Put(ctx, a.who, a.collection, file, body, size)
	}

	if err != nil {
		return documents.Result{
			File: file, Outcome: documents.Failed, Problem: faultOf(err).Error(),
		}, err
	}

	result := documents.Result{File: file, Outcome: documents.Added, Warnings: d.Warnings}
	if a.there[file] {
		result.Outcome = documents.Replaced
	}
	a.there[file] = true

	return result, nil
}

// refusal returns why a document is not even sent, or nil.
func (a *adder) refusal(file string, size int64) error {
	switch {
	case a.there[file] && !a.replace:
		return problem.New(http.StatusConflict, "A document of this name is there already.")
	case size > documents.MaxSize:
		return errTooLarge()
	}
	return nil
}

// hopeless reports whether the documents that follow would fail as well.
func hopeless(err error) bool {
	status := faultOf(err).Status
	return status == http.StatusNotFound || status == http.StatusForbidden ||
		status >= http.StatusInternalServerError
}
