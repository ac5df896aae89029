// Package plan makes documents of what a stack would be, from the project's files alone.
package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Version of the Document. It changes when a reader of the old one would misread the new one, or
// the other way round: before 3, a document did not say what was rendered.
const Version = 3

// What a document has of a recording.
type (
	Resource = recorder.Resource
	Options  = recorder.Options
	Timeouts = recorder.Timeouts
)

// Stand-ins for values that a plan does not show.
const (
	Secret   = recorder.Secret
	Computed = recorder.Computed
)

// Root stands for the project's folder, which only the machine that plans has.
const Root = "[root]"

// Document is the plan of one stack on one target: the same text for the same sources and
// settings on every machine.
type Document struct {
	Version int           `json:"version"`
	Project string        `json:"project"`
	Stack   string        `json:"stack"`
	Target  stacks.Target `json:"target"`

	// Chosen is set if the stack's settings name this target; the plan of another one is what if.
	Chosen bool `json:"chosen"`

	// Refused is why there is no such plan: the settings are wrong, or the target cannot express
	// the stack. The rest is empty then.
	Refused string `json:"refused,omitempty"`

	// Plugins are the versions of the provider plugins, by package.
	Plugins map[string]string `json:"plugins,omitempty"`
	Model   *Model            `json:"model,omitempty"`

	// Docker is what was rendered for an engine; nil on another target.
	Docker *docker.Rendering `json:"docker,omitempty"`

	// Resources are what was registered, sorted by name and type; the stack itself comes first.
	Resources []Resource `json:"resources"`
}

// Model is the custom model that the stack serves.
type Model struct {
	Name      string `json:"name"`
	Modelfile string `json:"modelfile"`
	Base      string `json:"base,omitempty"`
	Digest    string `json:"digest"`

	// Evals is the digest of those that a version has to pass, if any.
	Evals string `json:"evals,omitempty"`

	// Text is the Modelfile's, EvalsText the evals'.
	Text      string `json:"text"`
	EvalsText string `json:"evalsText,omitempty"`
}

// Encode writes the documents as JSON. The same documents are the same bytes.
func Encode(w io.Writer, documents ...Document) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	for _, d := range documents {
		if err := enc.Encode(d); err != nil {
			return fmt.Errorf("plan: %w", err)
		}
	}

	return nil
}

// Print writes the plans of every stack of the project at root, as Encode does. Its caller needs
// none of the types of a Document, which take longer to compile than the caller.
func Print(ctx context.Context, w io.Writer, root string, key []byte) error {
	documents, err := Documents(ctx, root, nil, key)
	if err != nil {
		return err
	}
	return Encode(w, documents...)
}

// VersionError is the error for a document of a version that this program does not read.
type VersionError struct{ Version int }

func (e VersionError) Error() string {
	return fmt.Sprintf("plan: a document of version %d, and this program reads version %d",
		e.Version, Version)
}

// Decode reads what Encode wrote. A document of another version is a VersionError.
func Decode(text []byte) ([]Document, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var out []Document
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err == io.EOF {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}

		var head struct{ Version int }
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		if head.Version != Version {
			return nil, VersionError{head.Version}
		}

		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		var d Document
		if err := strict.Decode(&d); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}

		out = append(out, d)
	}
}
