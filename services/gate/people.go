package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/forward"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/knowledge"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/report"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// people are the routes of a stack in which people sign in.
type people struct {
	site      *session.Site
	forwarder *forward.Forwarder
	status    http.Handler

	// enter adds the routes by which people come in, by handle, which takes a pattern of
	// http.ServeMux.
	enter func(handle func(pattern string, h http.Handler))

	// data has the page of what is stored of a person.
	data *owndata.Site

	// documents has the pages of the documents; nil where the stack has no knowledge.
	documents http.Handler

	// ended returns the context that ends a request's event stream when the gate stops.
	ended func(*http.Request) context.Context
}

// register adds the routes to the server. Requests that come from another site are refused.
func (p *people) register(srv *server.Server, keys, usage http.Handler) {
	sameSite := p.site.Pages.SameSite("This request came from another site and was refused.")
	handle := func(pattern string, h http.Handler) { srv.Handle(pattern, sameSite(h)) }

	p.site.Register(handle)
	p.enter(handle)
	p.data.Register(handle)

	// The page to sign in has the looks of the frontend's pages.
	handle("GET /static/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.forwarder.Serve(w, r, identity.Person{}, context.WithoutCancel(r.Context()))
	}))
	handle("GET /api/status", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := p.site.Sessions.Find(r); err == nil {
			p.forward(w, r, s)
		} else {
			p.status.ServeHTTP(w, r)
		}
	}))

	require := func(h http.Handler) http.Handler {
		return p.site.Sessions.Require(p.site.Pages, h)
	}
	handle(apikey.Path, require(keys))
	handle(report.Path, require(usage))
	if p.documents != nil {
		documents := require(p.site.Admins(p.documents))
		handle(knowledge.Path, documents)
		handle(knowledge.Path+"/", documents)
	}

	kept := require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.site.Pages.Fail(w, r, problem.New(http.StatusForbidden,
			"Erase your data at %s, which asks who you are, or ask who runs this site to move them.",
			owndata.Path))
	}))
	handle("DELETE "+owndata.AllPath, kept)
	handle("POST "+owndata.TakePath, kept)
	handle("DELETE "+owndata.SubmissionsPath, kept)
	handle("/", require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.forward(w, r, session.From(r.Context()))
	})))
}

// forward passes on a request of somebody who is signed in, for no longer than that lasts.
func (p *people) forward(w http.ResponseWriter, r *http.Request, s *session.Session) {
	lasting, stop := p.site.Sessions.Watch(p.ended(r), s)
	defer stop()
	me := s.Person()
	me.Address = session.Address(r) // where the person is now
	p.forwarder.Serve(w, r, me, lasting)
}

// tabs returns the function that says to which pages of the gate's own a person may go.
func tabs(cfg gateenv.Config) func(identity.Person) []pages.Tab {
	return func(me identity.Person) []pages.Tab {
		all := []pages.Tab{
			{Path: session.AccountPath, Name: "Account"},
			{Path: session.SessionsPath, Name: "Sessions"},
			{Path: apikey.Path, Name: "Keys"},
			{Path: report.Path, Name: "Usage"},
			{Path: owndata.Path, Name: "Data"},
		}
		if me.Admin && cfg.SignIn == gateenv.Accounts {
			all = append(all, pages.Tab{Path: account.UsersPath, Name: "People"})
		}
		if me.Admin && cfg.KnowledgeURL != "" {
			all = append(all, pages.Tab{Path: knowledge.Path, Name: "Documents"})
		}

		return all
	}
}

// resumable reports whether the request is for a page's event stream, which the page opens again,
// at another gate, when this one stops.
func resumable(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/generations/") }
