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
