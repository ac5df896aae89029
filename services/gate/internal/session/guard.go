package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// SignInPath is the page where people sign in.
const SignInPath = "/sign-in"

type contextKey struct{}

// From returns the session of a request that Require let through.
func From(ctx context.Context) *Session {
	s, _ := ctx.Value(contextKey{}).(*Session)
	return s
}

// Require returns a handler that lets through requests of a session alone, which From returns then.
// A person is sent to where people sign in, and a program is refused.
func (m *Manager) Require(p *pages.Pages, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Find(r)
		switch {
		case errors.Is(err, ErrNone) && navigates(r):
			target := url.URL{Path: SignInPath}
			if r.URL.Path != "/" {
				target.RawQuery = url.Values{"back": {r.URL.RequestURI()}}.Encode()
			}

			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, target.String(), http.StatusSeeOther)
		case errors.Is(err, ErrNone):
			p.Fail(w, r, problem.Typed(problem.TypeSignIn, http.StatusUnauthorized,
				"You are not signed in, or not any more. Sign in at %s.", SignInPath))
		case err != nil:
			Unavailable(w, r, p, m.log, err)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, s)))
		}
	})
}

// Admins returns a handler that lets through admins alone, of those whom Require let through. It is
// recorded that somebody else wanted in.
func (s *Site) Admins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		me := From(r.Context())
		if me.Admin {
			next.ServeHTTP(w, r)
			return
		}

		record := Record(r, auditlog.Access, me.ID)
		record.Detail = map[string]string{"route": r.Pattern, "why": "not an admin"}
		s.Sessions.Audit.Refuse(r.Context(), record)
		s.Pages.Fail(w, r, problem.New(http.StatusForbidden, "This page is for admins."))
	})
}

// Unavailable answers a request that cannot be decided because Redis does not answer.
func Unavailable(
	w http.ResponseWriter, r *http.Request, p *pages.Pages, log *slog.Logger, err error,
) {
	if r.Context().Err() == nil {
		log.WarnContext(r.Context(), "sign-in", "error", err)
	}

	var fault *problem.Problem
	if !errors.As(err, &fault) {
		fault = problem.New(http.StatusServiceUnavailable,
			"Who is signed in cannot be found out at the moment. Try again in a few seconds.")
		fault.RetryAfter = 5
	}
	p.Fail(w, r, fault)
}

// navigates reports whether a person goes to a page with the request. Scripts ask for parts of
// pages, too, and would take the page to sign in for one.
func navigates(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || byScript(r) {
		return false
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// byScript reports whether a script makes the request.
func byScript(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return strings.HasPrefix(r.URL.Path, "/fragments/") || dest != "" && dest != "document"
}

// Back returns where the form's or the address' field "back" leads after sign-in: a path of this
// site, "/" if it is anything else.
func Back(r *http.Request) string {
	back := r.FormValue("back")
	u, err := url.Parse(back)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || len(back) > maxBack ||
		!strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") ||
		strings.ContainsFunc(back, outOfPlace) || strings.HasPrefix(u.Path, "//") {
		return "/"
	}

	return back
}

// maxBack bounds the address to go back to.
const maxBack = 2000

// outOfPlace reports whether browsers read an address otherwise than package url for a character.
func outOfPlace(c rune) bool { return c == '\\' || c <= ' ' || c == 0x7f }
