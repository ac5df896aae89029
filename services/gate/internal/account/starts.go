package account

import (
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
)

// The bounds of sign-ins that begin at an identity provider's, of which each is kept in Redis for
// ten minutes. People behind one address are many, and the whole site's are more.
var (
	startsByAddress  = bound{"start", 100, time.Second, 10 * time.Second, 10 * time.Minute, false}
	startsEverywhere = bound{
		"starts", 10_000, 100 * time.Millisecond, 100 * time.Millisecond, 10 * time.Minute, false,
	}
)

// Starts bounds the sign-ins at an identity provider that strangers begin.
type Starts struct{ limit limiter }

// NewStarts returns bounds that all gates with the store share.
func NewStarts(st *store.Store, names *pseudonym.Names) *Starts {
	return &Starts{limiter{st, names}}
}

func startSources(r *http.Request) []source {
	return []source{{startsByAddress, network(session.Address(r))}, {startsEverywhere, ""}}
}

// Begin counts a sign-in that begins with the request, and returns 0 if it may. Otherwise it
// returns after which time one may begin.
func (s *Starts) Begin(r *http.Request) (time.Duration, error) {
	return s.limit.attempt(r.Context(), startSources(r)...)
}

// End takes back one that has come to its end.
func (s *Starts) End(r *http.Request) error {
	return s.limit.forget(r.Context(), startSources(r)...)
}
