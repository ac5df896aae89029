// Package openai is the API for people's programs, in the form of OpenAI's: /v1/chat/completions,
// /v1/completions, /v1/embeddings and /v1/models. docs/api.md says what becomes of each field of a
// request. It asks ml, in the name of the key's owner, and stores nothing of what is written.
package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/share"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"golang.org/x/sync/semaphore"
)

// maxBody bounds a request in bytes: a program sends a long conversation anew with each question.
// The edge has the same bound for /v1, and ml for what it gets.
const maxBody = 8 << 20

// maxBodies bounds the requests that are held at once, in bytes: each takes several times its size
// while it is read.
const maxBodies = 64 << 20

// maxOwnBodies bounds those of one owner's programs.
const maxOwnBodies = 3 * maxBody

// Options are what the API works with.
type Options struct {
	// ML signs what it sends for the owner that wire.OwnerHeader names, with identity.ML as audience.
	ML   *hop.Client
	Keys *apikey.Keys

	// Knowledge has the documents; nil is without any. It signs as ML does, with
	// identity.Knowledge as audience.
	Knowledge *hop.Client

	// Audit records whose programs ask.
	Audit *audit.Recorder

	// RawCompletions lets prompts through to which neither the model's template nor its SYSTEM prompt
	// is added.
	RawCompletions bool
	Log            *slog.Logger
}

// service is the API at work.
type service struct {
	Options
	bodies *semaphore.Weighted
	owners *share.Shares // of the bodies
}

func newService(o Options) *service {
	return &service{o, semaphore.NewWeighted(maxBodies), share.New(maxOwnBodies)}
}

// Register adds the routes, each with handle: patterns of http.ServeMux.
func Register(handle func(pattern string, h http.Handler), o Options) {
	s := newService(o)
	for pattern, route := range map[string]struct {
		scope  apikey.Scope
		handle handler
	}{
		"POST /v1/chat/completions": {apikey.Chat, s.chat},
		"POST /v1/completions":      {apikey.Completions, s.complete},
		"POST /v1/embeddings":       {apikey.Embeddings, s.embed},
		"GET /v1/models":            {apikey.Models, s.models},
		"GET /v1/models/{id...}":    {apikey.Models, s.model},
		"/v1/":                      {"", nowhere},
	} {
		handle(pattern, s.admit(route.scope, route.handle))
	}
}

// handler answers a request of an owner's program. It answers with the error that it returns, if
// nothing was written.
type handler = func(w http.ResponseWriter, r *http.Request, owner string) error

// nowhere answers what is no route of the API.
func nowhere(_ http.ResponseWriter, r *http.Request, _ string) error {
	return fault(http.StatusNotFound, "", "unknown_url", "There is no %s %s here. There are POST "+
		"/v1/chat/completions, /v1/completions, /v1/embeddings, and GET /v1/models.", r.Method,
		r.URL.Path)
}

// admit returns a handler that lets through requests with a key of the scope, which each key has if
// it is empty.
func (s *service) admit(scope apikey.Scope, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := s.person(r, scope)
		if err == nil {
			r = r.WithContext(identity.NewContext(r.Context(), p))
			err = s.bounded(w, r, p.ID, h)
		}
		if err == nil || r.Context().Err() != nil {
			return // it is answered, or nobody reads the answer
		}

		f := asFault(err, "")
		if f.Status >= http.StatusInternalServerError {
			s.Log.WarnContext(r.Context(), "api", "error", cmp.Or(f.cause, err))
		}
		f.write(w)
	})
}

// bounded calls h if there is room for the request's body. One of unknown length may be the
// largest.
func (s *service) bounded(w http.ResponseWriter, r *http.Request, owner string, h handler) error {
	size := r.ContentLength
	if size < 0 || size > maxBody {
		size = maxBody
	}

	leave, ok := s.owners.Take(owner, size)
	if !ok {
		return full("Your requests of %d MB", maxOwnBodies)
	}
	defer leave()
	if !s.bodies.TryAcquire(size) {
		return full("Requests of %d MB", maxBodies)
	}
	defer s.bodies.Release(size)

	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return h(w, r, owner)
}

// full returns the fault of a request beyond those that are held at once, of so many bytes.
func full(which string, bytes int) *Fault {
	f := fault(http.StatusTooManyRequests, "", "rate_limit_exceeded",
		which+" are being answered already. Try again in a few seconds.", bytes>>20)
	f.Type, f.RetryAfter = typeLimit, 5
	return f
}

