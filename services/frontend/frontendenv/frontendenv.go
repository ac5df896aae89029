// Package frontendenv is the environment of the frontend.
package frontendenv

import (
	"errors"

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
}

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.BackendURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	return errors.Join(c.Common.Validate(), contract.HTTPURL("BACKEND_URL", c.BackendURL),
		contract.Absolute("DOMAIN_FILE", c.DomainFile))
}
