package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/markdown"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
)

// sourceRef is a source in the list below an answer.
type sourceRef struct {
	N    int
	Href string

	// Name is the document and the place in it, File where the document is.
	Name, File string
	Cited      bool
}

// passagePath returns the address of a source's page, from which one comes back to the conversation.
func passagePath(s backendapi.Source, conversation string) string {
	path := "/passages/" + url.PathEscape(s.PassageID)
	if conversation != "" {
		path += "?" + url.Values{"in": {conversation}}.Encode()
	}
	return path
}

// nameOf names a passage: the document, and the place in it.
func nameOf(title, heading string, page int) string {
	if place := placeOf(title, heading, page); place != "" {
		return title + " · " + place
	}
	return title
}

// placeOf says where in the document with the title a passage is: the headings above it, and its
// page. A first heading that is the title is not said again.
func placeOf(title, heading string, page int) string {
	if heading == title {
		heading = ""
	}

	heading = strings.TrimPrefix(heading, title+" > ")
	if page == 0 {
		return heading
	}

	number := fmt.Sprintf("page %d", page)
	if heading == "" {
		return number
	}
	return heading + " · " + number
}

// citations returns what an answer with the sources may cite.
func citations(s *backendapi.Sources, conversation string) markdown.Citations {
	if s == nil {
		return nil
	}

	out := markdown.Citations{}
	for _, x := range s.Sources {
		out[x.N] = markdown.Citation{
			Href: passagePath(x, conversation), Title: nameOf(x.Title, x.Heading, x.Page),
		}
	}

	return out
}

// sourceRefs returns the list of an answer's sources.
func sourceRefs(s *backendapi.Sources, conversation string, cited map[int]bool) []sourceRef {
	if s == nil {
		return nil
	}

	var out []sourceRef
	for _, x := range s.Sources {
		out = append(out, sourceRef{
			N:     x.N,
			Href:  passagePath(x, conversation),
			Name:  nameOf(x.Title, x.Heading, x.Page),
			File:  x.Collection + " / " + x.File,
			Cited: cited[x.N],
		})
	}

	return out
}

// SourceWords tells what there is to say of an answer's sources beside their list, or is empty.
func (m message) SourceWords() string {
	s, named := m.Sources, false
	for _, r := range m.Refs {
		named = named || r.Cited
	}

	switch {
	case s == nil || m.Streaming():
		return ""
	case s.Unsearched:
		return "Sources could not be searched: the answer rests on no document."
	case len(s.Sources) == 0 && s.LeftOut > 0:
		return "Sources were found, but beside the question there was no room for them: the answer " +
			"rests on no document."
	case len(s.Sources) == 0:
		return "No source was found: the answer rests on no document."
	case !named && m.Content != "":
		return "The answer names no source. These were found:"
	}

	return ""
}

// passagePage is a source of an answer.
type passagePage struct {
	knowledgeapi.Passage
	Place, File string

	// Alert says why it is not shown; empty if it is.
	Alert string

	// Back is the address of the conversation.
	Back string
}

// readPassage asks the backend for the passage of the path, and returns the page's status as well.
func (a *App) readPassage(r *http.Request) (passagePage, int) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := passagePage{Back: "/"}
	if id := r.URL.Query().Get("in"); id != "" {
		p.Back = "/c/" + url.PathEscape(id)
	}

	var err error
	p.Passage, err = a.backend.passage(ctx, caller(r), r.PathValue("id"))
	switch {
	case isNotFound(err):
		p.Title, p.Alert = "Source", "This document is no longer there, or not for you."
		return p, http.StatusNotFound
	case err != nil:
		a.log.WarnContext(r.Context(), "passage", "error", err)
		why := asProblem(err)
		p.Title, p.Alert = "Source", why.Error()
		return p, max(why.Status, http.StatusBadRequest)
	}

	p.Place = placeOf(p.Title, p.Heading, p.Page)
	p.File = p.Collection + " / " + p.Passage.File
	return p, http.StatusOK
}

func (a *App) passage(w http.ResponseWriter, r *http.Request) {
	p, status := a.readPassage(r)
	a.render(w, r, status, "passage", a.page(r, p.Title, sidebar{Hidden: true}, p))
}

// passageFragment is what the page's script shows above the conversation.
func (a *App) passageFragment(w http.ResponseWriter, r *http.Request) {
	p, status := a.readPassage(r)
	a.write(w, r, status, "parts", "passage", p)
}
