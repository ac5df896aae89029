package gateenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Provider is the OpenID provider where people sign in, and whom of them the gate lets in. It is
// empty unless Config.SignIn is OIDC.
type Provider struct {
	// Issuer is the provider's URL, as it calls itself.
	Issuer string `env:"OIDC_ISSUER" optional:"true"`

	// ClientID names the gate at the provider.
	ClientID string `env:"OIDC_CLIENT_ID" optional:"true"`

	// ClientSecretFile is the path of a file that holds the client's secret. It is empty for a
	// public client.
	ClientSecretFile string `env:"OIDC_CLIENT_SECRET_FILE" optional:"true"`

	// ProviderCAFile is the path of a file with the certificates (PEM) of the authorities that sign
	// the provider's. Empty trusts those of the system.
	ProviderCAFile string `env:"OIDC_CA_FILE" optional:"true"`

	// Scopes are asked for beside openid and profile.
	Scopes Names `env:"OIDC_SCOPES" optional:"true"`

	// GroupsClaim is the claim with the groups of a person.
	GroupsClaim string `env:"OIDC_GROUPS_CLAIM" optional:"true"`

	// AllowedGroups are let in, and AdminGroups as admins.
	AllowedGroups Names `env:"OIDC_ALLOWED_GROUPS" optional:"true"`
	AdminGroups   Names `env:"OIDC_ADMIN_GROUPS" optional:"true"`

	// Everybody lets in whoever the provider signs in.
	Everybody bool `env:"OIDC_EVERYBODY" optional:"true"`
}

func (p *Provider) validate() error {
	errs := []error{
		at("OIDC_ISSUER", CheckIssuer(p.Issuer)),
		contract.Absolute("OIDC_CLIENT_SECRET_FILE", p.ClientSecretFile),
		contract.Absolute("OIDC_CA_FILE", p.ProviderCAFile),
	}

	groups := len(p.AllowedGroups)+len(p.AdminGroups) > 0
	if p.ClientID == "" {
		errs = append(errs, errors.New("OIDC_CLIENT_ID: is not set, and SIGN_IN is oidc"))
	}
	if p.GroupsClaim == "" && groups {
		errs = append(errs, errors.New("OIDC_GROUPS_CLAIM: is not set, and there are groups"))
	}
	if p.Everybody == (len(p.AllowedGroups) > 0) && (p.Everybody || !groups) {
		errs = append(errs, errors.New("OIDC_ALLOWED_GROUPS: set it, or OIDC_EVERYBODY"))
	}

	return errors.Join(errs...)
}

// at puts the name of the variable before an error.
func at(variable string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", variable, err)
}

// CheckIssuer returns an error unless the text is the URL of an OpenID provider: of HTTPS, but on
// the loopback address.
func CheckIssuer(text string) error {
	u, err := url.Parse(text)
	if err != nil || !private(u) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is no issuer: write it like https://id.example.com/realms/team, as the "+
			"provider's discovery document does", text)
	}
	return nil
}

// CheckPublicURL returns an error unless the text is the address of a site, without a path: of
// HTTPS, but on the loopback address.
func CheckPublicURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || !private(u) || text != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%q is no address of a site that is reached over TLS: write it like "+
			"https://chat.example.com, without a path", text)
	}
	return nil
}

// private reports whether nobody on the network reads what is sent to the URL.
func private(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	return host != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback)
}

// Names is a list whose items may have any characters. In the environment it is JSON.
type Names []string

// MarshalText implements encoding.TextMarshaler.
func (n Names) MarshalText() ([]byte, error) { return json.Marshal(append([]string{}, n...)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Names) UnmarshalText(text []byte) error {
	if err := json.Unmarshal(text, (*[]string)(n)); err != nil {
		return fmt.Errorf("%q is no list in JSON: %w", strings.TrimSpace(string(text)), err)
	}
	return nil
}
