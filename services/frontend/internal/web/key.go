package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// newKey returns an idempotency key for a form.
func newKey() string { return rand.Text() }

// pageKey matches the keys that the site's pages and their scripts put into a form, and edgeKey those
// that the edge puts into the header: random ones, which nobody can guess.
var (
	pageKey = regexp.MustCompile(`^([A-Z2-7]{26}|[0-9a-f]{32})$`)
	edgeKey = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

// randomKey returns the key that the request came with if it is one of those, else "". A client's own
// may be anything, such as a hash of what everybody knows.
func randomKey(r *http.Request) string {
	key := sentKey(r)
	inForm := r.PostForm.Get("key") != ""
	if inForm && pageKey.MatchString(key) || !inForm && edgeKey.MatchString(key) {
		return key
	}

	return ""
}

// sentKey returns the key that the request came with: the form's, else that of the header, which the
// edge sets for a browser without scripts. It is empty where there is none.
func sentKey(r *http.Request) string {
	if key := r.PostForm.Get("key"); key != "" {
		return key
	}

	return r.Header.Get(wire.KeyHeader)
}

// messageKey returns the key under which the backend knows a message, however often it is sent. It
// is made from the key that was sent and from the text: someone who goes back to an old page and
// writes something else has written another message.
func messageKey(r *http.Request, req backendapi.ChatRequest) string {
	key := sentKey(r)
	if key == "" {
		return newKey()
	}

	all := key + "\x00" + req.ConversationID + "\x00" + req.Message
	if req.Replaces != nil {
		all += "\x00" + req.Replaces.From + "\x00" + req.Replaces.To
	}

	sum := sha256.Sum256([]byte(all))
	return hex.EncodeToString(sum[:16])
}

// resendable reports whether the page may send a refused message again.
func resendable(p *problem.Problem) bool {
	switch p.Type {
	case problem.TypeDraining, problem.TypeStarting, typeUnreachable:
		return true
	}
	return p.Status == http.StatusBadGateway || p.Status == http.StatusGatewayTimeout
}
