package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/browser"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/openai"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// program adds the API for programs, and the page where their keys are made.
func program(
	srv *server.Server, cfg gateenv.Config, st *store.Store, signer *identity.Signer,
	own *pages.Pages, names *pseudonym.Names, log *slog.Logger,
) {
	ml := hop.NewStreaming("ml", cfg.MLServiceURL)
	ml.Register(srv.Registry())
	ml.Sign(func(owner string) string {
		return signer.Sign(identity.Person{ID: owner}, identity.ML)
	})

	// Where nobody signs in, nobody leaves, and the person is the browser's.
	current := func(_ context.Context, owner string) (identity.Person, error) {
		return identity.Person{ID: owner}, nil
	}
	person := func(w http.ResponseWriter, r *http.Request) (identity.Person, bool) {
		return browser.Person(w, r, names), true
	}

	keys := apikey.New(st, current)
	tabs := func(identity.Person) []pages.Tab { return nil } // there is no other page
	srv.Handle(apikey.Path, browser.Loopback(own, keys.Page(own, person, tabs, log)))
	openai.Register(func(pattern string, h http.Handler) {
		srv.Handle(pattern, browser.Loopback(own, h))
	}, openai.Options{ML: ml, Keys: keys, RawCompletions: cfg.RawCompletions, Log: log})
}
