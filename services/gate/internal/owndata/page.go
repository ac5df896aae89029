package owndata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// The paths of the page and of what it downloads.
const (
	Path       = "/account/data"
	exportPath = Path + "/export"
)

// ErrKept reports that somebody's data are kept. The error that wraps it says why.
var ErrKept = errors.New("nothing was erased")

// Site has the page on which people get their data, and erase them.
type Site struct {
	*session.Site
	Data *Data

	// Confirm checks that the form is of who is signed in. Otherwise it returns the status and what
	// to say.
	Confirm func(http.ResponseWriter, *http.Request) (status int, alert string, err error)

	// Browser returns the id of the person as whom the browser was known before people signed in, or
	// "". If it is nil, nobody is told of what a browser had.
	Browser func(*http.Request) string

	// Erase erases all that is stored of who is signed in, the account included.
	Erase func(context.Context, *session.Session) error
}

// Register adds the pages by handle, which takes a pattern of http.ServeMux.
func (s *Site) Register(handle func(pattern string, h http.Handler)) {
	for pattern, h := range map[string]http.HandlerFunc{
		"GET " + Path: func(w http.ResponseWriter, r *http.Request) {
			s.show(w, r, http.StatusOK, "")
		},
		"POST " + Path:       s.erase,
		"POST " + formerPath: s.take,
		"GET " + exportPath:  s.export,
	} {
		handle(pattern, s.Pages.Form(s.Sessions.Require(s.Pages, h)))
	}
}

func (s *Site) show(w http.ResponseWriter, r *http.Request, status int, alert string) {
	me := session.From(r.Context())
	former, err := s.former(r)
	if err != nil { // the page is for more than that
		s.Log.WarnContext(r.Context(), "what the browser had", "error", err)
	}

	readings, err := s.Data.Readings(r.Context(), me.ID)
	if err != nil {
		session.Unavailable(w, r, s.Pages, s.Log, err)
		return
	}

	s.Pages.Render(w, r, status, "data", pages.Page{
		Title: "Your data", Tabs: s.Tabs(me.Person()), Path: Path, Alert: alert,
		Main: struct {
			Name      string
			Passwords bool
			Former    bool
			Readings  []Reading
		}{me.Name, s.Passwords, former != "", readings},
	})
}

// export sends a file.
func (s *Site) export(w http.ResponseWriter, r *http.Request) {
	media, name := "application/json", "codexcontinue.json"
	format := r.FormValue("format")
	switch format {
	case JSON:
	case Markdown:
		media, name = "application/zip", "codexcontinue.zip"
	default:
		s.Pages.Fail(w, r, problem.New(http.StatusBadRequest,
			"There is no format %q: choose %s or %s.", format, JSON, Markdown))
		return
	}

	file, err := s.Data.Export(r.Context(), session.From(r.Context()), format)
	if err != nil {
		s.Log.WarnContext(r.Context(), "export", "error", err)
		s.Pages.Fail(w, r, problem.New(http.StatusServiceUnavailable,
			"Your data cannot be read at the moment. Try again in a few seconds."))
		return
	}
	defer file.Close()

	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if _, err := io.Copy(w, file); err != nil {
		if r.Context().Err() == nil {
			s.Log.WarnContext(r.Context(), "an export was cut", "error", err)
		}
		panic(http.ErrAbortHandler) // half a file must not look like all of it
	}
}

// erase erases all, and signs out.
func (s *Site) erase(w http.ResponseWriter, r *http.Request) {
	status, alert, err := s.Confirm(w, r)
	if err != nil {
		session.Unavailable(w, r, s.Pages, s.Log, err)
		return
	}
	if status != 0 {
		s.show(w, r, status, alert)
		return
	}

	err = s.Erase(r.Context(), session.From(r.Context()))
	switch {
	case errors.Is(err, ErrKept):
		s.show(w, r, http.StatusConflict, pages.Sentence(err))
		return
	case err != nil:
		s.Log.WarnContext(r.Context(), "erase", "error", err)
		fault := problem.New(http.StatusServiceUnavailable,
			"Not everything could be erased. Try again: that goes on with what is left. If you "+
				"cannot sign in any more, an admin does it with `codexctl user erase`.")
		fault.RetryAfter = 5
		s.Pages.Fail(w, r, fault)
		return
	}

	if err := s.Data.Rewrite(r.Context()); err != nil {
		s.Log.WarnContext(r.Context(), "erase: Redis does not write its file anew", "error", err)
	}
	if err := s.Sessions.SignOut(w, r); err != nil { // it takes back the cookie
		s.Log.WarnContext(r.Context(), "erase", "error", err)
	}

	s.Pages.Render(w, r, http.StatusOK, "erased", pages.Page{Title: "Everything has been erased"})
}

// TypedName is a Confirm for those who have no password here: they type their name.
func TypedName(_ http.ResponseWriter, r *http.Request) (status int, alert string, err error) {
	if name := session.From(r.Context()).Name; strings.TrimSpace(r.PostFormValue("name")) != name {
		return http.StatusUnprocessableEntity, fmt.Sprintf("Type your name as it is here: %s.", name),
			nil
	}
	return 0, "", nil
}
