// Package oidc signs people in at an OpenID provider, with the authorization code flow and PKCE,
// and hears from the provider who has signed out there. It knows no sessions.
//
// No token, code or claim of a person is logged.
package oidc

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Paths of the gate. The provider knows the last three: where it sends browsers back to, where it
// tells of people who have signed out there, and where it sends those who have signed out here.
const (
	StartPath       = "/oidc/start"
	SignedOutPath   = "/oidc/signed-out"
	CallbackPath    = "/oidc/callback"
	BackChannelPath = "/oidc/back-channel"
	SignInPath      = session.SignInPath
)

const (
	// attemptLife is how long a person may take to sign in.
	attemptLife = 10 * time.Minute

	// timeout bounds each request to the provider.
	timeout = 10 * time.Second

	// refresh is how long what a provider says of itself is believed; its keys are asked for
	// whenever a token has an unknown one.
	refresh = time.Hour

	// retry is the time between two tries to reach a provider, of which each request may make one
	// beside it, a second after the last.
	retry, again = 5 * time.Second, time.Second
)

// cookieName is the name of the cookie that binds a sign-in to the browser that began it.
const cookieName = "oidc"

// Config is what is known of the provider, and whom to let in.
type Config struct {
	// Issuer is the provider's URL. Discovery finds the rest.
	Issuer string

	// ClientID names the gate at the provider; ClientSecret is empty for a public client.
	ClientID, ClientSecret string

	// PublicURL is where browsers reach the gate: scheme, host and port.
	PublicURL string

	// Scopes are asked for beside openid and profile.
	Scopes []string

	// GroupsClaim is the claim that holds a person's groups: a name, or a list of names.
	GroupsClaim string

	// AllowedGroups and AdminGroups are let in. Everybody lets in whoever the provider signs in.
	AllowedGroups, AdminGroups []string

	// OtherGroups let nobody in, but matter for what somebody may do who is.
	OtherGroups []string

	Everybody bool

	// Authorities sign the provider's certificate; nil stands for those of the system.
	Authorities *x509.CertPool

	// Proxy is the stack's egress, by which the provider is reached; nil is without one.
	Proxy *url.URL
}

// Client is the gate as the provider knows it.
type Client struct {
	cfg   Config
	store *store.Store
	log   *slog.Logger
	http  *http.Client

	known atomic.Pointer[provider]

	mu     sync.Mutex
	failed time.Time // when the provider could last not be discovered
}

// New returns a client, which asks the provider nothing yet.
func New(cfg Config, st *store.Store, log *slog.Logger) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.Authorities != nil {
		transport.TLSClientConfig.RootCAs = cfg.Authorities
	}
	if cfg.Proxy != nil {
		transport.Proxy = http.ProxyURL(cfg.Proxy)
		transport.OnProxyConnectResponse = refused
	}

	return &Client{
		cfg:   cfg,
		store: st,
		log:   log,
		http:  &http.Client{Transport: transport, Timeout: timeout},
	}
}

// refused returns what to do about an egress that does not let through to a host of the provider:
// its tokens and keys may be elsewhere than its issuer.
func refused(_ context.Context, _ *url.URL, asked *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusForbidden {
		return nil
	}
	return fmt.Errorf("the egress refuses %s: add it to codexcontinue:egress.hosts, or, where its "+
		"address is one of a private network, set codexcontinue:egress.private", asked.Host)
}

// provider is what discovery tells.
type provider struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier

	// endSession is where people sign out at the provider; empty if they cannot.
	endSession string

	// namesItself reports whether the provider says with each answer who it is (RFC 9207).
	namesItself bool
}

