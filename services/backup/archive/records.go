package archive

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// State is what the program that provisions knows of a stack.
type State struct {
	Time time.Time `json:"time"`

	// Settings is the content of the stack's settings file, in which secrets are encrypted.
	Settings string `json:"settings"`

	// Deployment is what `pulumi stack export` prints, in which secrets are encrypted as well.
	Deployment json.RawMessage `json:"deployment"`

	// Revision is the commit of the sources.
	Revision string `json:"revision"`

	// Model is what the stack's own model is made of. It is nil in a state of a release before.
	Model *Model `json:"model,omitempty"`
}

// Model is what a stack's own model is made of, but for a base that a registry has.
type Model struct {
	// Name is the model's name in Ollama, Modelfile the path of its Modelfile below the root of the
	// sources. Base replaces the FROM of that, unless it is empty.
	Name      string `json:"name"`
	Modelfile string `json:"modelfile"`
	Base      string `json:"base,omitempty"`

	// Digest is the one of modelfiles.Model, by which a version of the model is known.
	Digest string `json:"digest"`

	Files []ModelFile `json:"files"`
}

// ModelFile is a file that the model is made of, or tried with.
type ModelFile struct {
	// Path is the file's path below the root of the sources.
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`

	// Left reports whether the file is too large to be kept here. Content is the file's otherwise.
	Left    bool   `json:"left,omitempty"`
	Content []byte `json:"content,omitempty"`

	// Beside reports whether a file that is Left is kept as weights, see WeightsFile.
	Beside bool `json:"beside,omitempty"`
}

// SealJSON writes the value as JSON, encrypted to the recipients.
func SealJSON(to io.Writer, recipients []age.Recipient, value any) error {
	sealed, err := age.Encrypt(to, recipients...)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	if err := json.NewEncoder(sealed).Encode(value); err != nil {
		return err
	}
	return sealed.Close()
}

// maxJSON bounds what OpenJSON reads, in bytes.
const maxJSON = 256 << 20

// OpenJSON reads what SealJSON has written.
func OpenJSON(from io.Reader, identities []age.Identity, into any) error {
	plain, err := age.Decrypt(from, identities...)
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}

	d := json.NewDecoder(io.LimitReader(plain, maxJSON))
	if err := d.Decode(into); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, plain) // its end is authenticated as well
	return err
}
