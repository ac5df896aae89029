package archive

import (
	"fmt"
	"io"

	"filippo.io/age"
)

// WeightsSummary is what is known of weights without an identity.
type WeightsSummary struct {
	Recipients []string `json:"recipients"`

	// Bytes and SHA256 are those of the encrypted file.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// SealWeights writes what is read, encrypted to the recipients. It fails unless that has the SHA-256.
func SealWeights(
	to io.Writer, recipients []age.Recipient, sum string, from io.Reader,
) (WeightsSummary, error) {
	out := newDigester(to)
	sealed, err := age.Encrypt(out, recipients...)
	if err != nil {
		return WeightsSummary{}, fmt.Errorf("encrypt: %w", err)
	}
	if err := copyWeights(sealed, from, sum); err != nil {
		return WeightsSummary{}, err
	}
	if err := sealed.Close(); err != nil {
		return WeightsSummary{}, err
	}
	return WeightsSummary{Bytes: out.bytes, SHA256: out.sum()}, nil
}

// OpenWeights writes the weights of the SHA-256 that SealWeights has written. Whether they are these
// is known only when it returns without an error.
func OpenWeights(to io.Writer, identities []age.Identity, sum string, from io.Reader) error {
	plain, err := age.Decrypt(from, identities...)
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}
	return copyWeights(to, plain, sum)
}

func copyWeights(to io.Writer, from io.Reader, sum string) error {
	plain := newDigester(to)
	if _, err := io.Copy(plain, from); err != nil {
		return err
	}
	if got := plain.sum(); got != sum {
		return fmt.Errorf("these are other weights, or they are cut: %d bytes with the SHA-256 %s, "+
			"and not %s", plain.bytes, got, sum)
	}
	return nil
}
