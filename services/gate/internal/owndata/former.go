package owndata

import (
	"context"
	"errors"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/browser"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// formerPath is where a person takes, or leaves for good, what the browser had before people signed
// in.
const formerPath = Path + "/browser"

// Take gives the conversations of the person with the first id, who cannot sign in, to the one with the
// second id. The keys of the first one are revoked. What fails half-way can be done again. who is what
// the audit says of the one who asks.
func (d *Data) Take(ctx context.Context, who auditlog.Record, from, to string) error {
	return d.recorded(ctx, who, from, to, d.give)
}

// former returns the id of the person as whom the browser was known before people signed in, if there
// are conversations of it; "" if there are none, or nobody is told of them.
func (s *Site) former(r *http.Request) (string, error) {
	if s.Browser == nil {
		return "", nil
	}

	id := s.Browser(r)
	if id == "" {
		return "", nil
	}

	there, err := s.Data.conversations(r.Context(), id)
	if err != nil || !there {
		return "", err
	}

	return id, nil
}

// take gives what the browser had to who is signed in, or makes the browser forget it.
func (s *Site) take(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("act") == "forget" {
		browser.Forget(w)
		http.Redirect(w, r, Path, http.StatusSeeOther)
		return
	}

	id, err := s.former(r)
	if id == "" && err == nil {
		s.show(w, r, http.StatusNotFound, "There is nothing of this browser to take over.")
		return
	}

	me := session.From(r.Context())
	if err == nil {
		err = s.Data.Take(r.Context(), session.Record(r, "", me.ID), id, me.ID)
	}

	var fault *problem.Problem
	switch {
	case errors.As(err, &fault) && fault.Status < http.StatusInternalServerError:
		s.show(w, r, http.StatusConflict, fault.Error())
		return
	case err != nil:
		s.Log.WarnContext(r.Context(), "take over", "error", err)
		fault = problem.New(http.StatusServiceUnavailable,
			"Not all could be taken over. Try again: that goes on with what is left.")
		fault.RetryAfter = 5
		s.Pages.Fail(w, r, fault)
		return
	}

	browser.Forget(w)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
