// Package knowledgeenv is the environment of the service knowledge.
package knowledgeenv

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Config is the environment of knowledge.
type Config struct {
	contract.Common
	contract.RequiredRedis
	contract.Auditing

	// MLServiceURL is the base URL of ml, which makes vectors.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`

	// DataDir is the absolute path of the folder with the documents and their index.
	DataDir string `env:"DATA_DIR,required,notEmpty"`

	// Collections say whose people may read which collection.
	Collections Collections `env:"COLLECTIONS,required,notEmpty"`

	// EmbeddingModel makes the vectors. Empty finds passages by words alone.
	EmbeddingModel string `env:"EMBEDDING_MODEL" optional:"true"`
}

// Collections are groups by the name of the collection that their people may read. One without
// groups is for everybody. In the environment it is JSON.
type Collections map[string][]string

// MarshalText implements encoding.TextMarshaler.
func (c Collections) MarshalText() ([]byte, error) {
	return json.Marshal(map[string][]string(c))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Collections) UnmarshalText(text []byte) error {
	if err := json.Unmarshal(text, (*map[string][]string)(c)); err != nil {
		return fmt.Errorf("%q is no object of lists in JSON: %w", text, err)
	}
	return nil
}

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.MLServiceURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	errs := []error{
		c.Common.Validate(),
		c.RequiredRedis.Validate(),
		c.Auditing.Validate(),
		contract.HTTPURL("ML_SERVICE_URL", c.MLServiceURL),
		contract.Absolute("DATA_DIR", c.DataDir),
	}
	if len(c.Collections) == 0 {
		errs = append(errs, errors.New("COLLECTIONS: names none"))
	}
	return errors.Join(errs...)
}
