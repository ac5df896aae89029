// Package backendenv is the environment of the backend.
package backendenv

import (
	"errors"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// DataFormat counts the changes of conversations and answers in Redis (internal/store) that an
// earlier backend cannot read. Raise it with such a change.
const DataFormat = 1

// Config is the environment of the backend.
type Config struct {
	contract.Common
	contract.RequiredRedis
	contract.Auditing

	// MLServiceURL is the base URL of the ml service.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`

	// KnowledgeURL is the base URL of knowledge, which has the documents. Empty is without one.
	KnowledgeURL string `env:"KNOWLEDGE_URL" optional:"true"`

	// DefaultModel answers when a request names no model.
	DefaultModel string `env:"DEFAULT_MODEL,required,notEmpty"`

	// ConversationTTL is how long an untouched conversation is kept; 0 keeps it for ever.
	ConversationTTL time.Duration `env:"CONVERSATION_TTL,required"`

	// MaxStored is how many bytes the conversations of one person may have; 0 keeps the backend's
	// own bound.
	MaxStored int64 `env:"MAX_STORED" optional:"true"`

	// Ratings lets people rate answers, and hand them over for review.
	Ratings bool `env:"RATINGS" optional:"true"`

	// GenerationTimeout bounds one answer, from when ml begins it to the last token.
	GenerationTimeout time.Duration `env:"GENERATION_TIMEOUT,required"`
}

// LongestAnswer implements contract.Environment.
func (c *Config) LongestAnswer() time.Duration { return c.GenerationTimeout }

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.MLServiceURL, &c.KnowledgeURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{
		c.Common.Validate(),
		c.RequiredRedis.Validate(),
		c.Auditing.Validate(),
		contract.HTTPURL("ML_SERVICE_URL", c.MLServiceURL),
	}
	if c.KnowledgeURL != "" {
		errs = append(errs, contract.HTTPURL("KNOWLEDGE_URL", c.KnowledgeURL))
	}
	if c.ConversationTTL < 0 {
		errs = append(errs, fmt.Errorf("CONVERSATION_TTL: must not be negative, got %s",
			c.ConversationTTL))
	}

	if c.MaxStored < 0 {
		errs = append(errs, fmt.Errorf("MAX_STORED: must not be negative, got %d", c.MaxStored))
	}

	errs = append(errs, contract.Positive("GENERATION_TIMEOUT", c.GenerationTimeout))
	return errors.Join(errs...)
}
