// Package problem is the JSON form of the services' errors: problem details of RFC 9457
// (application/problem+json).
package problem

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
)

// ContentType is the media type of a Problem.
const ContentType = "application/problem+json"

// Types that callers act on.
const (
	// TypeDraining is the type of a refusal (503) by an instance that is being stopped. It has done
	// nothing: the same request may be sent again, over a new connection, to another instance.
	TypeDraining = "/problems/draining"

	// TypeStarting is the type of a refusal (503) by an instance that is not ready yet. It
	// has done nothing either.
	TypeStarting = "/problems/starting"

	// TypeTooLong is the type of a refusal (413) of a message that alone does not
	// fit the model's context.
	TypeTooLong = "/problems/message-too-long"

	// TypeSignIn is the type of a refusal (401) of somebody who is not signed in, or not any more.
	TypeSignIn = "/problems/sign-in"

	// TypeTimeout is the type of the end (504) of an answer that took as long as one may. It is
	// final: asked for again it would take as long again.
	TypeTimeout = "/problems/answer-timeout"
)

// Problem is a problem details object. It is an error, so that a client can
// return that of its peer.
type Problem struct {
	// Type is a stable URI reference that names the kind of problem, such as
	// "/problems/queue-full".
	Type string `json:"type,omitempty"`

	// Title is a short summary of the kind; it does not change from one occurrence to the next.
	Title string `json:"title"`

	// Status is the HTTP status code.
	Status int `json:"status"`

	// Detail tells a person what happened this time and what to do.
	Detail string `json:"detail,omitempty"`

	// Errors lists the single faults of an invalid request.
	Errors []FieldError `json:"errors,omitempty"`

	// RequestID is the id of the request in the logs.
	RequestID string `json:"request_id,omitempty"`

	// QueuePosition is the place the request would have had in the queue, with status 429.
	QueuePosition int `json:"queue_position,omitempty"`

	// RetryAfter is the number of seconds after which a new request may succeed. Write also sends
	// it as the Retry-After header.
	RetryAfter int `json:"retry_after,omitempty"`

	// Header is that of the response which a peer's problem came with. Write does not send it.
	Header http.Header `json:"-"`
}

// FieldError is one fault of an invalid request.
type FieldError struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// New returns a problem with the status text as its title.
func New(status int, format string, args ...any) *Problem {
	return &Problem{
		Title:  http.StatusText(status),
		Status: status,
		Detail: fmt.Sprintf(format, args...),
	}
}

// Typed returns a problem of the kind that the type names, with the status text as its title.
func Typed(kind string, status int, format string, args ...any) *Problem {
	p := New(status, format, args...)
	p.Type = kind
	return p
}

// Draining refuses a request that has done nothing because the instance is being stopped.
func Draining(detail string) *Problem {
	p := Typed(TypeDraining, http.StatusServiceUnavailable, "%s", detail)
	p.RetryAfter = 1
	return p
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// Write sends the problem as the response, with the request's id.
func Write(w http.ResponseWriter, r *http.Request, p *Problem) {
	out := *p
	out.RequestID = logging.RequestID(r.Context())
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Cache-Control", "no-store")
	if out.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(out.RetryAfter))
	}

	w.WriteHeader(out.Status)
	_ = json.NewEncoder(w).Encode(out) // an error means that the client is gone
}
