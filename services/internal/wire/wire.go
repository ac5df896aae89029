// Package wire holds what the HTTP APIs of all services share: the headers of a request on its way
// through the stack, the response of GET /ready, and how values are written. The errors are in
// package problem.
package wire

import (
	"encoding/json"
	"net/http"
	"time"
)

// RequestIDHeader is the id of a request, through all hops and back to the browser.
const RequestIDHeader = "X-Request-Id"

// OwnerHeader names the owner of the conversations that a request is about.
const OwnerHeader = "X-Codexcontinue-Owner"

// KeyHeader is a request's idempotency key: sent again with the same key, it is done once. The
// header is that of draft-ietf-httpapi-idempotency-key-header.
const KeyHeader = "Idempotency-Key"

// QuestionHeader names the question that ml is asked, which counts once however often it is asked.
const QuestionHeader = "X-Codexcontinue-Question"

// APIKeyPrefix begins the keys of programs. No log has what follows it.
const APIKeyPrefix = "cck_"

// ReloadQuery is in the query of a page that a browser without scripts loads again by itself.
const ReloadQuery = "reload"

// RefusedHeader is the reason of a refusal that has done nothing: RefusedDraining or
// RefusedStarting. From it a proxy that does not read bodies knows that the request may be sent
// again, to another instance.
const RefusedHeader = "X-Codexcontinue-Refused"

// The values of RefusedHeader.
const (
	RefusedDraining = "draining"
	RefusedStarting = "starting"
)

// Readiness is the response of GET /ready of every service: 200 if Status is StatusReady, else 503.
type Readiness struct {
	Status string `json:"status"`

	// Checks maps each check to CheckOK or to what is wrong.
	Checks map[string]string `json:"checks"`
}

// What a Readiness says of an instance that is ready, and of a check that passes.
const (
	StatusReady = "ready"
	CheckOK     = "ok"
)

// WriteJSON sends v as the response. No cache may keep it.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}

// Milliseconds returns a duration as responses and logs have it, to the microsecond.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
