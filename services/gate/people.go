package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/forward"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
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

	// provider is nil if people have accounts.
	provider *provider

	// ended returns the context that ends a request's event stream when the gate stops.
	ended func(*http.Request) context.Context
}

// register adds the routes to the server. Requests that come from another site are refused.
func (p *people) register(srv *server.Server, accounts *account.Accounts) {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.site.Pages.Fail(w, r, problem.New(http.StatusForbidden,
			"This request came from another site and was refused."))
	}))

	handle := func(pattern string, h http.Handler) { srv.Handle(pattern, guard.Handler(h)) }

	p.site.Register(handle)
	if p.provider != nil {
		p.provider.register(handle)
	} else {
		account.NewSite(accounts, p.site).Register(handle)
	}

	// The page to sign in has the looks of the frontend's pages.
	handle("GET /static/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.forwarder.Serve(w, r, identity.Person{}, context.WithoutCancel(r.Context()))
	}))
	handle("GET /api/status", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.site.Sessions.Find(r); err != nil {
			p.status.ServeHTTP(w, r)
			return
		}
		p.forward().ServeHTTP(w, r)
	}))

	handle("/", p.forward())
}

// forward returns the handler that passes on the requests of people who are signed in, for no
// longer than they are.
func (p *people) forward() http.Handler {
	sessions := p.site.Sessions
	return sessions.Require(p.site.Pages, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			s := session.From(r.Context())
			lasting, stop := sessions.Watch(p.ended(r), s)
			defer stop()
			p.forwarder.Serve(w, r, s.Person(), lasting)
		}))
}

// tabs returns the function that says to which pages of the gate's own a person may go.
func tabs(signIn string) func(identity.Person) []pages.Tab {
	return func(me identity.Person) []pages.Tab {
		all := []pages.Tab{
			{Path: session.AccountPath, Name: "Account"},
			{Path: session.SessionsPath, Name: "Sessions"},
		}
		if me.Admin && signIn == gateenv.Accounts {
			all = append(all, pages.Tab{Path: account.UsersPath, Name: "People"})
		}

		return all
	}
}

// resumable reports whether the request is for a page's event stream, which the page opens again,
// at another gate, when this one stops.
func resumable(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/generations/") }
