package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// newKey returns an idempotency key for a form.
func newKey() string { return rand.Text() }

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

	sum := sha256.Sum256([]byte(key + "\x00" + req.ConversationID + "\x00" + req.Message))
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
