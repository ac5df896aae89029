package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"net/http"
	"strings"
	"time"
)

// ownerCookie holds a browser's random id. Whoever has the id has the conversations, so scripts
// cannot read it, and it is sent only with requests from this site's own pages.
const ownerCookie = "codexcontinue_owner"

// cookieAge is the longest time that browsers keep a cookie.
const cookieAge = 400 * 24 * time.Hour

// owner returns the browser's id. A browser without one, or with one that this service cannot have
// made, gets a new one of 130 bits. It is random, but for a message, which may be sent again before
// the browser has heard of it: there it follows from the message's key.
func owner(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(ownerCookie); err == nil && validOwner(c.Value) {
		return c.Value
	}

	id := rand.Text()

	if key := randomKey(r); key != "" {
		sum := sha256.Sum256([]byte("owner\x00" + key))
		id = base32.StdEncoding.EncodeToString(sum[:])[:len(id)]
	}

	http.SetCookie(w, &http.Cookie{
		Name:     ownerCookie,
		Value:    id,
		Path:     "/",
		MaxAge:   int(cookieAge.Seconds()),
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		Secure:   secure(r),
	})

	return id
}

// validOwner reports whether id has the form of rand.Text: 26 characters of base32.
func validOwner(id string) bool {
	return len(id) == 26 && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
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
