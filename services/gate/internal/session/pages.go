package session

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// The paths of the pages.
const (
	SignOutPath  = "/sign-out"
	AccountPath  = "/account"
	SessionsPath = "/account/sessions"
)

// Site has the pages of everybody who is signed in.
type Site struct {
	Sessions *Manager
	Pages    *pages.Pages

	// Tabs returns the pages that a person may go to.
	Tabs func(identity.Person) []pages.Tab

	// Passwords reports whether the page of the account changes the password.
	Passwords bool

	// After returns the address where the person goes after the end of the session. It is
	// the page to sign in unless it is set.
	After func(context.Context, *Session) string

	Log *slog.Logger
}

// Register adds the pages by handle, which takes a pattern of http.ServeMux.
func (s *Site) Register(handle func(pattern string, h http.Handler)) {
	handle("POST "+SignOutPath, http.HandlerFunc(s.signOut))
	for pattern, h := range map[string]http.HandlerFunc{
		"GET " + AccountPath: func(w http.ResponseWriter, r *http.Request) {
			s.Account(w, r, http.StatusOK, "", "")
		},
		"GET " + SessionsPath:  func(w http.ResponseWriter, r *http.Request) { s.list(w, r, "") },
		"POST " + SessionsPath: s.end,
	} {
		handle(pattern, s.Pages.Form(s.Sessions.Require(s.Pages, h)))
	}
}

// Account shows the page of the account, with what went wrong or well.
func (s *Site) Account(
	w http.ResponseWriter, r *http.Request, status int, alert, note string,
) {
	me := From(r.Context())
	s.Pages.Render(w, r, status, "account", pages.Page{
		Title: "Account", Tabs: s.Tabs(me.Person()), Path: AccountPath, Alert: alert, Note: note,
		Main: struct {
			Name      string
			Admin     bool
			Groups    []string
			Passwords bool
		}{me.Name, me.Admin, me.Groups, s.Passwords},
	})
}

func (s *Site) list(w http.ResponseWriter, r *http.Request, note string) {
	me := From(r.Context())
	all, err := s.Sessions.List(r.Context(), me.ID)
	if err != nil {
		Unavailable(w, r, s.Pages, s.Log, err)
		return
	}

	s.Pages.Render(w, r, http.StatusOK, "sessions", pages.Page{
		Title: "Where you are signed in", Tabs: s.Tabs(me.Person()), Path: SessionsPath, Note: note,
		Main: struct {
			Sessions []Shown
			Mine     string
		}{all, me.Ref},
	})
}

// end ends one session, those of all other browsers, or all.
func (s *Site) end(w http.ResponseWriter, r *http.Request) {
	me, ctx := From(r.Context()), r.Context()
	switch which := r.PostFormValue("end"); which {
	case "everywhere":
		act := s.begin(r, me)
		err := s.Sessions.EndAll(ctx, me.ID, "")
		act.End(audit.Result(err))
		if err != nil {
			Unavailable(w, r, s.Pages, s.Log, err)
			return
		}

		s.leave(w, r, me)
	case "":
		s.Pages.Fail(w, r, problem.New(http.StatusBadRequest, "The form names no session."))
	case me.Ref:
		s.signOut(w, r)
	default:
		act := s.begin(r, me)
		err := s.Sessions.End(ctx, me.ID, which)
		act.End(audit.Result(err))
		if err != nil {
			Unavailable(w, r, s.Pages, s.Log, err)
			return
		}

		s.list(w, r, "The session has ended.")
	}
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	me, _ := s.Sessions.Find(r) // without one there is nothing to end
	act := s.begin(r, me)
	err := s.Sessions.SignOut(w, r)
	act.End(audit.Result(err))
	if err != nil {
		Unavailable(w, r, s.Pages, s.Log, err)
		return
	}

	s.leave(w, r, me)
}

// begin records that sessions of the person end, who may be nobody.
func (s *Site) begin(r *http.Request, me *Session) *audit.Act {
	if me == nil {
		return nil
	}
	return s.Sessions.Audit.BeginAnyway(r.Context(), Record(r, auditlog.SignOut, me.ID))
}

// leave sends the person away from a session that has ended.
func (s *Site) leave(w http.ResponseWriter, r *http.Request, me *Session) {
	target := SignInPath
	if s.After != nil && me != nil {
		target = s.After(r.Context(), me)
	}

	setCookie(w, r, "")
	http.Redirect(w, r, target, http.StatusSeeOther)
}
