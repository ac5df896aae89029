// Package api is the HTTP API of knowledge: what services/internal/knowledgeapi describes. It says
// who may read and change what.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
)

// defaultLimit is how many passages a search returns that does not say.
const defaultLimit = 6

// maxRequest bounds a request for a search in bytes.
const maxRequest = 64 << 10

// Options are what the API works with.
type Options struct {
	Library     *library.Library
	Collections knowledgeenv.Collections
	Model       string

	// Audit records who adds, removes and reindexes.
	Audit *audit.Recorder
	Log   *slog.Logger
}

// service is the API at work.
type service struct {
	Options
	metrics *metrics
}

// Register adds the routes to the server.
func Register(srv *server.Server, o Options) {
	s := &service{o, newMetrics(srv.Registry(), o.Library)}
	srv.HandleFunc("GET /collections", s.collections)
	srv.HandleFunc("GET /collections/{name}/documents", s.documents)
	srv.HandleFunc("PUT /collections/{name}/documents/{file}", s.add)
	srv.HandleFunc("GET /collections/{name}/documents/{file}/turn", s.turn)
	srv.HandleFunc("DELETE /collections/{name}/documents/{id}", s.remove)
	srv.HandleFunc("POST /collections/{name}/reindex", s.reindex)
	srv.HandleFunc("POST /search", s.search)
	srv.HandleFunc("GET /passages/{id}", s.passage)
	srv.HandleFunc("GET "+knowledgeapi.ArchivePath, s.archive)
	srv.HandleFunc("PUT "+knowledgeapi.ArchivePath, s.restore)
}

// asker returns the person who asks. That somebody is an administrator counts if the gate says so
// alone: the backend asks for people's questions, and for nothing that administrators do.
func asker(ctx context.Context) identity.Person {
	p := identity.From(ctx)
	p.Admin = p.Admin && identity.SignedBy(ctx) == identity.Gate
	return p
}

// readable returns the collections that the person's searches find, in order.
func (s *service) readable(p identity.Person) []string {
	var names []string
	for _, c := range s.Library.List() {
		if s.Collections.Readable(c.Name, p.Groups) {
			names = append(names, c.Name)
		}
	}
	return names
}

func (s *service) collections(w http.ResponseWriter, r *http.Request) {
	p := asker(r.Context())
	out := knowledgeapi.Collections{
		Collections: []knowledgeapi.Collection{}, Embedding: s.Model,
	}
	for _, c := range s.Library.List() {
		c.Groups = s.Collections[c.Name]
		c.Readable = s.Collections.Readable(c.Name, p.Groups)
		if c.Readable || p.Admin {
			out.Collections = append(out.Collections, c)
		}
	}
	wire.WriteJSON(w, http.StatusOK, out)
}

func (s *service) documents(w http.ResponseWriter, r *http.Request) {
	p, name := asker(r.Context()), r.PathValue("name")
	if !p.Admin && !s.Collections.Readable(name, p.Groups) {
		s.refuse(w, r, library.ErrNotFound)
		return
	}

	list, err := s.Library.Documents(name)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if !p.Admin {
		for i := range list { // who manages it is nothing to a reader
			list[i].AddedBy, list[i].Problem = "", ""
		}
	}
	wire.WriteJSON(w, http.StatusOK, knowledgeapi.Documents{Documents: list})
}

func (s *service) search(w http.ResponseWriter, r *http.Request) {
	var req knowledgeapi.SearchRequest
	if p := decode(w, r, &req); p != nil {
		problem.Write(w, r, p)
		return
	}

	switch {
	case strings.TrimSpace(req.Query) == "" || !utf8.ValidString(req.Query):
		problem.Write(w, r, invalid("body.query", "must be a text"))
		return
	case len(req.Query) > knowledgeapi.MaxQuery:
		problem.Write(w, r, invalid("body.query", "is longer than 8 KB"))
		return
	case req.Limit < 0 || req.Limit > knowledgeapi.MaxPassages:
		problem.Write(w, r, invalid("body.limit", "must be between 1 and 20"))
		return
	}
	if req.Limit == 0 {
		req.Limit = defaultLimit
	}

	names := s.readable(asker(r.Context()))
	if len(req.Collections) > 0 {
		for _, name := range req.Collections {
			if !slices.Contains(names, name) {
				s.refuse(w, r, library.ErrNotFound)
				return
			}
		}
		names = slices.Compact(slices.Sorted(slices.Values(req.Collections)))
	}

	found, wordsAlone, err := s.Library.Search(r.Context(), names, req.Query, req.Limit,
		library.Both)
	if err != nil {
		s.refuse(w, r, err)
		return
	}

	s.metrics.search(wordsAlone)
	if found == nil {
		found = []knowledgeapi.Passage{}
	}
	wire.WriteJSON(w, http.StatusOK,
		knowledgeapi.SearchResponse{Passages: found, WordsAlone: wordsAlone})
}

func (s *service) passage(w http.ResponseWriter, r *http.Request) {
	p, err := s.Library.Passage(s.readable(asker(r.Context())), r.PathValue("id"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, p)
}

// asProblem returns the problem that an error is to who asks.
func asProblem(err error) *problem.Problem {
	var p *problem.Problem
	var r *parse.Refusal
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &r):
		return problem.New(r.Status, "%s", r.Detail)
	case errors.As(err, &size):
		return problem.New(http.StatusRequestEntityTooLarge,
			"The document is larger than %d MB.", knowledgeapi.MaxDocument>>20)
	case errors.Is(err, library.ErrNotFound):
		return problem.New(http.StatusNotFound, "There is no such collection, document or passage.")
	case errors.Is(err, library.ErrBusy):
		return problem.New(http.StatusConflict,
			"The document is being added or removed. Try again when that is done.")
	case errors.Is(err, library.ErrCrowded):
		p := problem.New(http.StatusServiceUnavailable,
			"Many other documents are being added. Try again in a few minutes.")
		p.RetryAfter = 60
		return p
	case errors.Is(err, library.ErrFull):
		return problem.New(http.StatusInsufficientStorage,
			"No space is left for the document. Remove others, or have the volume enlarged.")
	}
	return problem.New(http.StatusInternalServerError,
		"Something went wrong here. The logs have more under the request's id.")
}

// refuse answers with the problem that an error is.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // nobody reads it
	}
	p := asProblem(err)
	if p.Status == http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "request failed", "error", err)
	}
	problem.Write(w, r, p)
}

func decode(w http.ResponseWriter, r *http.Request, into any) *problem.Problem {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more than one JSON value")
		}
	}

	var size *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &size):
		return problem.New(http.StatusRequestEntityTooLarge,
			"The request is larger than %d bytes.", maxRequest)
	}
	return problem.New(http.StatusBadRequest, "The body is not the JSON expected: %v.", err)
}

func invalid(location, message string) *problem.Problem {
	p := problem.New(http.StatusBadRequest, "The request is not valid.")
	p.Errors = []problem.FieldError{{Location: location, Message: message}}
	return p
}
