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

	// Domain is the stack's domain, such as general or healthcare.
	Domain string `env:"DOMAIN,required,notEmpty"`

	// DomainTitle is the title that people see, such as "CodexContinue".
	DomainTitle string `env:"DOMAIN_TITLE,required,notEmpty"`
}

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	return errors.Join(c.Common.Validate(), contract.HTTPURL("BACKEND_URL", c.BackendURL))
}
