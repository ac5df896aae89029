package stacks

import (
	"errors"
	"fmt"
	"net/netip"
	neturl "net/url"
	"path"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// OIDCSecret is the secret by which an OpenID provider knows the stack.
const OIDCSecret = "oidc-client-secret"

// oidcCA is where the gate finds the authority of the provider's certificate.
const oidcCA = "/etc/oidc-ca/ca.pem"

// defaultGroupsClaim is the claim with a person's groups unless the settings name another.
const defaultGroupsClaim = "groups"

// signInForms are the forms of the setting.
const signInForms = "none, {accounts: true} or {oidc: {issuer: ..., clientID: ...}}"

func (s *Settings) decodeSignIn(v string) error {
	s.SignIn = &SignInSettings{}
	if v == gateenv.None {
		return nil
	}
	if !strings.HasPrefix(v, "{") {
		return fmt.Errorf("%q is none of %s", v, signInForms)
	}

	accounts := new(bool)
	err := object(fields{"accounts": boolean(&accounts), "oidc": s.SignIn.decodeOIDC})(v)
	s.SignIn.Accounts = *accounts
	if err == nil && s.SignIn.Accounts == (s.SignIn.OIDC != nil) {
		err = errors.New("set exactly one of " + signInForms)
	}

	return err
}

func (s *SignInSettings) decodeOIDC(v string) error {
	o := &OIDCSettings{GroupsClaim: defaultGroupsClaim}
	s.OIDC = o
	everybody := new(bool)
	err := object(fields{
		"issuer":        text(&o.Issuer),
		"clientID":      text(&o.ClientID),
		"url":           text(&o.URL),
		"scopes":        list(appendText(&o.Scopes)),
		"groupsClaim":   text(&o.GroupsClaim),
		"allowedGroups": list(appendText(&o.AllowedGroups)),
		"adminGroups":   list(appendText(&o.AdminGroups)),
		"everybody":     boolean(&everybody),
		"ca":            text(&o.CA),
		"clientSecret": func(string) error {
			return fmt.Errorf("is a secret: set it with `pulumi config set --secret %s:%s`, and "+
				"remove it here", Project, OIDCSecretKey)
		},
	})(v)

	o.Everybody = *everybody
	if err != nil {
		return err
	}

	errs := []error{checkCA(o.CA)}
	if err := gateenv.CheckIssuer(o.Issuer); err != nil {
		errs = append(errs, prefixed("issuer", err))
	}

	if o.ClientID == "" {
		errs = append(errs, prefixed("clientID",
			errors.New("is not set: register the stack with the provider, which names it")))
	}

	if o.URL != "" {
		if err := gateenv.CheckPublicURL(o.URL); err != nil {
			errs = append(errs, prefixed("url", err))
		}
	}

	switch some := len(o.AllowedGroups) > 0; {
	case some && o.Everybody:
		errs = append(errs, prefixed("everybody",
			errors.New("is set beside allowedGroups: set one of the two")))
	case !some && !o.Everybody && len(o.AdminGroups) == 0:
		errs = append(errs,
			prefixed("allowedGroups", errors.New("is not set: name the groups that "+
				"are let in, or set everybody: true to let in whoever the provider signs in")))
	}

	return errors.Join(errs...)
}

// appendText reads an item of a list of text.
func appendText(into *[]string) func(string) error {
	return func(v string) error {
		var one string
		err := text(&one)(v)
		*into = append(*into, one)
		return err
	}
}

// SignIn returns how people sign in, in the words of gateenv. It is empty where the stack has no
// gate, or one of another kind.
func (s *Stack) SignIn() string {
	if svc := s.Service(Gate); svc != nil {
		if c, ok := svc.Contract.(*gateenv.Config); ok {
			return c.SignIn
		}
	}
	return ""
}

// applySignIn makes people sign in as the settings say. It comes when all ports are known.
func (s *Stack) applySignIn(v Settings) error {
	secret := v.Secrets[OIDCSecretKey]
	if secret && (v.SignIn == nil || v.SignIn.OIDC == nil) {
		return fmt.Errorf("%s:%s: is set, and signIn.oidc is not: set that, or remove the secret with "+
			"`pulumi config rm -s %s %[1]s:%[2]s`", Project, OIDCSecretKey, s.Name)
	}

	if v.SignIn == nil {
		return nil
	}

	svc := s.Service(Gate)
	if svc == nil {
		return fmt.Errorf("%s:signIn: this stack has no %s", Project, Gate)
	}

	c, ok := svc.Contract.(*gateenv.Config)
	if !ok {
		return fmt.Errorf("%s:signIn: this stack has a %s of another kind", Project, Gate)
	}

	switch o := v.SignIn.OIDC; {
	case v.SignIn.Accounts:
		c.SignIn = gateenv.Accounts
	case o == nil:
		c.SignIn = gateenv.None
	default:
		c.SignIn = gateenv.OIDC
		return s.applyOIDC(svc, c, *o, secret)
	}

	return nil
}

func (s *Stack) applyOIDC(svc *Service, c *gateenv.Config, o OIDCSettings, secret bool) error {
	c.Provider = gateenv.Provider{
		Issuer:        o.Issuer,
		ClientID:      o.ClientID,
		Scopes:        o.Scopes,
		GroupsClaim:   o.GroupsClaim,
		AllowedGroups: o.AllowedGroups,
		AdminGroups:   o.AdminGroups,
		Everybody:     o.Everybody,
	}
	if o.CA != "" {
		svc.Files = append(svc.Files, File{Path: oidcCA, Content: o.CA})
		c.ProviderCAFile = oidcCA
	}

	if secret {
		file := path.Join(secretsDir, OIDCSecret)
		s.Secrets = append(s.Secrets, Secret{Name: OIDCSecret, ConfigKey: OIDCSecretKey})
		svc.Files = append(svc.Files, File{Path: file, Secret: OIDCSecret})
		c.ClientSecretFile = file
	}

	issuer, err := neturl.Parse(o.Issuer)
	if err != nil {
		return fmt.Errorf("%s:signIn.oidc.issuer: %w", Project, err)
	}

	port, _ := strconv.Atoi(issuer.Port()) // "" is that of the scheme
	if port == 0 {
		port = 443
	}

	svc.Outside = append(svc.Outside, Outside{
		Host:   issuer.Hostname(),
		Port:   port,
		Reason: "the OpenID provider, where people sign in",
	})

	c.PublicURL = o.URL
	if c.PublicURL == "" {
		c.PublicURL = s.publicURL()
	}

	if c.PublicURL == "" {
		return fmt.Errorf("%s:signIn.oidc.url: is not set, and the settings of the edge do not tell "+
			"where people reach the stack: set it to the address that they type, like "+
			"https://chat.example.com", Project)
	}

	return nil
}

// publicURL returns where people reach the stack, or "" if its description does not tell.
func (s *Stack) publicURL() string {
	if s.Route != nil {
		if s.Route.TLS == nil {
			return "" // what stands before the route ends TLS, perhaps
		}
		return "https://" + s.Route.Host
	}

	e := s.Service(Edge)
	switch {
	case e == nil || e.Ports[0].Host == 0:
		return ""
	case s.TLS != nil && s.TLS.Host != "":
		return HTTPSURL(s.TLS.Host, e.Ports[0].Host)
	case s.open():
		return ""
	case s.TLS != nil:
		return HTTPSURL(e.Ports[0].Address, e.Ports[0].Host)
	}

	return "http://" + netip.AddrPortFrom(netip.MustParseAddr(e.Ports[0].Address),
		uint16(e.Ports[0].Host)).String()
}

// open reports whether others than this machine's own users reach the edge: by a route, by a name,
// at an address of the network, or by what stands before it.
func (s *Stack) open() bool {
	return s.Route != nil || s.opened() != "" || len(s.TrustedProxies) > 0 ||
		s.TLS != nil && s.TLS.Host != ""
}

// validateSignIn refuses a stack that is open to a network, and whose gate lets in whoever comes.
func (s *Stack) validateSignIn(p *problems) {
	if s.SignIn() != gateenv.None || !s.open() {
		return
	}

	how := "edge.host"
	switch {
	case s.Route != nil:
	case s.opened() != "":
		how = "edge.address " + s.opened()
	case len(s.TrustedProxies) > 0:
		how = "edge.trustedProxies"
	}

	p.add("signIn",
		"is none, and %s opens the stack to a network, where whoever comes would be let "+
			"in: set %s:signIn to {accounts: true} or {oidc: {issuer: ..., clientID: ...}}, or "+
			"edge.address to %s without edge.host and edge.trustedProxies", how, Project, loopback)
}