// Run discovers the provider, and again from time to time, until ctx is done.
func (c *Client) Run(ctx context.Context) {
	failing := false
	for {
		pause := refresh
		err := c.discover(ctx)
		if err != nil {
			pause = retry
			if !failing && ctx.Err() == nil {
				c.log.WarnContext(ctx, "OpenID provider", "error", err)
			}
		}

		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// provider returns what is known of the provider, which is asked if that is nothing.
func (c *Client) provider(ctx context.Context) (*provider, *problem.Problem) {
	if p := c.known.Load(); p != nil {
		return p, nil
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.Load() == nil && time.Since(c.failed) > again {
		if err := c.discover(context.WithoutCancel(ctx)); err != nil {
			c.failed = time.Now()
			c.log.WarnContext(ctx, "OpenID provider", "error", err)
		}
	}

	if p := c.known.Load(); p != nil {
		return p, nil
	}

	return nil, away()
}

// away is the answer while the provider cannot be reached.
func away() *problem.Problem {
	p := problem.New(http.StatusServiceUnavailable,
		"The identity provider cannot be reached at the "+
			"moment. Try again in a few seconds; those who are signed in stay so.")
	p.RetryAfter = int(retry.Seconds())
	return p
}

// discover asks the provider for what it says of itself. A failure leaves what is known.
func (c *Client) discover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, c.http), c.cfg.Issuer)
	if err != nil {
		text := err.Error() // it may hold a page
		return fmt.Errorf("discover %s: %s", c.cfg.Issuer, text[:min(len(text), 300)])
	}

	var says struct {
		Methods     []string `json:"token_endpoint_auth_methods_supported"`
		EndSession  string   `json:"end_session_endpoint"`
		NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
	}

	if err := found.Claims(&says); err != nil {
		return fmt.Errorf("discover %s: %w", c.cfg.Issuer, err)
	}

	// Tried out, the method would cost a code.
	endpoint := found.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	basic := len(says.Methods) == 0 || slices.Contains(says.Methods, "client_secret_basic")
	if c.cfg.ClientSecret == "" || !basic {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}

	c.known.Store(&provider{
		oauth: oauth2.Config{
			ClientID:     c.cfg.ClientID,
			ClientSecret: c.cfg.ClientSecret,
			Endpoint:     endpoint,
			RedirectURL:  c.cfg.PublicURL + CallbackPath,
			Scopes:       append([]string{oidc.ScopeOpenID, oidc.ScopeProfile}, c.cfg.Scopes...),
		},
		verifier: found.Verifier(&oidc.Config{
			ClientID: c.cfg.ClientID,
			Now:      func() time.Time { return time.Now().Add(-identity.Skew) },
		}),
		endSession:  says.EndSession,
		namesItself: says.NamesItself,
	})

	return nil
}

// attempt is a sign-in that has begun, as it is stored under the hash of its state.
type attempt struct {
	// Verifier proves to the provider that who redeems the code is who began. Nonce is in the
	// token that this attempt gets, and in no other.
	Verifier string `json:"verifier"`
	Nonce    string `json:"nonce"`

	// Browser is the hash of the browser's cookie.
	Browser string `json:"browser"`

	// Back is the path that the person wanted.
	Back string `json:"back"`
}

// Start sends the browser to the provider. Signed in, it comes to CallbackPath, and belongs to the
// local path that the field "back" of the address names.
func (c *Client) Start(w http.ResponseWriter, r *http.Request) *problem.Problem {
	p, fault := c.provider(r.Context())
	if fault != nil {
		return fault
	}

	browser := cmp.Or(c.browser(r), rand.Text()) // the same in each tab
	state := rand.Text()
	a := attempt{
		Verifier: oauth2.GenerateVerifier(),
		Nonce:    rand.Text(),
		Browser:  hash(browser),
		Back:     session.Back(r),
	}

	text, err := json.Marshal(a)
	if err == nil {
		err = c.store.Set(r.Context(), attemptKey(state), string(text), attemptLife)
	}

	if err != nil {
		c.log.WarnContext(r.Context(), "sign-in", "error", err)
		return storeAway()
	}

	cookie.Set(w, cookieName, browser, attemptLife, c.secure())
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, p.oauth.AuthCodeURL(state, oidc.Nonce(a.Nonce),
		oauth2.S256ChallengeOption(a.Verifier)), http.StatusSeeOther)
	return nil
}

// storeAway is the answer while Redis cannot be reached.
func storeAway() *problem.Problem {
	p := problem.New(http.StatusServiceUnavailable,
		"Nobody can sign in at the moment. Try again in a few seconds.")
	p.RetryAfter = 2
	return p
}

// secure reports whether browsers reach the gate over TLS.
func (c *Client) secure() bool { return strings.HasPrefix(c.cfg.PublicURL, "https://") }

// browser returns the value of the browser's cookie, or "" if there is none that was made here.
func (c *Client) browser(r *http.Request) string { return cookie.Get(r, cookieName, c.secure()) }

// attemptKey returns the name in Redis of the attempt with the state.
func attemptKey(state string) string { return "gate:oidc:attempt:" + hash(state) }

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
