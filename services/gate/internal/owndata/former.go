package owndata

import (
	"context"
	"errors"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/browser"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// formerPath is where a person takes, or leaves for good, what the browser had before people signed
// in.
const formerPath = Path + "/browser"

// Take gives the conversations of the person with the first id, who cannot sign in, to the one with
// the second id. The keys of the first one are revoked. What fails half-way can be done again. who
// is what the audit says of the one who asks.
func (d *Data) Take(ctx context.Context, who auditlog.Record, from, to string) error {
	return d.recorded(ctx, who, from, to, d.give)
}

// leftLife is how long it is known that somebody left what a browser had: as long as its cookie.
const leftLife = browser.CookieAge

// left is the name of the mark that somebody left what the browser with the person's id had.
func left(id string) string { return "gate:left:" + id }

// leave has nobody offered any more what the browser with the person's id had, and revokes its
// keys. The cookie stays, as cookies know no port: the browser may have conversations by it in
// another stack at this host. who is what the audit says of the one who asks.
func (d *Data) leave(ctx context.Context, who auditlog.Record, id string) error {
	who.Action, who.Object = auditlog.KeyRevoked, id
	act, err := d.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return err
	}

	if err = d.keys.RevokeAll(ctx, id); err == nil {
		err = d.store.Set(ctx, left(id), "1", leftLife)
	}

	act.End(audit.Result(err))
	return err
}

// ofBrowser reports whether the browser with the person's id has anything that nobody left:
// conversations, what was handed over, or keys.
func (d *Data) ofBrowser(ctx context.Context, id string) (bool, error) {
	if mark, err := d.store.Get(ctx, left(id)); err != nil || mark != "" {
		return false, err
	}

	keys, err := d.keys.List(ctx, id)
	if err != nil || len(keys) > 0 {
		return err == nil, err
	}

	return d.written(ctx, id)
}

// former returns the id of the person as whom the browser was known before people signed in, if
// there is anything of it; "" if there is nothing, or nobody is told of it.
func (s *Site) former(r *http.Request) (string, error) {
	if s.Browser == nil {
		return "", nil
	}

	id := s.Browser(r)
	if id == "" {
		return "", nil
	}

	there, err := s.Data.ofBrowser(r.Context(), id)
	if err != nil || !there {
		return "", err
	}

	return id, nil
}

// take gives what the browser had to who is signed in, or leaves it for good.
func (s *Site) take(w http.ResponseWriter, r *http.Request) {
	act, back := s.Data.Take, "/"
	switch r.PostFormValue("act") {
	case "take":
	case "leave":
		back = Path
		act = func(ctx context.Context, who auditlog.Record, from, _ string) error {
			return s.Data.leave(ctx, who, from)
		}
	default:
		s.show(w, r, http.StatusUnprocessableEntity,
			"Choose whether to take it over or to leave it.")
		return
	}

	id, err := s.former(r)
	if id == "" && err == nil {
		s.show(w, r, http.StatusNotFound, "There is nothing of this browser to take over.")
		return
	}

	me := session.From(r.Context())
	if err == nil {
		err = act(r.Context(), session.Record(r, "", me.ID), id, me.ID)
	}

	var fault *problem.Problem
	switch {
	case errors.As(err, &fault) && fault.Status < http.StatusInternalServerError:
		s.show(w, r, http.StatusConflict, fault.Error())
		return
	case err != nil:
		s.Log.WarnContext(r.Context(), "take over", "error", err)
		fault = problem.New(http.StatusServiceUnavailable,
			"Not all could be done. Try again: that goes on with what is left.")
		fault.RetryAfter = 5
		s.Pages.Fail(w, r, fault)
		return
	}

	http.Redirect(w, r, back, http.StatusSeeOther)
}
