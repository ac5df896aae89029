// Package browser knows a browser by a random cookie, where nobody signs in. Whoever has the cookie
// has the conversations, and whoever reaches the page gets one: so it answers on the loopback
// address alone, by names that no other site's DNS can claim.
package browser

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// cookieName is the name of the cookie, as package cookie has it.
const cookieName = "browser"

// issuer is what vouches for a browser among those that vouch for people.
const issuer = "browser"

// CookieAge is the longest time that browsers keep a cookie.
const CookieAge = 400 * 24 * time.Hour

// Person returns the person who uses the browser. A browser without a cookie, or with one that was
// not made here, gets a new one of 130 bits.
func Person(w http.ResponseWriter, r *http.Request, names *pseudonym.Names) identity.Person {
	return identity.Person{ID: names.Of(issuer, id(w, r))}
}

// Former returns the id of the person as whom the browser was known before people signed in, or "".
// It was known at the loopback address alone, so the cookie counts there alone.
func Former(r *http.Request, names *pseudonym.Names) string {
	known := cookie.Get(r, cookieName, false)
	if known == "" || !local(r) {
		return ""
	}
	return names.Of(issuer, known)
}

// id returns the value of the browser's cookie. A new one is random, but for a request with a key
// of the edge, which may be sent again before the browser has heard of its cookie: there it
// follows from the key.
func id(w http.ResponseWriter, r *http.Request) string {
	if known := cookie.Get(r, cookieName, false); known != "" {
		return known
	}

	id := rand.Text()
	if key := r.Header.Get(wire.KeyHeader); edgeKey.MatchString(key) {
		sum := sha256.Sum256([]byte("browser\x00" + key))
		id = base32.StdEncoding.EncodeToString(sum[:])[:len(id)]
	}

	cookie.Set(w, cookieName, id, CookieAge, false)
	return id
}

// edgeKey matches the keys that the edge gives requests without one: random ones, which nobody can
// guess. A client's own may be anything, such as a hash of what everybody knows.
var edgeKey = regexp.MustCompile(
	`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// hosts are the names under which the page answers. A site that has its own name resolve to the
// loopback address (DNS rebinding) has its own name in the header Host.
var hosts = []string{"localhost", "127.0.0.1", "::1"}

// Loopback returns a handler that refuses requests to other hosts than the loopback address. The
// edge says in X-Forwarded-Host what people typed. Where the gate is reached without the edge, a
// page can say so: its own name is in Host then.
func Loopback(p *pages.Pages, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) {
			p.Fail(w, r, problem.New(http.StatusMisdirectedRequest,
				"Nobody signs in here, so this site answers at http://localhost and "+
					"http://127.0.0.1 only. A stack that others reach needs codexcontinue:signIn."))
			return
		}

		next.ServeHTTP(w, r)
	})
}

// local reports whether the request is to the loopback address.
func local(r *http.Request) bool {
	typed := r.Header.Get("X-Forwarded-Host")
	return loopback(r.Host) && (typed == "" || loopback(typed))
}

// loopback reports whether the host, with or without a port, is one of hosts.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.Contains(hosts, strings.Trim(host, "[]"))
}
