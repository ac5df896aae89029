package knowledge

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
)

// usage is the error for a command line that is none.
const usage = `usage: gate knowledge list [COLLECTION]          print them, or what is in one, as JSON
       gate knowledge add COLLECTION [--turns]     add those of a tar archive on the standard input,
                                                   and say of each that waits that it does
       gate knowledge remove COLLECTION FILE...    remove documents by their names
       gate knowledge remove COLLECTION -          the same, with the names as a JSON array on the
                                                   standard input
       gate knowledge reindex COLLECTION           make the vectors anew`

// Command runs the command line of `gate knowledge`, for the operator who calls themselves by.
func (c *Client) Command(
	ctx context.Context, args []string, by string, in io.Reader, out io.Writer,
) error {
	who := identity.Person{Name: by, By: by, Admin: true}
	word, args := first(args)
	collection, files := first(args)
	switch {
	case strings.HasPrefix(collection, "-"):
		return errors.New(usage)
	case word == "list" && collection == "":
		all, err := c.Collections(ctx, who)
		return printed(out, all, err)
	case collection == "":
		return errors.New(usage)
	case word == "list" && len(files) == 0:
		all, err := c.Documents(ctx, who, collection)
		return printed(out, all, c.named(ctx, who, collection, err))
	case word == "add" && (len(files) == 0 || slices.Equal(files, []string{"--turns"})):
		return c.addAll(ctx, who, collection, in, out, len(files) > 0)
	case word == "remove" && len(files) > 0:
		return c.removeAll(ctx, who, collection, files, out)
	case word == "reindex" && len(files) == 0:
		return c.reindex(ctx, who, collection, out)
	}

	return errors.New(usage)
}

// first returns the first of the words, or "", and the others.
func first(words []string) (string, []string) {
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

func printed(out io.Writer, v any, err error) error {
	if err != nil {
		return err
	}

	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// named returns the error, or one that names the collections that there are if it is for want of
// this one.
func (c *Client) named(
	ctx context.Context, who identity.Person, collection string, err error,
) error {
	if err == nil || faultOf(err).Status != http.StatusNotFound {
		return err
	}

	all, err := c.Collections(ctx, who)
	if err != nil {
		return err
	}

	var names []string
	for _, x := range all.Collections {
		if x.Name == collection {
			return fmt.Errorf("%s: it has come up just now: try again", collection)
		}
		names = append(names, x.Name)
	}

	return fmt.Errorf("there is no collection %q: the stack has %s", collection,
		strings.Join(names, ", "))
}

// addAll adds the documents of the archive. Those of the same name are replaced. With turns it says
// which of them wait.
func (c *Client) addAll(
	ctx context.Context, who identity.Person, collection string, in io.Reader, out io.Writer,
	turns bool,
) error {
	a, err := c.adder(ctx, who, collection, true)
	if err != nil {
		return c.named(ctx, who, collection, err)
	}

	archive, lines := tar.NewReader(in), json.NewEncoder(out)
	failed, all := 0, 0
	for {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && failed > 0:
			return fmt.Errorf("%d of %d documents were not added", failed, all)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the documents came to an early end: %w", err)
		case header.Typeflag != tar.TypeReg:
			return fmt.Errorf("%s: is no regular file", header.Name)
		}

		done := func() {}
		if turns {
			done = a.watchTurn(ctx, header.Name, lines)
		}
		result, err := a.next(ctx, header, archive)
		done()
		if err != nil && hopeless(err) {
			return fmt.Errorf("%s: %w", header.Name, err)
		}

		all++
		if err != nil {
			failed++
		}
		if err := lines.Encode(result); err != nil {
			return err
		}
	}
}

// The times after which it is asked whether a document waits: first, and then again.
const (
	firstTurn = 500 * time.Millisecond
	nextTurn  = 2 * time.Second
)

// watchTurn writes when a document begins to wait for others and when it ends to, until done is
// called, after which it writes nothing.
func (a *adder) watchTurn(ctx context.Context, file string, lines *json.Encoder) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		waited := false
		for after := firstTurn; ; after = nextTurn {
			select {
			case <-ctx.Done():
				return
			case <-time.After(after):
			}

			waits, err := a.client.Waits(ctx, a.who, a.collection, file)
			if err != nil || ctx.Err() != nil || waits == waited {
				continue // after an error the next time may do
			}

			waited = waits
			result := documents.Result{File: file, Outcome: documents.Reading}
			if waits {
				result.Outcome = documents.Waits
			}
			_ = lines.Encode(result) // an error comes again with the document's own result
		}
	})

	return func() {
		cancel()
		watch.Wait()
	}
}

// next adds the next document of the archive. It is read whole first, so that none of which a part
// is missing is sent, and so that it can be sent again.
func (a *adder) next(
	ctx context.Context, header *tar.Header, archive io.Reader,
) (documents.Result, error) {
	if header.Size > documents.MaxSize {
		return a.add(ctx, header.Name, nil, header.Size)
	}

	content := make([]byte, header.Size)
	if _, err := io.ReadFull(archive, content); err != nil {
		return documents.Result{}, fmt.Errorf("came to an early end: %w", err)
	}

	return a.add(ctx, header.Name, bytes.NewReader(content), header.Size)
}

// removeAll removes the documents of these names, or none if one is not there.
func (c *Client) removeAll(
	ctx context.Context, who identity.Person, collection string, files []string, out io.Writer,
) error {
	all, err := c.Documents(ctx, who, collection)
	if err != nil {
		return c.named(ctx, who, collection, err)
	}

	ids := map[string]string{}
	for _, d := range all.Documents {
		ids[d.File] = d.ID
	}

	var missing []string
	for _, file := range files {
		if ids[file] == "" {
			missing = append(missing, fmt.Sprintf("%q", file))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s has no %s, and nothing was removed", collection,
			strings.Join(missing, ", "))
	}

	for _, file := range files {
		err := c.Remove(ctx, who, collection, ids[file])
		if err != nil && faultOf(err).Status != http.StatusNotFound { // somebody was faster
			return fmt.Errorf("%s: %w", file, err)
		}
		if _, err := fmt.Fprintf(out, "removed %s\n", file); err != nil {
			return err
		}
	}

	return nil
}

func (c *Client) reindex(
	ctx context.Context, who identity.Person, collection string, out io.Writer,
) error {
	all, err := c.Collections(ctx, who)
	if err != nil {
		return err
	}
	if all.Embedding == "" {
		return errors.New("this stack finds passages by their words alone, so there are no vectors " +
			"to make anew: codexcontinue:knowledge.embedding names the model that makes them")
	}

	if err := c.Reindex(ctx, who, collection); err != nil {
		return c.named(ctx, who, collection, err)
	}

	_, err = fmt.Fprintf(out, "The vectors of %s are being made anew, by %s. The old ones answer "+
		"until then.\n", collection, all.Embedding)
	return err
}
