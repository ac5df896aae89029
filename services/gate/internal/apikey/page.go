package apikey

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// Path is where the page is.
const Path = "/account/keys"

const (
	// maxDays is the longest life of a key that expires.
	maxDays = 3650

	// usualDays is what the form suggests.
	usualDays = "90"
)

// page is the page with a person's keys.
type page struct {
	keys   *Keys
	pages  *pages.Pages
	person func(http.ResponseWriter, *http.Request) (identity.Person, bool)
	tabs   func(identity.Person) []pages.Tab
	log    *slog.Logger
}

// view is the data of the template.
type view struct {
	Keys   []Key
	Scopes []Scope
	Most   int

	// Secret is that of the key that was just made.
	Secret string

	// Longest is how many days a key may last, 0 for ever.
	Longest int

	// Name and Days are what is in the form.
	Name, Days string
}

// Page returns the handler of Path. person returns who asks, or has answered already if it reports
// false; tabs returns the pages that a person may go to.
func (k *Keys) Page(
	p *pages.Pages, person func(http.ResponseWriter, *http.Request) (identity.Person, bool),
	tabs func(identity.Person) []pages.Tab, log *slog.Logger,
) http.Handler {
	x := &page{k, p, person, tabs, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, x.signedIn(x.list))
	mux.HandleFunc("POST "+Path, x.signedIn(x.post))

	sameSite := p.SameSite("The form was sent by another site. Open the page here and try again.")
	return sameSite(p.Form(mux))
}

type personal = func(http.ResponseWriter, *http.Request, identity.Person)

// signedIn returns a handler that knows who asks.
func (x *page) signedIn(h personal) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p, ok := x.person(w, r); ok {
			h(w, r, p)
		}
	}
}

func (x *page) list(w http.ResponseWriter, r *http.Request, p identity.Person) {
	x.render(w, r, http.StatusOK, p, view{Days: usualDays}, "")
}

// post revokes the key that the form names, or makes one.
func (x *page) post(w http.ResponseWriter, r *http.Request, p identity.Person) {
	if id := r.PostForm.Get("revoke"); id != "" {
		act, err := x.keys.Audit.Begin(r.Context(),
			x.record(r, auditlog.KeyRevoked, p.ID, id))
		if err == nil {
			err = x.keys.Revoke(r.Context(), p.ID, id)
			act.End(audit.Result(err))
		}
		if err != nil {
			x.fail(w, r, err)
			return
		}

		http.Redirect(w, r, Path, http.StatusSeeOther)
		return
	}

	form := view{Name: r.PostForm.Get("name"), Days: strings.TrimSpace(r.PostForm.Get("days"))}
	var scopes []Scope
	for _, s := range r.PostForm["scope"] {
		scopes = append(scopes, Scope(s))
	}

	var expires time.Time
	if form.Days != "" || x.keys.days != 0 {
		most, never := maxDays, ", or never"
		if x.keys.days != 0 {
			most, never = x.keys.days, ""
		}

		n, err := strconv.Atoi(form.Days)
		if err != nil || n < 1 || n > most {
			x.render(w, r, http.StatusBadRequest, p, form,
				fmt.Sprintf("A key expires after 1 to %d days%s.", most, never))
			return
		}

		expires = time.Now().AddDate(0, 0, n)
	}

	act, err := x.keys.Audit.Begin(r.Context(), x.record(r, auditlog.KeyMade, p.ID, ""))
	if err != nil {
		x.fail(w, r, err)
		return
	}

	secret, err := x.keys.Make(r.Context(), p.ID, form.Name, scopes, expires)
	switch {
	case act == nil:
	case err == nil:
		act.Record.Object = x.keys.Audit.Name(Kind, hash(secret))
		act.End(auditlog.Done)
	case errors.Is(err, ErrRefused):
		act.End(auditlog.Refused)
	default:
		act.End(auditlog.Failed)
	}

	switch {
	case err == nil:
		x.render(w, r, http.StatusOK, p, view{Secret: secret, Days: usualDays}, "")
	case errors.Is(err, ErrRefused):
		x.render(w, r, http.StatusBadRequest, p, form, pages.Sentence(err))
	default:
		x.fail(w, r, err)
	}
}

// Kind is that of keys in records.
const Kind = "key"

// record returns what the audit says of an act on the owner's key with the id.
func (x *page) record(
	r *http.Request, action auditlog.Action, owner, id string,
) auditlog.Record {
	record := session.Record(r, action, owner)
	record.Object = x.keys.Audit.Name(Kind, id)
	return record
}

func (x *page) render(
	w http.ResponseWriter, r *http.Request, status int, p identity.Person, v view, alert string,
) {
	keys, err := x.keys.List(r.Context(), p.ID)
	if err != nil {
		x.fail(w, r, err)
		return
	}

	v.Keys, v.Scopes, v.Most, v.Longest = keys, Scopes, Most, x.keys.days
	x.pages.Render(w, r, status, "keys", pages.Page{
		Title: "Keys", Tabs: x.tabs(p), Path: Path, Alert: alert, Main: v,
	})
}

func (x *page) fail(w http.ResponseWriter, r *http.Request, err error) {
	x.log.WarnContext(r.Context(), "keys", "error", err)
	var p *problem.Problem
	if !errors.As(err, &p) {
		p = problem.New(http.StatusServiceUnavailable,
			"The keys cannot be reached at the moment. Try again in a few seconds.")
		p.RetryAfter = 5
	}
	x.pages.Fail(w, r, p)
}
