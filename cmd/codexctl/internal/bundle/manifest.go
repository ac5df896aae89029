package bundle

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// The versions of the archive's form. A bundle has the lowest one that has all that is in it, so that
// an older codexctl refuses what it would load in part, and nothing else.
const (
	format          = 1
	formatEmbedding = 2 // has a model that makes vectors
)

// manifestName is the name of the first entry of an archive: the manifest as a signed note.
const manifestName = "manifest.note"

// maxManifest bounds the size of the signed manifest, in bytes.
const maxManifest = 4 << 20

// Manifest says what a bundle consists of.
type Manifest struct {
	Format int `json:"format"`

	// Stack is the stack that the bundle is made for.
	Stack string `json:"stack"`

	// Platform is what the programs and images run on, such as linux/amd64.
	Platform string `json:"platform"`

	// Made is when it was made, Revision the commit that it was made of.
	Made     time.Time `json:"made"`
	Revision string    `json:"revision,omitempty"`

	// Parts are the parts in their order in the archive.
	Parts []Part `json:"parts"`
}

// Part is a file of a bundle.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`

	// Source says where it comes from, such as the reference of an image.
	Source string `json:"source"`

	// Licence is its licence, as far as it states one.
	Licence string `json:"licence"`
}

// GenerateKey returns a new pair of keys: the one that signs bundles, which is secret, and the one
// that checks them.
func GenerateKey() (private, public string, err error) {
	return note.GenerateKey(rand.Reader, "codexcontinue-bundle")
}

// ReadSigner returns the signer whose key is in the file.
func ReadSigner(file string) (note.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("bundle: key: %w", err)
	}

	s, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("bundle: %s: is no key that signs: `codexctl bundle key FILE` "+
			"makes one", file)
	}

	return s, nil
}

// ReadVerifier returns the verifier of a public key: the key itself, or a file that holds it.
func ReadVerifier(key string) (note.Verifier, error) {
	if v, err := note.NewVerifier(key); err == nil {
		return v, nil
	}

	text, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("bundle: key %q: is neither a public key nor a file that holds "+
			"one: `codexctl bundle key` prints it", key)
	}

	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("bundle: %s: holds no public key, which `codexctl bundle key` "+
			"prints and writes to FILE.pub", key)
	}

	return v, nil
}

// sign returns the manifest as a signed note.
func (m Manifest) sign(by note.Signer) ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: string(text) + "\n"}, by)
}

// parse returns the manifest of a note that the key has signed.
func parse(signed []byte, key note.Verifier) (Manifest, error) {
	n, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return Manifest{}, fmt.Errorf("its manifest is not signed by the key %s+%08x: somebody "+
			"changed it, or it was made with another key", key.Name(), key.KeyHash())
	}

	// First, as another format may have other fields.
	var m Manifest
	var form struct{ Format int }
	if err := json.Unmarshal([]byte(n.Text), &form); err == nil &&
		(form.Format < format || form.Format > formatEmbedding) {
		return m, fmt.Errorf("it has the format %d, and this codexctl reads %d to %d: take the "+
			"codexctl that was made with it", form.Format, format, formatEmbedding)
	}

	d := json.NewDecoder(strings.NewReader(n.Text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("its manifest: %w", err)
	}

	return m, m.check()
}

// sumForm is the form of a part's checksum.
var sumForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m Manifest) check() error {
	seen := map[string]bool{}
	for _, p := range m.Parts {
		switch {
		case !fs.ValidPath(p.Name) || p.Name == "." || strings.Contains(p.Name, `\`):
			return fmt.Errorf("its manifest: %q is no name of a part", p.Name)
		case seen[p.Name]:
			return fmt.Errorf("its manifest: %s is there twice", p.Name)
		case p.Size < 0 || !sumForm.MatchString(p.SHA256):
			return fmt.Errorf("its manifest: %s has no size and checksum", p.Name)
		}
		seen[p.Name] = true
	}

	if m.Stack == "" {
		return errors.New("its manifest names no stack")
	}
	return nil
}
