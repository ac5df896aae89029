package web

import "net/http"

// csp is the content security policy of the pages: nothing but what comes from this site, and no
// inline script or style. Answers are written by a model that may have been instructed to attack;
// markup of theirs that reached a page would do nothing.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxBody bounds a request's body. A form encodes a message of backendapi.MaxMessage bytes in up to
// three times as many; the rest is room for the other fields.
const maxBody = 256 << 10

// protect sets the security headers, refuses writes from other sites, and bounds the body.
func (a *App) protect(h http.Handler) http.Handler {
	guarded := a.csrf.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", csp)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Permissions-Policy",
			"camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		guarded.ServeHTTP(w, r)
	})
}
