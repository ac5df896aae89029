// Package cookie names, makes and reads the gate's own cookies. Each holds a random token, which
// scripts cannot read and other sites' forms do not send.
package cookie

import (
	"net/http"
	"strings"
	"time"
)

// prefix begins the names of the gate's own cookies, which concern no other service. Over TLS
// hostPrefix stands before it: it makes browsers take the cookie from this very host alone, and over
// TLS alone, so another site below the same domain cannot plant one. A browser does not take it over
// plain HTTP, which is for the loopback address.
const prefix, hostPrefix = "codexcontinue_", "__Host-"

// Name returns the name of a cookie in requests over TLS, or else over plain HTTP.
func Name(name string, secure bool) string {
	if secure {
		return hostPrefix + prefix + name
	}
	return prefix + name
}

// Own reports whether a cookie with the name is one of the gate's own.
func Own(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, hostPrefix), prefix)
}

// Set sets a cookie for a time. Where age is 0 the browser drops it when it is closed; where it is
// negative, at once.
func Set(w http.ResponseWriter, name, value string, age time.Duration, secure bool) {
	c := &http.Cookie{
		Name:     Name(name, secure),
		Value:    value,
		Path:     "/",
		MaxAge:   int(age.Seconds()),
		Secure:   secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if age < 0 {
		c.MaxAge = -1
	}

	http.SetCookie(w, c)
}

// Get returns the value of a cookie that holds what rand.Text returns, or "" if there is none such.
func Get(r *http.Request, name string, secure bool) string {
	c, err := r.Cookie(Name(name, secure))
	if err != nil || !Random(c.Value) {
		return ""
	}
	return c.Value
}

// Random reports whether the text has the form of what rand.Text returns: 26 characters of base32.
func Random(text string) bool {
	return len(text) == 26 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
