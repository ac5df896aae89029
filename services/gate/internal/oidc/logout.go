package oidc

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/coreos/go-oidc/v3/oidc"
)

// logoutLife is how old a logout token may be.
const logoutLife = 10 * time.Minute

// logoutTime bounds how long the sessions of a logout token may take to end.
const logoutTime = 30 * time.Second

// maxHint is the longest ID token that is put into a URL: servers refuse long ones.
const maxHint = 4000

// Leave returns the local path where a person goes who has signed out here, with the Hint of who it
// was: SignedOutPath if the provider lets people sign out there, and SignInPath if not.
func (c *Client) Leave(ctx context.Context, hint string) string {
	if p := c.known.Load(); p == nil || p.endSession == "" {
		return SignInPath
	}
	if hint == "" {
		return SignedOutPath
	}

	// The hint tells who the person is: it is no part of an address here.
	ticket := rand.Text()
	if err := c.store.Set(ctx, leaveKey(ticket), hint, leaveLife); err != nil {
		c.log.WarnContext(ctx, "sign-out", "error", err)
		return SignedOutPath
	}

	return SignedOutPath + "?ticket=" + ticket
}

// LogoutURL returns where a person signs out at the provider, of a request to
// SignedOutPath, from where the provider sends the browser to SignInPath. It is empty if
// the provider has no such place.
func (c *Client) LogoutURL(r *http.Request) string {
	p := c.known.Load()
	if p == nil || p.endSession == "" {
		return ""
	}

	u, err := url.Parse(p.endSession)
	if err != nil {
		return ""
	}

	q := u.Query()
	q.Set("client_id", c.cfg.ClientID)
	q.Set("post_logout_redirect_uri", c.cfg.PublicURL+SignInPath)
	if ticket := r.FormValue("ticket"); cookie.Random(ticket) {
		hint, err := c.store.Take(r.Context(), leaveKey(ticket))
		if err != nil {
			c.log.WarnContext(r.Context(), "sign-out", "error", err)
		}
		if hint != "" {
			q.Set("id_token_hint", hint)
		}
	}

	u.RawQuery = q.Encode()
	return u.String()
}

// leaveLife is how long a browser may take from the end of its session to SignedOutPath.
const leaveLife = time.Minute

func leaveKey(ticket string) string { return "gate:oidc:leave:" + hash(ticket) }

// Logout is what has ended at the provider: the session SID, or all sessions of the
// Subject if SID is empty.
type Logout struct{ Issuer, Subject, SID string }

// BackChannel calls end with what has ended at the provider, of a request to BackChannelPath.
// Anybody may send one; the provider alone can sign it. One for which end failed may come again.
func (c *Client) BackChannel(
	r *http.Request, end func(context.Context, Logout) error,
) *problem.Problem {
	ctx := r.Context()
	refuse := func(why string) *problem.Problem {
		c.log.WarnContext(ctx, "back-channel logout refused", "reason", why)
		return problem.New(http.StatusBadRequest, "This is no valid logout token.")
	}

	p, fault := c.provider(ctx)
	if fault != nil {
		return fault
	}

	token, err := verified(oidc.ClientContext(ctx, c.http), r.PostFormValue("logout_token"),
		p.verifier.VerifyLogout)
	if err != nil {
		return refuse("the token " + reason(err))
	}
	if age := time.Since(token.IssuedAt); early(token.IssuedAt) || age > logoutLife+identity.Skew {
		return refuse("the token is old, of the future, or does not say of when it is")
	}

	// What the provider said holds, whether or not it waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTime)
	defer cancel()
	key := "gate:oidc:logout:" + hash(token.TokenID)
	used, err := c.store.Get(ctx, key)
	if err == nil && used != "" {
		return refuse("the token has been used")
	}

	// A token is used when its sessions have ended: to end them twice does no harm. It is
	// remembered for longer than it is good.
	if err == nil {
		err = end(ctx, Logout{c.cfg.Issuer, token.Subject, token.SessionID})
	}
	if err == nil {
		err = c.store.Set(ctx, key, "used", logoutLife+3*identity.Skew)
	}

	if err != nil {
		c.log.WarnContext(ctx, "back-channel logout", "error", err)
		return storeAway()
	}

	return nil
}
