package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Identity is somebody whom the provider has signed in, and who is let in here.
type Identity struct {
	// Issuer and Subject together are who it is.
	Issuer, Subject string

	// Name is what pages call the person; it may be empty.
	Name string

	// Admin reports whether the person is in one of the admins' groups.
	Admin bool

	// Groups are those of the person that the settings name.
	Groups []string

	// SID is the session at the provider, empty if that does not say.
	SID string

	// Hint is what Leave takes: the ID token, empty if that is too long for a URL.
	Hint string

	// Back is the local path that the person wanted.
	Back string
}

// Callback returns who has signed in, of a request to CallbackPath. begun reports whether it is the
// end of a sign-in that began here. With the fault that somebody is in no group that is let in, the
// Identity is the Issuer and the Subject, and nothing else; with any other it is empty.
func (c *Client) Callback(r *http.Request) (id Identity, begun bool, fault *problem.Problem) {
	a, fault := c.take(r, r.URL.Query().Get("state"))
	if fault != nil {
		return Identity{}, false, fault
	}

	id, fault = c.finish(r, a)
	return id, true, fault
}

// finish returns who has signed in, of the last request of an attempt.
func (c *Client) finish(r *http.Request, a attempt) (Identity, *problem.Problem) {
	ctx, q := r.Context(), r.URL.Query()
	p, fault := c.provider(ctx)
	if fault != nil {
		return Identity{}, fault
	}

	// An answer of another provider must not be taken for one of this (mix-up, RFC 9207).
	if iss := q.Get("iss"); q.Has("iss") && iss != c.cfg.Issuer || p.namesItself && iss == "" {
		c.refused(ctx, "the answer is not the provider's")
		return Identity{}, invalid()
	}

	if q.Has("error") {
		c.refused(ctx, "the provider refused: "+code(q.Get("error")))
		return Identity{}, problem.New(http.StatusForbidden,
			"The identity provider did not sign you in. Begin again, or ask who runs it.")
	}

	if q.Get("code") == "" {
		return Identity{}, invalid()
	}

	raw, fault := c.redeem(ctx, p, q.Get("code"), a.Verifier)
	if fault != nil {
		return Identity{}, fault
	}

	token, err := verified(oidc.ClientContext(ctx, c.http), raw, p.verifier.Verify)
	if err != nil {
		c.refused(ctx, "the ID token "+reason(err))
		return Identity{}, untrusted()
	}

	id, err := c.identity(token, a)
	switch {
	case errors.Is(err, errOutside):
		c.refused(ctx, err.Error())
		outside := Identity{Issuer: c.cfg.Issuer, Subject: token.Subject}
		return outside, problem.New(http.StatusForbidden, "You are signed in at the identity "+
			"provider, but in no group that is let in here. Ask who runs this site.")
	case err != nil:
		c.refused(ctx, err.Error())
		return Identity{}, untrusted()
	}

	id.Back = a.Back
	if len(raw) <= maxHint {
		id.Hint = raw
	}

	return id, nil
}

// fetched is how long the verifier may take to store the keys that it has handed out.
const fetched = 100 * time.Millisecond

// verified returns what verify makes of the raw token. It asks a second time if no key fits the
// signature: the verifier gives a token the keys that it fetched for another, and those may be of
// before the provider had a new one.
func verified[T any](
	ctx context.Context, raw string, verify func(context.Context, string) (T, error),
) (T, error) {
	token, err := verify(ctx, raw)
	if err == nil || !strings.Contains(err.Error(), "failed to verify id token signature") {
		return token, err
	}

	select {
	case <-ctx.Done():
		return token, err
	case <-time.After(fetched):
	}

	return verify(ctx, raw)
}

// take returns the attempt with the state, which nobody else gets then. It must
// be the browser's own.
func (c *Client) take(r *http.Request, state string) (attempt, *problem.Problem) {
	var a attempt
	if !cookie.Random(state) {
		return a, invalid()
	}

	text, err := c.store.Take(r.Context(), attemptKey(state))
	if err != nil {
		c.log.WarnContext(r.Context(), "sign-in", "error", err)
		return a, storeAway()
	}

	browser := c.browser(r)
	if text == "" || json.Unmarshal([]byte(text), &a) != nil || browser == "" ||
		subtle.ConstantTimeCompare([]byte(hash(browser)), []byte(a.Browser)) != 1 {
		c.refused(r.Context(), "the state is unknown, used, or another browser's")
		return a, invalid()
	}

	return a, nil
}

