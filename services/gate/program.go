package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/openai"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/report"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// oidcKeyDays is how long a key lasts where an OpenID provider knows the people: it does not say
// who has left.
const oidcKeyDays = 90

// newKeys returns the keys of people's programs. Those of a person whose account is removed are
// revoked with it. Those of a person of a provider count for as long as the groups of the last
// sign-in are let in: a sign-in that is refused, and a sign-out that the provider tells of the whole
// person, take the groups away.
func newKeys(st *store.Store, cfg gateenv.Config) *apikey.Keys {
	days := 0
	if cfg.SignIn == gateenv.OIDC {
		days = oidcKeyDays
	}

	inside := slices.Concat(cfg.AllowedGroups, cfg.AdminGroups)
	some := cfg.SignIn == gateenv.OIDC && !cfg.Everybody
	return apikey.New(st, days, func(ctx context.Context, owner string) (identity.Person, error) {
		p := identity.Person{ID: owner}
		if !some && len(cfg.Models) == 0 && cfg.KnowledgeURL == "" {
			return p, nil // nothing depends on the groups
		}

		var err error
		p.Groups, err = st.Groups(ctx, owner)
		if err == nil && some && !slices.ContainsFunc(p.Groups, func(g string) bool {
			return slices.Contains(inside, g)
		}) {
			err = apikey.ErrGone
		}
		return p, err
	})
}

// newAPI returns what the API for programs works with. documents is the peer knowledge, or nil.
func newAPI(
	srv *server.Server, cfg gateenv.Config, who *mtls.Identity, signer *identity.Signer,
	documents *hop.Client, keys *apikey.Keys, log *slog.Logger,
) openai.Options {
	ml := hop.NewStreaming("ml", cfg.MLServiceURL)
	ml.Secure(who.Client())
	ml.Register(srv.Registry())
	ml.Sign(signer.For(identity.ML))
	o := openai.Options{ML: ml, Keys: keys, RawCompletions: cfg.RawCompletions, Log: log}
	if documents != nil {
		o.Knowledge = documents.Signing(signer.For(identity.Knowledge))
	}
	return o
}

// localTabs returns the pages of the gate's own where nobody signs in.
func localTabs(identity.Person) []pages.Tab {
	return []pages.Tab{{Path: apikey.Path, Name: "Keys"}, {Path: report.Path, Name: "Usage"}}
}

// signedIn returns the person whose session a request is of, which Manager.Require let through.
func signedIn(_ http.ResponseWriter, r *http.Request) (identity.Person, bool) {
	return session.From(r.Context()).Person(), true
}
