package account

import (
	"context"
	"errors"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

func (s *Site) users(w http.ResponseWriter, r *http.Request) {
	s.showUsers(w, r, http.StatusOK, usersPage{})
}

// usersPage is the data of the page with all people.
type usersPage struct {
	Accounts    []*Account
	Invitations map[string]*Invitation
	Me          string

	// Code and Invited are shown once: the invitation that was just made.
	Code    string
	Invited *Invitation
	At      string

	alert, note string
}

func (s *Site) showUsers(w http.ResponseWriter, r *http.Request, status int, p usersPage) {
	var err error
	if p.Accounts, err = s.accounts.List(r.Context()); err == nil {
		p.Invitations, err = s.accounts.Invitations(r.Context())
	}

	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	me := session.From(r.Context())
	p.Me, p.At = me.Name, site(r)+invitationPath
	s.Pages.Render(w, r, status, "users", pages.Page{
		Title: "People", Tabs: s.Tabs(me.Person()), Path: UsersPath,
		Alert: p.alert, Note: p.note, Main: p,
	})
}

// site returns the address of the site as the browser knows it.
func site(r *http.Request) string {
	if session.Secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// manage does what an admin asks for.
func (s *Site) manage(w http.ResponseWriter, r *http.Request) {
	ctx, name := r.Context(), canonical(r.PostFormValue("name"))
	act := r.PostFormValue("act")
	var p usersPage
	var err error
	switch {
	case name == session.From(ctx).Name && act != "reset":
		err = errSelf // so that an admin is left
	case actions[act] != "" && act != "groups":
		who := session.Record(r, "", session.From(ctx).ID)
		err = s.accounts.recorded(ctx, who, act, name, func() (err error) {
			p, err = s.accounts.manage(ctx, act, name, r.PostFormValue("admin") != "")
			return err
		})
	default:
		s.Pages.Fail(w, r, problem.New(http.StatusBadRequest, "The form says nothing to do."))
		return
	}

	switch {
	case err == nil:
		s.Log.InfoContext(ctx, "account", "act", act, "by", session.From(ctx).ID)
		s.showUsers(w, r, http.StatusOK, p)
	case errors.Is(err, ErrName), errors.Is(err, ErrTaken), errors.Is(err, ErrUnknown),
		errors.Is(err, errSelf):
		s.showUsers(w, r, http.StatusUnprocessableEntity, usersPage{alert: pages.Sentence(err)})
	default:
		s.unavailable(w, r, err)
	}
}

// manage does what the word says, and returns what the page shows then.
func (a *Accounts) manage(
	ctx context.Context, act, name string, admin bool,
) (p usersPage, err error) {
	switch act {
	case "invite":
		p.Code, p.Invited, err = a.Invite(ctx, name, admin)
	case "reset":
		p.Code, p.Invited, err = a.Reset(ctx, name)
	case "admin", "member":
		err, p.note = a.SetAdmin(ctx, name, act == "admin"), name+" is "+words[act]+" now."
	case "remove":
		err, p.note = a.Remove(ctx, name), name+" has been removed."
	}
	return p, err
}

// errSelf reports that an admin would take away what is the admin's own.
var errSelf = errors.New("another admin can do this to your account, you cannot")

var words = map[string]string{"admin": "an admin", "member": "a member"}
