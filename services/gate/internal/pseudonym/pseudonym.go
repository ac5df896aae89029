// Package pseudonym gives people names that tell nothing about who they are, for the names of keys in
// Redis, for logs and for queues.
package pseudonym

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"
	"time"
)

// key is the name in Redis of the secret that makes the names.
const key = "gate:pseudonyms"

// length is the length of a name in characters, each of which has 5 bits.
const length = 26

// ErrOther reports that the stored secret is another than this gate's: Redis was given other data.
var ErrOther = errors.New("pseudonyms: Redis has another secret than this gate, which has to start anew")

// Claim stores the value with the key if nothing is stored there, and returns what is there then.
type Claim func(ctx context.Context, key, value string) (string, error)

// Names makes names. All gates of a stack make the same.
type Names struct{ secret atomic.Pointer[string] }

// Load loads the secret that makes the names, or makes it if there is none. A secret that is loaded
// stays, and a Redis that has lost it gets it again.
func (n *Names) Load(ctx context.Context, claim Claim) error {
	mine := rand.Text()
	if known := n.secret.Load(); known != nil {
		mine = *known
	}

	there, err := claim(ctx, key, mine)
	if err != nil {
		return fmt.Errorf("pseudonyms: %w", err)
	}

	n.secret.CompareAndSwap(nil, &there)
	if *n.secret.Load() != there {
		return ErrOther
	}

	return nil
}

// Read loads the secret that the gates have made, for a command beside them.
func (n *Names) Read(ctx context.Context, get func(context.Context, string) (string, error)) error {
	there, err := get(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("pseudonyms: %w", err)
	case there == "":
		return errors.New("pseudonyms: no gate has made any yet")
	}

	n.secret.Store(&there)
	return nil
}

// checkEvery is the time between two checks that all gates make the same names.
const checkEvery = 5 * time.Second

// Run checks again and again that all gates make the same names, and gives a Redis that has lost the
// secret this gate's. It returns the error if another gate makes other names, and nil when ctx is
// done.
func (n *Names) Run(ctx context.Context, claim Claim) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}

		if err := n.Load(ctx, claim); errors.Is(err, ErrOther) {
			return err
		}
	}
}

// form is what names look like.
var form = regexp.MustCompile(fmt.Sprintf(`^[A-Z2-7]{%d}$`, length))

// Is reports whether the text can be a name that was made here.
func Is(text string) bool { return form.MatchString(text) }

// Of returns the name of the subject that the issuer knows: 26 characters of base32. It panics before
// Load has returned without an error.
func (n *Names) Of(issuer, subject string) string {
	mac := hmac.New(sha256.New, []byte(*n.secret.Load()))
	mac.Write([]byte(issuer + "\x00" + subject))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:length]
}
