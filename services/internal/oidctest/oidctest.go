// Package oidctest is an OpenID provider on the loopback address, for tests: zitadel's server, with
// people in memory, who sign in by going there. What it says can be changed.
package oidctest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The client that the provider knows.
const (
	ClientID = "codexcontinue"
	Secret   = "correct horse battery staple"
)

// Person is somebody whom the provider knows.
type Person struct {
	Subject, Name string

	// Claims are further ones of the ID token.
	Claims map[string]any
}

// Provider is an OpenID provider.
type Provider struct {
	Issuer string

	mu     sync.Mutex
	site   string
	person Person
	key    *key
	says   map[string]any
	alter  func(claims map[string]any) string
	down   bool
	busy   int
	visits []string
}

// Start starts a provider until the test ends. Nobody signs in before SignIn is called.
func Start(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{}
	p.Rotate(t)

	server := httptest.NewUnstartedServer(nil)
	p.Issuer = "http://" + server.Listener.Addr().String()
	users := &people{p}
	client := storage.WebClient(ClientID, Secret, "http://unused.example")
	data := &data{p: p, Storage: storage.NewStorageWithClients(users,
		map[string]*storage.Client{ClientID: client})}

	handler, err := op.NewProvider(&op.Config{CodeMethodS256: true, AuthMethodPost: true}, data,
		op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("GET /login/username", op.NewIssuerInterceptor(p.issuer).HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			id := r.FormValue("authRequestID")
			if err := data.CheckUsernamePassword(p.now().Subject, password, id); err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}

			http.Redirect(w, r, op.AuthCallbackURL(handler)(r.Context(), id), http.StatusFound)
		}))

	server.Config.Handler = p.around(mux)
	server.Start()
	t.Cleanup(server.Close)
	return p
}

// Register tells the provider where the client is.
func (p *Provider) Register(publicURL string) { p.set(func() { p.site = publicURL }) }

// SignIn makes the person the one who signs in.
func (p *Provider) SignIn(who Person) { p.set(func() { p.person = who }) }

// Say changes what discovery tells.
func (p *Provider) Say(says map[string]any) { p.set(func() { p.says = says }) }

// Alter makes what the function returns of an ID token's claims the token; nil ends that.
func (p *Provider) Alter(alter func(claims map[string]any) string) {
	p.set(func() { p.alter = alter })
}

// Down makes the provider break every connection, until it is up again.
func (p *Provider) Down(down bool) { p.set(func() { p.down = down }) }

// Busy makes the provider answer with the status where codes are redeemed; 0 ends that.
func (p *Provider) Busy(status int) { p.set(func() { p.busy = status }) }

// Rotate replaces the key that signs. The former one is forgotten.
func (p *Provider) Rotate(t testing.TB) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.key = &key{id: rand.Text(), private: private} })
}

// Visits returns the paths that were asked for, and forgets them.
func (p *Provider) Visits() (visits []string) {
	p.set(func() { visits, p.visits = p.visits, nil })
	return visits
}

// Sign returns a token with the claims, signed by the provider's key.
func (p *Provider) Sign(claims map[string]any) string {
	k := p.signing()
	return SignWith(jose.ES256, k.private, k.id, claims)
}

// SignWith returns a token with the claims, signed by any key.
func SignWith(
	algorithm jose.SignatureAlgorithm, private any, id string, claims map[string]any,
) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm,
		Key: jose.JSONWebKey{Key: private, KeyID: id}}, nil)
	if err != nil {
		panic(err)
	}

	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}

	signed, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}

	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}

	return token
}

// LogoutToken returns the claims of a back-channel logout token that is valid now.
func (p *Provider) LogoutToken(subject, sid string) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": p.Issuer, "aud": ClientID, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"events": map[string]any{
			"http://schemas.openid.net/event/backchannel-logout": map[string]any{},
		},
	}

	for name, value := range map[string]string{"sub": subject, "sid": sid} {
		if value != "" {
			claims[name] = value
		}
	}

	return claims
}

func (p *Provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *Provider) now() (who Person) {
	p.set(func() { who = p.person })
	return who
}

func (p *Provider) signing() (k *key) {
	p.set(func() { k = p.key })
	return k
}

func (p *Provider) issuer(*http.Request) string { return p.Issuer }

// around changes what the provider answers.
func (p *Provider) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var says map[string]any
		var alter func(map[string]any) string
		var down bool
		var busy int
		p.set(func() {
			says, alter, down, busy = p.says, p.alter, p.down, p.busy
			p.visits = append(p.visits, r.URL.Path)
		})

		if down {
			panic(http.ErrAbortHandler)
		}

		if busy != 0 && r.URL.Path == "/oauth/token" {
			w.WriteHeader(busy)
			return
		}

		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		switch {
		case r.URL.Path == "/.well-known/openid-configuration":
			body = edit(body, func(all map[string]any) { maps.Copy(all, says) })
		case r.URL.Path == "/oauth/token" && alter != nil && answer.Code == http.StatusOK:
			body = edit(body, func(all map[string]any) {
				all["id_token"] = alter(claimsOf(all["id_token"].(string)))
			})
		}

		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	})
}

// edit changes a JSON object.
func edit(body []byte, change func(map[string]any)) []byte {
	var all map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		panic(err)
	}

	change(all)
	out, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}

	return out
}

// claimsOf returns the claims of a token.
func claimsOf(token string) map[string]any {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		panic(err)
	}

	var claims map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		panic(err)
	}

	return claims
}

// key is a key that signs; its public half is an op.Key.
type key struct {
	id      string
	private *ecdsa.PrivateKey
	public  bool
}

func (k *key) ID() string                                  { return k.id }
func (k *key) Use() string                                 { return "sig" }
func (k *key) Algorithm() jose.SignatureAlgorithm          { return jose.ES256 }
func (k *key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }

func (k *key) Key() any {
	if k.public {
		return &k.private.PublicKey
	}
	return k.private
}

// password is everybody's.
const password = "password"

// people are the storage's users: the one who signs in now.
type people struct{ p *Provider }

func (u *people) GetUserByID(id string) *storage.User { return u.GetUserByUsername(id) }

func (u *people) GetUserByUsername(name string) *storage.User {
	if who := u.p.now(); name == "" || name != who.Subject {
		return nil
	}
	return &storage.User{ID: name, Username: name, Password: password}
}

func (u *people) ExampleClientID() string { return "unused" }

// data is the storage with the test's client, keys and people.
type data struct {
	*storage.Storage
	p *Provider
}

func (d *data) SigningKey(context.Context) (op.SigningKey, error) { return d.p.signing(), nil }

func (d *data) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (d *data) KeySet(context.Context) ([]op.Key, error) {
	k := *d.p.signing()
	k.public = true
	return []op.Key{&k}, nil
}

func (d *data) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := d.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}

	var site string
	d.p.set(func() { site = d.p.site })
	return &client{c, site}, nil
}

func (d *data) SetUserinfoFromRequest(
	_ context.Context, info *oidc.UserInfo, token op.IDTokenRequest, _ []string,
) error {
	who := d.p.now()
	info.Subject, info.Name = token.GetSubject(), who.Name
	for name, value := range who.Claims {
		info.AppendClaims(name, value)
	}
	return nil
}

// client is the one at the site.
type client struct {
	op.Client
	site string
}

func (c *client) RedirectURIs() []string {
	return []string{c.site + "/oidc/callback"}
}
func (c *client) PostLogoutRedirectURIs() []string     { return []string{c.site + "/sign-in"} }
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return true }
