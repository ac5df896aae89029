// Package frontendenv is the environment of the frontend.
package frontendenv

import (
	"errors"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Config is the environment of the frontend.
type Config struct {
	contract.Common

	// BackendURL is the base URL of the backend.
	BackendURL string `env:"BACKEND_URL,required,notEmpty"`

	// DomainFile is the path of a file with the texts of the stack's domain, as package domain
	// encodes them.
	DomainFile string `env:"DOMAIN_FILE,required,notEmpty"`

	// ConversationTTL is how long the backend keeps an untouched conversation, which the page says;
	// 0 keeps it for ever.
	ConversationTTL time.Duration `env:"CONVERSATION_TTL" optional:"true"`

	// Ratings shows by what people rate answers.
	Ratings bool `env:"RATINGS" optional:"true"`
}

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.BackendURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{
		c.Common.Validate(),
		contract.HTTPURL("BACKEND_URL", c.BackendURL),
		contract.Absolute("DOMAIN_FILE", c.DomainFile),
	}
	if c.ConversationTTL < 0 {
		errs = append(errs, fmt.Errorf("CONVERSATION_TTL: must not be negative, got %s",
			c.ConversationTTL))
	}

	return errors.Join(errs...)
}
