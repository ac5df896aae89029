// Package api is the backend's REST API over HTTP: what services/internal/backendapi documents.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/share"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// API answers requests.
type API struct {
	Options
	huma huma.API

	// searches has a place for each search that goes on, of which each owner has a share.
	searches  chan struct{}
	searchers *share.Shares
}

// Options are what the API works with.
type Options struct {
	Store *store.Store
	Jobs  *generation.Manager

	// Audit records who asks, stops, deletes and exports.
	Audit *audit.Recorder

	// ML is the model service, DefaultModel the model that answers when none is named.
	ML           *hop.Client
	DefaultModel string
	Log          *slog.Logger

	// Ratings reports whether people rate answers.
	Ratings bool

	// Knowledge has the documents; nil is without any.
	Knowledge *hop.Client

	// Owner returns the owner for whom a token was signed; the error is one of identity's.
	Owner func(ctx context.Context, token string) (string, error)

	// Draining reports whether the instance is being stopped.
	Draining func() bool
}

// Mux takes the routes. It is what a server.Server offers.
type Mux interface {
	HandleFunc(pattern string, handler http.HandlerFunc)
}

// routes makes a Mux what humago wants, which also asks for a ServeHTTP that it never calls.
type routes struct {
	Mux
	http.Handler
}

func (r routes) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	r.Mux.HandleFunc(pattern, handler)
}

// Register adds the API's routes and GET /openapi.json to the mux.
func Register(mux Mux, o Options) error {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	// huma makes its own error model for what it refuses itself, and lets it be replaced only for
	// the whole process (huma.NewError). Here it becomes a problem on its way out, in the
	// transformer below, and in the schema through this alias: both belong to this API alone.
	registry.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](),
		reflect.TypeFor[problem.Problem]())
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "CodexContinue backend", Version: "1", Description: description,
			},
			Components: &huma.Components{Schemas: registry},
		},
		Formats: map[string]huma.Format{
			"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat,
		},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{errorModelToProblem},
		// No docs page (it would load scripts from elsewhere) and no $schema links: OpenAPIPath,
		// DocsPath and SchemasPath stay empty.
	}

	a := &API{
		Options: o, huma: humago.New(routes{Mux: mux}, config),
		searches: make(chan struct{}, maxSearches), searchers: share.New(maxOwnSearches),
	}
	a.huma.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		ctx.SetHeader("Cache-Control", "no-store")
		next(ctx)
	})

	a.chatRoutes()
	a.conversationRoutes()
	a.learningRoutes()
	a.passageRoute()
	a.statusRoutes()
	// The data of events, which no response has as its body.
	for _, t := range []reflect.Type{
		reflect.TypeFor[backendapi.Start](), reflect.TypeFor[backendapi.Queue](),
		reflect.TypeFor[backendapi.History](), reflect.TypeFor[backendapi.Sources](),
		reflect.TypeFor[backendapi.Delta](),
		reflect.TypeFor[mlapi.Done](),
	} {
		registry.Schema(t, true, "")
	}

	spec, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		return fmt.Errorf("openapi: %w", err)
	}

	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(spec) // the client is gone: nothing left to tell
	})

	return nil
}

const description = `Chats with the models of the stack.

An answer is a job: a reader that goes away does not cancel it, and one that comes back resumes with Last-Event-ID.
Errors are problem details (RFC 9457). Conversations and answers belong to the owner that the header
X-Codexcontinue-Owner names, "public" without it; those of other owners do not exist for a request.`

// Owned is a request on behalf of an owner. It is exported because huma leaves out embedded
// structs that are not.
type Owned struct {
	Owner ownerName `header:"X-Codexcontinue-Owner" default:"public"`
}

func (o Owned) owner() string { return string(o.Owner) }

// ownerName names an owner. In the names of Redis's keys it stands between colons and braces.
type ownerName string

// Schema implements huma.SchemaProvider.
func (ownerName) Schema(huma.Registry) *huma.Schema {
	return textSchema(0, 128, "^[A-Za-z0-9._~@=+/-]+$", "Whose conversations the request is about")
}

// textSchema returns the schema of a text with a length from least, 0 for any, to most characters.
func textSchema(least, most int, pattern, description string) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeString, MaxLength: &most, Pattern: pattern, Description: description,
	}
	if least > 0 {
		s.MinLength = &least
	}
	return s
}

// operation returns the operation of a route, which is a method and a path.
func operation(id, route, tag, summary string) huma.Operation {
	method, path, _ := strings.Cut(route, " ")
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{tag}, Summary: summary,
	}
}
