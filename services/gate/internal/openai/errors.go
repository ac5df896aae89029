package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// Fault is an error in the form in which OpenAI's clients read one. It is an error.
type Fault struct {
	Status     int `json:"-"`
	RetryAfter int `json:"-"` // in seconds; 0 says nothing

	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`

	// limits has the headers of the limits, if ml sent some.
	limits http.Header

	// cause is what the log is told instead, if it is not nil.
	cause error
}

// The types of faults.
const (
	typeRequest = "invalid_request_error"
	typeLimit   = "requests"
	typeQuota   = "insufficient_quota"
	typeServer  = "server_error"
)

// Error implements error.
func (f *Fault) Error() string { return f.Message }

// fault returns a fault of the request. Empty texts are null.
func fault(status int, param, code, format string, args ...any) *Fault {
	return &Fault{
		Status:  status,
		Message: fmt.Sprintf(format, args...),
		Type:    typeRequest,
		Param:   orNull(param),
		Code:    orNull(code),
	}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// refused returns the fault of a parameter that has a value that is not taken.
func refused(param, format string, args ...any) *Fault {
	return fault(http.StatusBadRequest, param, "unsupported_value", format, args...)
}

// invalid returns the fault of a parameter whose value cannot be.
func invalid(param, format string, args ...any) *Fault {
	return fault(http.StatusBadRequest, param, "invalid_value", format, args...)
}

// tooLarge returns the fault of a body that is longer than it may be.
func tooLarge() *Fault {
	return fault(http.StatusRequestEntityTooLarge, "", "request_too_large",
		"The request is larger than %d MB.", maxBody>>20)
}

// params are the parameters that become options of ml.
var params = map[string]string{
	"temperature":       "temperature",
	"top_p":             "top_p",
	"presence_penalty":  "presence_penalty",
	"frequency_penalty": "frequency_penalty",
	"num_predict":       "max_tokens",
	"seed":              "seed",
	"stop":              "stop",
}

// asFault returns the fault that an error of ml is to the client. prompt names the parameter with
// the prompt.
func asFault(err error, prompt string) *Fault {
	var f *Fault
	var p *problem.Problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &large):
		return tooLarge()
	case !errors.As(err, &p):
		return &Fault{
			Status: http.StatusBadGateway, Type: typeServer, RetryAfter: 5,
			Message: "The model cannot be reached at the moment. Try again in a few seconds.",
		}
	}

	switch {
	case p.Type == problem.TypeTooLong:
		return fault(http.StatusBadRequest, prompt, "context_length_exceeded", "%s", p.Detail)
	case p.Status == http.StatusRequestEntityTooLarge:
		return tooLarge()
	case p.Type == mlapi.TypeNoModel:
		return fault(http.StatusNotFound, "model", "model_not_found", "%s", p.Detail)
	case p.Type == mlapi.TypeModelRefused:
		return fault(http.StatusForbidden, "model", "model_not_found", "%s", p.Detail)
	case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden:
		// What ml knows of the gate's keys is late. The client's own was good.
		return &Fault{
			Status: http.StatusServiceUnavailable, Type: typeServer, RetryAfter: 2, cause: p,
			Message: "The model cannot be asked at the moment. Try again in a few seconds.",
		}
	case p.Type == mlapi.TypeDayLimit:
		f = fault(p.Status, "", "insufficient_quota", "%s", p.Detail)
		f.Type = typeQuota
	case p.Status == http.StatusTooManyRequests:
		f = fault(p.Status, "", "rate_limit_exceeded", "%s", p.Detail)
		f.Type = typeLimit
	case p.Status >= 500:
		f = fault(p.Status, "", "", "%s", p.Detail)
		f.Type = typeServer
	case len(p.Errors) > 0:
		e := p.Errors[0]
		name := strings.TrimPrefix(e.Location, "body.")
		if option, ok := strings.CutPrefix(name, "options."); ok {
			name = params[option]
		}
		f = invalid(name, "%s: %s.", name, e.Message)
	default:
		f = fault(http.StatusBadRequest, "", "", "%s", p.Detail)
	}

	f.RetryAfter, f.limits = p.RetryAfter, p.Header
	return f
}

// Unavailable answers a request to the API while it is closed, with the code and message of why, and
// when it may be sent again, in seconds.
func Unavailable(w http.ResponseWriter, code, message string, retryAfter int) {
	f := fault(http.StatusServiceUnavailable, "", code, "%s", message)
	f.Type, f.RetryAfter = typeServer, retryAfter
	f.write(w)
}

// write sends the fault as the response.
func (f *Fault) write(w http.ResponseWriter) {
	h := w.Header()
	showLimits(h, f.limits)
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}

	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(faulty{f}) // an error means that the client is gone
}

// faulty is what holds a fault, in a response and in a stream.
type faulty struct {
	Error *Fault `json:"error"`
}
