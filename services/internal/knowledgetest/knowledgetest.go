// Package knowledgetest is the service knowledge for the tests of those that ask it. Server finds the
// passages that a test adds, for those who may read them; Documents keeps the documents that it gets.
package knowledgetest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/servertest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Server speaks a part of knowledgeapi: the search, the passages and the readiness.
type Server struct {
	*servertest.Server

	mu       sync.Mutex
	passages []entry
	searches []Search
	hold     bool
	ready    wire.Readiness
}

// entry is a passage, and the groups that may read it; none stands for everybody.
type entry struct {
	knowledgeapi.Passage
	groups []string
}

// Search is a request that was made.
type Search struct {
	Person identity.Person
	knowledgeapi.SearchRequest
}

// Start starts a server without passages.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{ready: wire.Readiness{Status: wire.StatusReady}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /search", func(w http.ResponseWriter, r *http.Request) {
		var req knowledgeapi.SearchRequest
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil || req.Query == "" {
			t.Errorf("knowledge got something else than a search: %+v, %v", req, err)
		}
		s.search(w, r, req)
	})
	mux.HandleFunc("GET /passages/{id}", s.passage)
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		status := http.StatusOK
		if s.ready.Status != wire.StatusReady {
			status = http.StatusServiceUnavailable
		}
		wire.WriteJSON(w, status, s.ready)
	})

	s.Server = servertest.Start(t, mux)
	return s
}

// Add adds a passage, for everybody or for groups.
func (s *Server) Add(p knowledgeapi.Passage, groups ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passages = append(s.passages, entry{p, groups})
}

// Remove removes the passage with the id.
func (s *Server) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passages = slices.DeleteFunc(s.passages, func(e entry) bool { return e.ID == id })
}

// Hold makes searches wait until their clients give up, or no longer.
func (s *Server) Hold(hold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

// Ready sets the answer of GET /ready.
func (s *Server) Ready(r wire.Readiness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = r
}

// Searches returns the searches so far.
func (s *Server) Searches() []Search {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.searches)
}

// personOf returns who a request is for. The token's signature is not checked.
func personOf(r *http.Request) identity.Person {
	p, ok := identity.Peek(r.Header.Get("Authorization"))
	if !ok {
		p.ID = r.Header.Get(wire.OwnerHeader)
	}
	return p
}

// readable reports whether the person may read what is for the groups; none stands for everybody.
func readable(p identity.Person, groups []string) bool {
	return len(groups) == 0 ||
		slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(groups, g) })
}

// search finds the passages that share a word of four letters or more with the query.
func (s *Server) search(w http.ResponseWriter, r *http.Request, req knowledgeapi.SearchRequest) {
	who := personOf(r)
	s.mu.Lock()
	s.searches = append(s.searches, Search{who, req})
	hold, all := s.hold, slices.Clone(s.passages)
	s.mu.Unlock()
	if hold {
		<-r.Context().Done()
		return
	}

	limit := req.Limit
	if limit == 0 {
		limit = 6
	}

	out := knowledgeapi.SearchResponse{Passages: []knowledgeapi.Passage{}}
	words := strings.FieldsFunc(strings.ToLower(req.Query), func(r rune) bool {
		return strings.ContainsRune(" \n\t.,;:?!", r)
	})
	for _, e := range all {
		text := strings.ToLower(e.Title + " " + e.Text)
		found := slices.ContainsFunc(words, func(word string) bool {
			return len(word) >= 4 && strings.Contains(text, word)
		})
		if found && readable(who, e.groups) && len(out.Passages) < limit {
			p := e.Passage
			p.Before, p.After = "", ""
			out.Passages = append(out.Passages, p)
		}
	}

	wire.WriteJSON(w, http.StatusOK, out)
}

func (s *Server) passage(w http.ResponseWriter, r *http.Request) {
	who := personOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.passages {
		if e.ID == r.PathValue("id") && readable(who, e.groups) {
			wire.WriteJSON(w, http.StatusOK, e.Passage)
			return
		}
	}

	problem.Write(w, r, problem.New(http.StatusNotFound, "There is no such passage."))
}
