// Package authority makes the certificates by which the services of a stack know each other.
//
// Everything comes of one secret text: a day, and the seeds of three authorities, the previous one,
// the current and the next. The same text makes the same certificates, byte by byte. Services show
// a certificate of the current authority and trust all three. Rotate moves the seeds on by one and
// adds a new one as the next, so those that have the text from before and those that have the one
// from after trust each other.
package authority

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Life is how long certificates are good, from the day of the text on.
const Life = 2 * 365 * 24 * time.Hour

// skew is how far clocks of the stack may be behind the one of whoever made the text.
const skew = 24 * time.Hour

// seeds are those of the previous, the current and the next authority.
const (
	previous = iota
	current
	next
	seeds
)

const seedSize = 32

// Authority is what a text stands for.
type Authority struct {
	day   time.Time
	seeds [seeds][]byte
}

// New returns a new text, of the day of now.
func New(now time.Time) string {
	a := Authority{day: now}
	for i := range a.seeds {
		a.seeds[i] = newSeed()
	}
	return a.String()
}

// Rotate returns the text that follows, of the day of now.
func Rotate(text string, now time.Time) (string, error) {
	a, err := Parse(text)
	if err != nil {
		return "", err
	}

	a.day = now
	a.seeds = [seeds][]byte{a.seeds[current], a.seeds[next], newSeed()}
	return a.String(), nil
}

func newSeed() []byte {
	seed := make([]byte, seedSize)
	_, _ = rand.Read(seed) // never fails
	return seed
}

// String returns the text.
func (a Authority) String() string {
	words := []string{a.day.UTC().Format(time.DateOnly)}
	for _, seed := range a.seeds {
		words = append(words, hex.EncodeToString(seed))
	}
	return strings.Join(words, " ")
}

// Parse reads a text. Its error does not show it.
func Parse(text string) (Authority, error) {
	var a Authority
	words := strings.Fields(text)
	if len(words) != 1+seeds {
		return a, errors.New("is no authority: a day and three seeds")
	}

	var err error
	if a.day, err = time.Parse(time.DateOnly, words[0]); err != nil {
		return a, errors.New("is no authority: it does not begin with a day")
	}

	for i := range a.seeds {
		a.seeds[i], err = hex.DecodeString(words[1+i])
		if err != nil || len(a.seeds[i]) != seedSize {
			return a, fmt.Errorf("is no authority: its seed %d is none", i+1)
		}
	}

	return a, nil
}

// Expires returns when the certificates are no longer good.
func (a Authority) Expires() time.Time { return a.day.Add(Life) }

// Trusted returns the certificates of the three authorities, as PEM.
func (a Authority) Trusted() string {
	var out strings.Builder
	for i := range a.seeds {
		ca, _ := a.authority(i)
		out.WriteString(block("CERTIFICATE", ca.Raw))
	}
	return out.String()
}

// Issue returns a certificate of the current authority for a service, and its key, as PEM.
func (a Authority) Issue(service string) string {
	ca, caKey := a.authority(current)
	key := a.key(current, "service "+service)
	leaf := a.template(current, "service "+service)
	leaf.Subject = pkix.Name{CommonName: service}
	leaf.DNSNames = []string{service}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // it knows Ed25519
	}
	return block("CERTIFICATE", sign(leaf, ca, key, caKey).Raw) + block("PRIVATE KEY", pkcs8)
}

// authority returns the certificate and the key of one of the three.
func (a Authority) authority(i int) (*x509.Certificate, ed25519.PrivateKey) {
	key := a.key(i, "authority")
	ca := a.template(i, "authority")
	// Each has a name of its own, by which it is found among those that are trusted.
	ca.Subject = pkix.Name{CommonName: fmt.Sprintf("inside %x", a.derive(i, "name", 8))}
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.MaxPathLenZero = true
	ca.KeyUsage = x509.KeyUsageCertSign
	return sign(ca, ca, key, key), key
}

func (a Authority) template(i int, purpose string) *x509.Certificate {
	serial := new(big.Int).SetBytes(a.derive(i, "serial "+purpose, 16))
	return &x509.Certificate{
		SerialNumber: serial.SetBit(serial, 127, 0).SetBit(serial, 126, 1), // positive, of 16 bytes
		NotBefore:    a.day.Add(-skew),
		NotAfter:     a.Expires(),
	}
}

func (a Authority) key(i int, purpose string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(a.derive(i, "key "+purpose, ed25519.SeedSize))
}

// derive returns what comes of a seed for the purpose, by HKDF with SHA-256.
func (a Authority) derive(i int, purpose string, size int) []byte {
	out, err := hkdf.Key(sha256.New, a.seeds[i], nil, "codexcontinue inside: "+purpose, size)
	if err != nil {
		panic(err) // the sizes are constants
	}
	return out
}

// sign returns the certificate of the key that the issuer signs. A signature by Ed25519 takes no
// random numbers.
func sign(
	c, issuer *x509.Certificate, key, issuerKey ed25519.PrivateKey,
) *x509.Certificate {
	der, err := x509.CreateCertificate(nil, c, issuer, key.Public(), issuerKey)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err) // nothing in it is of a caller's
	}
	return c
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