// redeem returns the ID token that the provider gives for a code.
func (c *Client) redeem(
	ctx context.Context, p *provider, once, verifier string,
) (string, *problem.Problem) {
	tokens, err := p.oauth.Exchange(oidc.ClientContext(ctx, c.http), once,
		oauth2.VerifierOption(verifier))
	var refusal *oauth2.RetrieveError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode == "invalid_grant":
		c.refused(ctx, "the provider does not take the code")
		return "", invalid()
	case errors.As(err, &refusal) && final(refusal.Response.StatusCode):
		c.refused(ctx, "the provider does not redeem codes: "+code(refusal.ErrorCode))
		return "", problem.New(http.StatusBadGateway, "The identity provider does not know this "+
			"site, or its secret. Who runs it finds more in the logs.")
	case errors.As(err, &refusal):
		c.refused(ctx, "the provider answers "+refusal.Response.Status)
		return "", away()
	case err != nil:
		c.log.WarnContext(ctx, "OpenID provider", "error", redacted(err))
		return "", away()
	}

	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" {
		c.refused(ctx, "the provider gave no ID token")
		return "", untrusted()
	}

	return raw, nil
}

// final reports whether a provider that answers with the status will not answer otherwise soon.
func final(status int) bool {
	return status < 500 && status != http.StatusRequestTimeout &&
		status != http.StatusTooManyRequests
}

// redacted returns what happened to a request, without what was received.
func redacted(err error) string {
	if text := err.Error(); strings.HasPrefix(text, "Post ") {
		return text
	}
	return "the answer to a code is none"
}

// errClaims reports claims that cannot be read.
var errClaims = errors.New("the ID token has claims of another kind than they should be")

// identity returns who a verified token names.
func (c *Client) identity(token *oidc.IDToken, a attempt) (Identity, error) {
	var all claims
	if err := token.Claims(&all); err != nil {
		return Identity{}, errClaims
	}

	switch {
	case subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(a.Nonce)) != 1:
		return Identity{}, errors.New("the ID token is another sign-in's")
	case all.AuthorizedParty != "" && all.AuthorizedParty != c.cfg.ClientID:
		return Identity{}, errors.New("the ID token is another client's")
	case early(token.IssuedAt):
		return Identity{}, errors.New("the ID token is of the future: set the clocks")
	case token.Subject == "" || len(token.Subject) > maxSubject:
		return Identity{}, errors.New("the ID token names nobody")
	}

	var more map[string]json.RawMessage
	if err := token.Claims(&more); err != nil {
		return Identity{}, errClaims
	}

	groups, err := c.groups(more)
	if err != nil {
		return Identity{}, err
	}

	return Identity{
		Issuer:  c.cfg.Issuer,
		Subject: token.Subject,
		Name:    all.called(),
		Admin:   overlap(groups, c.cfg.AdminGroups),
		Groups:  groups,
		SID:     all.SID,
	}, nil
}

// early reports whether the time is later than clocks that are apart explain.
func early(t time.Time) bool { return t.After(time.Now().Add(identity.Skew)) }

// refused logs why somebody was not signed in.
func (c *Client) refused(ctx context.Context, why string) {
	c.log.WarnContext(ctx, "sign-in refused", "reason", why)
}

// invalid refuses what is no sign-in that began here, or one that is over.
func invalid() *problem.Problem {
	return problem.New(http.StatusBadRequest, "This sign-in began elsewhere, too long ago, or has "+
		"been used. Begin again.")
}

// untrusted refuses what the provider said.
func untrusted() *problem.Problem {
	return problem.New(http.StatusBadGateway, "What the identity provider said cannot be used. "+
		"Who runs this site finds more in the logs.")
}

// errorCode matches the error codes of OAuth 2.0.
var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// code returns an error code that can be logged.
func code(text string) string {
	if errorCode.MatchString(text) {
		return text
	}
	return "for no known reason"
}

// reason returns why a token is not valid, without what it says.
func reason(err error) string {
	var expired *oidc.TokenExpiredError
	text := err.Error()
	switch {
	case errors.As(err, &expired):
		return "has expired"
	case strings.Contains(text, "fetching keys"):
		return "cannot be checked: the provider does not give its keys"
	case strings.Contains(text, "different provider"):
		return "is another issuer's"
	case strings.Contains(text, "audience"):
		return "is for another client"
	case strings.Contains(text, "signature"), strings.Contains(text, "malformed jwt"):
		return "has no valid signature"
	}

	return "is not valid"
}
