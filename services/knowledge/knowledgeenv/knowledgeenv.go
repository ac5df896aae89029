// Package knowledgeenv is the environment of knowledge.
package knowledgeenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// DataFormat counts the changes of documents and their indexes in the volume (internal/library) that
// an earlier knowledge cannot read. Raise it with such a change.
const DataFormat = 1

// Config is the environment of knowledge.
type Config struct {
	contract.Common
	contract.RequiredRedis
	contract.Auditing

	// MLServiceURL is the base URL of the ml service, which makes vectors.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`

	// DataDir is where documents are kept: a volume that one process has.
	DataDir string `env:"DATA_DIR,required,notEmpty"`

	// Collections are the names of the collections, with who reads them, as JSON.
	Collections Collections `env:"COLLECTIONS,required,notEmpty"`

	// EmbeddingModel makes vectors of passages and questions. Without one passages are found by
	// words alone.
	EmbeddingModel string `env:"EMBEDDING_MODEL" optional:"true"`
}

// Peers implements contract.Caller.
func (c *Config) Peers() []*string { return []*string{&c.MLServiceURL} }

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	return errors.Join(
		c.Common.Validate(),
		c.RequiredRedis.Validate(),
		c.Auditing.Validate(),
		contract.HTTPURL("ML_SERVICE_URL", c.MLServiceURL),
		contract.Absolute("DATA_DIR", c.DataDir),
		c.Collections.Validate(),
	)
}

// Collections are the groups that read a collection, by its name. One without groups is for
// everybody. In the environment it is JSON.
type Collections map[string][]string

// collectionName is what a collection may be called: it is the name of a directory, and a part of
// URLs. It is the rule of the setting.
var collectionName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Validate checks that there is a collection, and their names.
func (c Collections) Validate() error {
	if len(c) == 0 {
		return errors.New("COLLECTIONS: names no collection")
	}

	var errs []error
	for _, name := range c.Names() {
		if !collectionName.MatchString(name) {
			errs = append(errs, fmt.Errorf("COLLECTIONS: %q is no name: it has lower-case letters, "+
				"digits and hyphens, 40 at most", name))
		}
		if slices.Contains(c[name], "") {
			errs = append(errs, fmt.Errorf("COLLECTIONS: %s: a group has no name", name))
		}
	}
	return errors.Join(errs...)
}

// Names returns the collections' names, in order.
func (c Collections) Names() []string { return slices.Sorted(maps.Keys(c)) }

// Readable reports whether somebody of the groups may read the collection.
func (c Collections) Readable(name string, groups []string) bool {
	readers, there := c[name]
	return there && (len(readers) == 0 || slices.ContainsFunc(groups, func(g string) bool {
		return slices.Contains(readers, g)
	}))
}

// MarshalText implements encoding.TextMarshaler.
func (c Collections) MarshalText() ([]byte, error) { return json.Marshal(map[string][]string(c)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Collections) UnmarshalText(text []byte) error {
	if err := json.Unmarshal(text, (*map[string][]string)(c)); err != nil {
		return fmt.Errorf("%q is no object of lists in JSON: %w", text, err)
	}
	return nil
}
