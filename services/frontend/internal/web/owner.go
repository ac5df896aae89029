package web

import (
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// cookieAge is the longest time that browsers keep a cookie.
const cookieAge = 400 * 24 * time.Hour

// caller returns what the request says of the person it is from: the header Authorization, in which the
// gate names and signs for them. The backend checks it.
func caller(r *http.Request) string { return r.Header.Get("Authorization") }

// signed refuses requests that do not come through the gate.
func (a *App) signed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if caller(r) == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem.Write(w, r, problem.New(http.StatusUnauthorized,
				"This service takes requests through the stack's edge only."))
			return
		}

		h.ServeHTTP(w, r)
	})
}

// secure reports whether the browser reached the site over TLS, which ends at the edge.
func secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Cookies that the page's scripts may read and write; they hold no secrets.
const (
	themeCookie = "theme" // light or dark; none follows the system
	zoneCookie  = "tz"    // the browser's IANA time zone, for day boundaries and times
)

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return "auto"
}

// zoneOf returns the browser's time zone, or UTC if it is not known.
func zoneOf(r *http.Request) *time.Location {
	c, err := r.Cookie(zoneCookie)
	if err != nil || len(c.Value) > 64 || c.Value == "Local" {
		return time.UTC
	}

	loc, err := time.LoadLocation(c.Value) // refuses names that leave the database
	if err != nil {
		return time.UTC
	}

	return loc
}

// theme stores the choice of colours, for browsers without JavaScript. The page's script
// sets the same cookie.
func (a *App) theme(w http.ResponseWriter, r *http.Request) {
	c := &http.Cookie{
		Name:     themeCookie,
		Value:    r.PostFormValue("theme"),
		Path:     "/",
		MaxAge:   int(cookieAge.Seconds()),
		SameSite: http.SameSiteLaxMode,
		Secure:   secure(r),
	}
	if c.Value != "light" && c.Value != "dark" {
		c.Value, c.MaxAge = "", -1
	}

	http.SetCookie(w, c)
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
}

// localPath returns p if it is a path of this site, else the front page.
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") ||
		strings.ContainsAny(p, "\\\r\n\t") {
		return "/"
	}
	return p
}
