package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// newKey returns an idempotency key for a form.
func newKey() string { return rand.Text() }

// messageKey returns the key under which the backend knows a message, however often it is sent. It
// is made from the text and from the form's key, or that of the header, which the edge sets for a
// browser without scripts. Someone who goes back to an old page and writes something else has
// written another message.
func messageKey(r *http.Request, req backendapi.ChatRequest) string {
	key := r.PostForm.Get("key")
	if key == "" {
		key = r.Header.Get(backendapi.KeyHeader)
	}
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
