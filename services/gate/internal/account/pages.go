package account

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// The paths of the pages, besides session.SignInPath.
const (
	invitationPath = "/invitation"
	passwordPath   = "/account/password"
	UsersPath      = "/account/users"
)

// Site has the pages of the accounts.
type Site struct {
	*session.Site
	accounts *Accounts
	limit    *limiter
}

// NewSite returns the pages, as a part of those of sessions.
func NewSite(accounts *Accounts, site *session.Site) *Site {
	return &Site{site, accounts, &limiter{accounts.store, accounts.names}}
}

// Register adds the pages by handle, which takes a pattern of http.ServeMux.
func (s *Site) Register(handle func(pattern string, h http.Handler)) {
	signedIn := func(h http.HandlerFunc) http.Handler {
		return s.Sessions.Require(s.Pages, h)
	}
	admins := func(h http.HandlerFunc) http.Handler {
		return s.Sessions.Require(s.Pages, s.Admins(h))
	}
	for pattern, h := range map[string]http.Handler{
		"GET " + session.SignInPath:  http.HandlerFunc(s.signInPage),
		"POST " + session.SignInPath: http.HandlerFunc(s.signIn),
		"GET " + invitationPath:      http.HandlerFunc(s.invitationPage),
		"POST " + invitationPath:     http.HandlerFunc(s.accept),
		"POST " + passwordPath:       signedIn(s.changePassword),
		"GET " + UsersPath:           admins(s.users),
		"POST " + UsersPath:          admins(s.manage),
	} {
		handle(pattern, s.Pages.Form(h))
	}
}

// entry is the data of the pages on which people come in.
type entry struct{ Name, Code, Back string }

func (s *Site) signInPage(w http.ResponseWriter, r *http.Request) {
	back := session.Back(r)
	if _, err := s.Sessions.Find(r); err == nil {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}

	s.enter(w, r, http.StatusOK, "sign-in", "", entry{Back: back})
}

func (s *Site) invitationPage(w http.ResponseWriter, r *http.Request) {
	s.enter(w, r, http.StatusOK, "invitation", "", entry{})
}

// titles are those of the pages on which people come in.
var titles = map[string]string{"sign-in": "Sign in", "invitation": "Choose a password"}

func (s *Site) enter(
	w http.ResponseWriter, r *http.Request, status int, page, alert string, e entry,
) {
	s.Pages.Render(w, r, status, page, pages.Page{Title: titles[page], Alert: alert, Main: e})
}

// signIn signs in who has the password of an account. Everything is the same for a name that has
// none, but the end.
func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	name, password := canonical(r.PostFormValue("name")), r.PostFormValue("password")
	e := entry{Name: name, Back: session.Back(r)}
	sources, err := s.sources(r, name)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	wait, err := s.limit.attempt(r.Context(), sources...)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	if wait > 0 {
		s.enter(w, r, http.StatusTooManyRequests, "sign-in", later(w, wait), e)
		return
	}

	account, err := s.accounts.Find(r.Context(), name)
	if err != nil && !errors.Is(err, ErrUnknown) {
		s.unavailable(w, r, err)
		return
	}

	same, err := s.accounts.hasher.matches(r.Context(), account, password)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	if !same {
		s.Log.InfoContext(r.Context(), "sign-in refused", "address", session.Address(r))
		s.refused(r, account)
		s.enter(w, r, http.StatusUnprocessableEntity, "sign-in",
			"The name and the password do not belong together.", e)
		return
	}

	if err := s.limit.forget(r.Context(), sources...); err != nil {
		s.unavailable(w, r, err)
		return
	}

	s.admit(w, r, account, e.Back)
}

// refused records that somebody has not got in. Whose account it is, is recorded if there is one;
// the name never is, as people type their passwords there.
func (s *Site) refused(r *http.Request, account *Account) {
	attempt := session.Record(r, auditlog.SignIn, "")
	if account != nil {
		attempt.Object = s.accounts.names.Of(Issuer, account.Subject)
	}
	s.Sessions.Audit.Note(r.Context(), attempt, auditlog.Refused)
}

// sources returns what the attempt to sign in with the name counts for.
func (s *Site) sources(r *http.Request, name string) ([]source, error) {
	browser, err := s.accounts.known(r, name)
	if err != nil {
		return nil, err
	}
	if browser != "" {
		return []source{{byBrowser, browser + " " + name}}, nil
	}

	address := network(session.Address(r))
	return []source{
		{byAddress, address}, {byPair, address + " " + name}, {byName, name}, {everywhere, ""},
	}, nil
}

// admit signs the person in, and sends the browser back to where it came from.
func (s *Site) admit(w http.ResponseWriter, r *http.Request, account *Account, back string) {
	err := s.accounts.remember(r.Context(), w, r, account)
	if err == nil {
		err = s.begin(w, r, account)
	}

	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	http.Redirect(w, r, back, http.StatusSeeOther)
}