// person returns whose program asks.
func (s *service) person(r *http.Request, scope apikey.Scope) (identity.Person, error) {
	// A URL is in the logs of whatever stands before this service, and in histories.
	if q := r.URL.Query(); strings.Contains(r.URL.String(), wire.APIKeyPrefix) ||
		q.Has("api_key") || q.Has("key") || q.Has("access_token") {
		return identity.Person{}, fault(http.StatusBadRequest, "", "key_in_url",
			"A key in a URL ends up in logs: send it in the header Authorization, as \"Bearer KEY\", "+
				"and revoke this one.")
	}

	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		secret = ""
	}

	p, err := s.Keys.Check(r.Context(), strings.TrimSpace(secret), scope)
	if refusal, ok := errors.AsType[*apikey.Refusal](err); ok {
		s.refuse(r, refusal)
	}
	switch {
	case errors.Is(err, apikey.ErrInvalid):
		return p, fault(http.StatusUnauthorized, "", "invalid_api_key", "The key in the header "+
			"Authorization is missing, wrong, expired or revoked, or its owner has to sign in again. "+
			"Keys are made at %s.", apikey.Path)
	case errors.Is(err, apikey.ErrScope):
		return p, fault(http.StatusForbidden, "", "insufficient_permissions",
			"The key is not good for %s. Make one that is at %s.", scope, apikey.Path)
	case err != nil:
		s.Log.WarnContext(r.Context(), "api: the key", "error", err)
		return p, &Fault{
			Status: http.StatusServiceUnavailable, Type: typeServer, RetryAfter: 5,
			Message: "Keys cannot be checked at the moment. Try again in a few seconds.",
		}
	}

	return p, nil
}

// decode reads the request's body. Fields that it does not know are left alone.
func decode(r *http.Request, rules rules, into any) error {
	body, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return tooLarge()
	case err != nil:
		return fault(http.StatusBadRequest, "", "", "The request's body could not be read.")
	}

	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return fault(http.StatusBadRequest, "", "", "The request's body is not the JSON object expected.")
	}
	if err := rules.check(fields); err != nil {
		return err
	}

	var wrong *json.UnmarshalTypeError
	var f *Fault
	switch err := json.Unmarshal(body, into); {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.As(err, &wrong):
		field := strings.TrimPrefix(wrong.Field, "sampling.")
		return fault(http.StatusBadRequest, field, "invalid_type",
			"%s cannot be a %s.", field, wrong.Value)
	}

	return fault(http.StatusBadRequest, "", "", "The request's body is not the JSON object expected.")
}

// forOwner returns the header that says whose request it is.
func forOwner(owner string) http.Header { return http.Header{wire.OwnerHeader: {owner}} }

// asked returns the header of a request that is part of a question: all of them count as one.
func asked(owner, question string) http.Header {
	h := forOwner(owner)
	h.Set(wire.QuestionHeader, question)
	return h
}

// limits are the headers by which ml says how much of the person's day is left. Clients know them
// by the names that they have in OpenAI's answers.
var limits = []string{
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
}

// showLimits passes on what ml says of the limits.
func showLimits(to, from http.Header) {
	for _, name := range limits {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
}

// list returns the models that can be chosen.
func (s *service) list(ctx context.Context, owner string) ([]model, error) {
	var m mlapi.Models
	err := s.ML.JSON(ctx, http.MethodGet, "/models", nil, &m, forOwner(owner))
	if err != nil {
		return nil, err
	}

	out := make([]model, len(m.Models))
	for i, x := range m.Models {
		out[i] = model{x.Name, "model", max(0, x.Modified.Unix()), "codexcontinue"}
	}

	return out, nil
}

// model is a model that can be chosen.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (s *service) models(w http.ResponseWriter, r *http.Request, owner string) error {
	all, err := s.list(r.Context(), owner)
	if err == nil {
		wire.WriteJSON(w, http.StatusOK, list[model]{"list", all})
	}
	return err
}

// list is a list of objects.
type list[T any] struct {
	Object string `json:"object"`
	Data   []T    `json:"data"`
}

func (s *service) model(w http.ResponseWriter, r *http.Request, owner string) error {
	all, err := s.list(r.Context(), owner)
	if err != nil {
		return err
	}

	id := strings.TrimSuffix(r.PathValue("id"), ":latest")
	for _, m := range all {
		if m.ID == id {
			wire.WriteJSON(w, http.StatusOK, m)
			return nil
		}
	}

	return fault(http.StatusNotFound, "model", "model_not_found", "There is no model %q.", id)
}
