package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/oidc"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// newClient returns the client of the stack's OpenID provider.
func newClient(cfg gateenv.Config, st *store.Store, log *slog.Logger) (*oidc.Client, error) {
	secret, err := contract.Secret("OIDC_CLIENT_SECRET_FILE", cfg.ClientSecretFile)
	if err != nil {
		return nil, err
	}

	authorities, err := contract.Authorities("OIDC_CA_FILE", cfg.ProviderCAFile)
	if err != nil {
		return nil, err
	}

	var proxy *url.URL
	if cfg.EgressURL != "" {
		if proxy, err = url.Parse(cfg.EgressURL); err != nil {
			return nil, fmt.Errorf("EGRESS_URL: %w", err)
		}
	}

	return oidc.New(oidc.Config{
		Issuer:        cfg.Issuer,
		ClientID:      cfg.ClientID,
		ClientSecret:  secret,
		PublicURL:     cfg.PublicURL,
		Scopes:        cfg.Scopes,
		GroupsClaim:   cfg.GroupsClaim,
		AllowedGroups: cfg.AllowedGroups,
		AdminGroups:   cfg.AdminGroups,
		Everybody:     cfg.Everybody,
		OtherGroups:   cfg.Groups(),
		Authorities:   authorities,
		Proxy:         proxy,
	}, st, log), nil
}

// provider are the routes of a stack in which people sign in at an OpenID provider.
type provider struct {
	site      *session.Site
	client    *oidc.Client
	starts    *account.Starts
	publicURL string
}

// register adds the routes by handle, which takes a pattern of http.ServeMux.
func (p *provider) register(handle func(pattern string, h http.Handler)) {
	for pattern, h := range map[string]http.HandlerFunc{
		"GET " + oidc.SignInPath:       p.signIn,
		"GET " + oidc.StartPath:        p.start,
		"GET " + oidc.CallbackPath:     p.callback,
		"GET " + oidc.SignedOutPath:    p.signedOut,
		"POST " + oidc.BackChannelPath: p.backChannel,
	} {
		handle(pattern, h)
	}
}

// after returns where a person goes whose session has ended.
func (p *provider) after(ctx context.Context, s *session.Session) string {
	return p.client.Leave(ctx, s.Hint)
}

// signIn shows the page from which people go to the provider. They go there by themselves: who has
// just signed out would be signed in again.
func (p *provider) signIn(w http.ResponseWriter, r *http.Request) {
	back := session.Back(r)
	if _, err := p.site.Sessions.Find(r); err == nil {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}

	// The provider sends browsers back to this address, where their cookie has to be.
	start := p.publicURL + oidc.StartPath + "?" + url.Values{"back": {back}}.Encode()
	p.site.Pages.Render(w, r, http.StatusOK, "provider", pages.Page{
		Title: "Sign in", Main: struct{ Start string }{start},
	})
}

func (p *provider) start(w http.ResponseWriter, r *http.Request) {
	wait, err := p.starts.Begin(r)
	if err != nil {
		session.Unavailable(w, r, p.site.Pages, p.site.Log, err)
		return
	}

	if wait > 0 {
		fault := problem.New(http.StatusTooManyRequests,
			"Too many people sign in at this moment. Try again in a few seconds.")
		fault.RetryAfter = int(math.Ceil(wait.Seconds()))
		p.site.Pages.Fail(w, r, fault)
		return
	}

	if fault := p.client.Start(w, r); fault != nil {
		p.site.Pages.Fail(w, r, fault)
	}
}

func (p *provider) callback(w http.ResponseWriter, r *http.Request) {
	id, begun, fault := p.client.Callback(r)
	if fault != nil {
		if begun { // the number of those is limited
			p.refused(r, id, audit.Result(fault))
		}
		p.site.Pages.Fail(w, r, fault)
		return
	}

	err := p.site.Sessions.SignIn(w, r, session.Who{
		Issuer:  id.Issuer,
		Subject: id.Subject,
		Name:    cmp.Or(id.Name, id.Subject),
		Admin:   id.Admin,
		Groups:  id.Groups,
		SID:     id.SID,
		Hint:    id.Hint,
	})
	if err == nil {
		err = p.starts.End(r)
	}

	if err != nil {
		session.Unavailable(w, r, p.site.Pages, p.site.Log, err)
		return
	}

	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, id.Back, http.StatusSeeOther)
}

// shutOutTime bounds how long it may take to end what somebody has who is let in no more.
const shutOutTime = 30 * time.Second

// refused records a sign-in that came to nothing. If it is known who it was, the person is let in no
// more: what earlier sign-ins began ends as well.
func (p *provider) refused(r *http.Request, who oidc.Identity, outcome auditlog.Outcome) {
	sessions, record := p.site.Sessions, session.Record(r, auditlog.SignIn, "")
	if who.Subject != "" {
		record.Object = sessions.ID(who.Issuer, who.Subject)
	}
	sessions.Audit.Note(r.Context(), record, outcome)
	if who.Subject == "" {
		return
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), shutOutTime)
	defer cancel()
	holds, err := sessions.Holds(ctx, who.Issuer, who.Subject)
	if err == nil && holds { // else anybody whom the provider knows could fill the audit
		err = p.end(ctx, oidc.Logout{Issuer: who.Issuer, Subject: who.Subject})
	}
	if err != nil {
		p.site.Log.ErrorContext(ctx, "sessions of somebody who is let in no more", "error", err)
	}
}

// end ends what is over at the provider, and records that.
func (p *provider) end(ctx context.Context, l oidc.Logout) error {
	sessions := p.site.Sessions
	act := sessions.Audit.BeginAnyway(ctx, sessions.EndedBy(l.Issuer, l.Subject))
	_, err := sessions.EndBy(ctx, l.Issuer, l.Subject, l.SID)
	act.End(audit.Result(err))
	return err
}

// signedOut leads to the provider. The form of the page before may not lead to another site, by the
// policy of that page; this one may.
func (p *provider) signedOut(w http.ResponseWriter, r *http.Request) {
	to := p.client.LogoutURL(r)
	if to == "" {
		http.Redirect(w, r, oidc.SignInPath, http.StatusSeeOther)
		return
	}

	w.Header().Set("Refresh", "0; url="+to)
	p.site.Pages.Render(w, r, http.StatusOK, "signed-out", pages.Page{
		Title: "Signed out", Main: struct{ LogoutURL string }{to},
	})
}

// maxLogoutToken bounds the form with a logout token.
const maxLogoutToken = 64 << 10

func (p *provider) backChannel(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogoutToken)
	if fault := p.client.BackChannel(r, p.end); fault != nil {
		p.site.Pages.Fail(w, r, fault)
		return
	}

	w.Header().Set("Cache-Control", "no-store")
}
