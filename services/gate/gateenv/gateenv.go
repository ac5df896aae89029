// Package gateenv is the environment of the gate.
package gateenv

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// How people sign in: the values of Config.SignIn.
const (
	// None knows a browser by a cookie alone, and answers on the machine's loopback address only.
	None = "none"

	// Accounts has people sign in with a name and a password that are known here.
	Accounts = "accounts"

	// OIDC has people sign in at an OpenID provider, the Provider of Config.
	OIDC = "oidc"
)

// modes are all values of Config.SignIn.
var modes = []string{None, Accounts, OIDC}

// hostPattern matches names of hosts, without a port.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// DataFormat counts the changes of sessions, accounts, keys and the audit in Redis (internal/store)
// that an earlier gate cannot read. Raise it with such a change.
const DataFormat = 1

// Config is the environment of the gate.
type Config struct {
	contract.Common
	contract.RequiredRedis
	contract.Auditing

	// FrontendURL is the base URL of the frontend, which has the pages.
	FrontendURL string `env:"FRONTEND_URL,required,notEmpty"`

	// MLServiceURL is the base URL of ml, which the API for programs asks.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`

	// KnowledgeURL is the base URL of knowledge, which has the documents. Empty is without one.
	KnowledgeURL string `env:"KNOWLEDGE_URL" optional:"true"`

	// RawCompletions lets programs send prompts to which the model's SYSTEM prompt is not added.
	RawCompletions bool `env:"RAW_COMPLETIONS,required"`

	// Title is what the site calls itself.
	Title string `env:"TITLE,required,notEmpty"`

	// SignIn is how people sign in.
	SignIn string `env:"SIGN_IN,required,notEmpty"`

	// EdgeHost is the DNS name of the edge, without a port. Who connects from another address than its
	// is not believed about where a request comes from (X-Forwarded-For, -Host, -Proto). Empty
	// believes whoever connects: where certificates or network policies let in the edge alone.
	EdgeHost string `env:"EDGE_HOST" optional:"true"`

	// PublicURL is where browsers reach the stack: scheme, host and port, without a path.
	PublicURL string `env:"PUBLIC_URL" optional:"true"`

	Provider

	// EgressURL is the proxy by which the provider is reached. Empty is without one.
	EgressURL string `env:"EGRESS_URL" optional:"true"`

	// SessionIdle is how long a session lasts without use, SessionLife how long in any case.
	SessionIdle time.Duration `env:"SESSION_IDLE,required"`
	SessionLife time.Duration `env:"SESSION_LIFE,required"`

	// SharedBrowsers is set where several people use one browser. Else who signs in may take over what
	// the browser had before people signed in.
	SharedBrowsers bool `env:"SHARED_BROWSERS" optional:"true"`

	// GenerationTimeout bounds one answer, from its turn to the last token.
	GenerationTimeout time.Duration `env:"GENERATION_TIMEOUT,required"`

	// Limits are those to which ml holds people. The gate shows them.
	contract.Limits

	// Models say which groups may ask which model. ml refuses the others.
	Models contract.Models `env:"MODELS" optional:"true"`

	// Collections say, in the same way, which groups may read which collection of documents. The
	// service knowledge refuses the others.
	Collections contract.Models `env:"COLLECTIONS" optional:"true"`
}

// Groups returns those of a person that the stack knows, beside those that let somebody in.
func (c *Config) Groups() []string {
	groups := slices.Concat(c.Models.Groups(), c.Collections.Groups())
	return slices.Compact(slices.Sorted(slices.Values(groups)))
}

// LongestAnswer implements contract.Environment.
func (c *Config) LongestAnswer() time.Duration { return c.GenerationTimeout }

// Peers implements contract.Caller.
func (c *Config) Peers() []*string {
	return []*string{&c.FrontendURL, &c.MLServiceURL, &c.KnowledgeURL}
}

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{
		c.Common.Validate(),
		c.RequiredRedis.Validate(),
		c.Auditing.Validate(),
		contract.HTTPURL("FRONTEND_URL", c.FrontendURL),
		contract.Positive("SESSION_IDLE", c.SessionIdle),
		contract.Positive("SESSION_LIFE", c.SessionLife),
		contract.HTTPURL("ML_SERVICE_URL", c.MLServiceURL),
		contract.Positive("GENERATION_TIMEOUT", c.GenerationTimeout),
		c.Limits.Validate(),
		c.Models.Validate(),
	}
	if c.EdgeHost != "" && !hostPattern.MatchString(c.EdgeHost) {
		errs = append(errs, fmt.Errorf("EDGE_HOST: %q is no name of a host", c.EdgeHost))
	}

	if c.PublicURL != "" {
		errs = append(errs, at("PUBLIC_URL", CheckPublicURL(c.PublicURL)))
	}

	if c.KnowledgeURL != "" {
		errs = append(errs, contract.HTTPURL("KNOWLEDGE_URL", c.KnowledgeURL))
	}

	if c.EgressURL != "" {
		errs = append(errs, contract.HTTPURL("EGRESS_URL", c.EgressURL))
	}

	if c.KnowledgeURL == "" && len(c.Collections) > 0 {
		errs = append(errs, errors.New("COLLECTIONS: is set, but KNOWLEDGE_URL is not"))
	}

	switch {
	case c.SignIn == None && len(c.Models) > 0:
		errs = append(errs, errors.New("MODELS: is set, but SIGN_IN is none"))
	case c.SignIn == None && len(c.Collections.Groups()) > 0:
		errs = append(errs, errors.New("COLLECTIONS: names groups, but SIGN_IN is none"))
	case c.SignIn == OIDC:
		errs = append(errs, c.Provider.validate())
		if c.PublicURL == "" {
			errs = append(errs, errors.New("PUBLIC_URL: is not set, and SIGN_IN is oidc"))
		}
	case c.Provider.Issuer != "":
		errs = append(errs, fmt.Errorf("OIDC_ISSUER: is set, but SIGN_IN is %s", c.SignIn))
	}

	if !slices.Contains(modes, c.SignIn) {
		errs = append(errs, fmt.Errorf("SIGN_IN: %q is none of %s", c.SignIn,
			strings.Join(modes, ", ")))
	}

	return errors.Join(errs...)
}