// begin begins a session of the person with the account.
func (s *Site) begin(w http.ResponseWriter, r *http.Request, account *Account) error {
	err := s.Sessions.SignIn(w, r, account.who())

	// Whoever took away the account or its rights meanwhile has not seen the new session, nor that
	// the groups of before are stored again.
	now, found := s.accounts.Find(r.Context(), account.Name)
	if found == nil && encode(now) == encode(account) {
		return err
	}
	if found != nil && !errors.Is(found, ErrUnknown) {
		return errors.Join(err, found)
	}

	id := s.accounts.names.Of(Issuer, account.Subject)
	err = errors.Join(err, s.Sessions.EndAll(r.Context(), id, ""))
	if found == nil && now.Subject == account.Subject {
		return errors.Join(err, s.accounts.store.PutGroups(r.Context(), id, now.Groups))
	}

	return errors.Join(err, s.accounts.store.DropGroups(r.Context(), id)) // the account is gone
}

// accept takes an invitation.
func (s *Site) accept(w http.ResponseWriter, r *http.Request) {
	password := r.PostFormValue("password")
	e := entry{Name: canonical(r.PostFormValue("name")), Code: r.PostFormValue("code")}
	refuse := func(status int, alert string) { s.enter(w, r, status, "invitation", alert, e) }
	if password != r.PostFormValue("again") {
		refuse(http.StatusUnprocessableEntity, "The passwords are not the same.")
		return
	}

	account, err := s.accounts.accept(r.Context(), session.Record(r, auditlog.Password, ""), e.Name,
		e.Code, password)
	var unfit *refusal
	switch {
	case errors.Is(err, ErrCode), errors.Is(err, ErrTaken), errors.Is(err, ErrUnknown):
		e.Code = ""
		refuse(http.StatusUnprocessableEntity, pages.Sentence(ErrCode))
	case errors.As(err, &unfit):
		refuse(http.StatusUnprocessableEntity, pages.Sentence(unfit))
	case err != nil:
		s.unavailable(w, r, err)
	default:
		s.admit(w, r, account, "/")
	}
}

// changePassword changes the password of who is signed in. All other sessions end, and
// this one has a new token.
func (s *Site) changePassword(w http.ResponseWriter, r *http.Request) {
	me, ctx, password := session.From(r.Context()), r.Context(), r.PostFormValue("password")
	status, alert, err := s.prove(w, r)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	if status != 0 {
		s.Account(w, r, status, alert, "")
		return
	}

	refuse := func(alert string) { s.Account(w, r, http.StatusUnprocessableEntity, alert, "") }
	unfit := check(me.Name, password)
	switch {
	case password != r.PostFormValue("again"):
		refuse("The new passwords are not the same.")
		return
	case unfit != nil:
		refuse(pages.Sentence(unfit))
		return
	}

	act, err := s.Sessions.Audit.Begin(ctx, session.Record(r, auditlog.Password, me.ID))
	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	var account *Account
	hash, err := s.accounts.hasher.hash(ctx, password)
	if err == nil {
		account, err = s.accounts.setPassword(ctx, me.Name, me.Ref, func(a *Account) error {
			a.Hash = hash
			return nil
		})
	}

	act.End(result(err))
	if err == nil {
		err = s.limit.forget(ctx, source{byPassword, me.ID})
	}
	if err == nil {
		err = s.begin(w, r, account)
	}

	if err != nil {
		s.unavailable(w, r, err)
		return
	}

	s.Account(w, r, http.StatusOK, "", "The password has been changed.")
}

// prove checks that the form has the password of who is signed in. Otherwise it returns the status
// and what to say. An attempt counts until limiter.forget, also one with the right password.
func (s *Site) prove(
	w http.ResponseWriter, r *http.Request,
) (status int, alert string, err error) {
	me, ctx := session.From(r.Context()), r.Context()
	wait, err := s.limit.attempt(ctx, source{byPassword, me.ID})
	if err != nil {
		return 0, "", err
	}

	if wait > 0 {
		return http.StatusTooManyRequests, later(w, wait), nil
	}

	account, err := s.accounts.Find(ctx, me.Name)
	if err != nil {
		return 0, "", err
	}

	same, err := s.accounts.hasher.matches(ctx, account, r.PostFormValue("current"))
	if err == nil && !same {
		return http.StatusUnprocessableEntity, "The password now is another one.", nil
	}

	return 0, "", err
}

// Confirm is an owndata.Site's: it checks the password of who is signed in.
func (s *Site) Confirm(
	w http.ResponseWriter, r *http.Request,
) (status int, alert string, err error) {
	if status, alert, err = s.prove(w, r); err == nil && status == 0 {
		err = s.limit.forget(r.Context(), source{byPassword, session.From(r.Context()).ID})
	}
	return status, alert, err
}

// unavailable answers a request that cannot be decided now.
func (s *Site) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrBusy) {
		fault := problem.New(http.StatusServiceUnavailable,
			"Too many people sign in at this moment. Try again in a few seconds.")
		fault.RetryAfter = 5
		s.Pages.Fail(w, r, fault)
		return
	}

	session.Unavailable(w, r, s.Pages, s.Log, err)
}

// later says after which time the next attempt may be made.
func later(w http.ResponseWriter, wait time.Duration) string {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", fmt.Sprint(seconds))
	if seconds < 120 {
		return fmt.Sprintf("There were too many attempts. Try again in %d seconds.", seconds)
	}
	return fmt.Sprintf("There were too many attempts. Try again in %d minutes.", (seconds+59)/60)
}
