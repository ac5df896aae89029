package account

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
)

// parameters are those that OWASP recommends for argon2id: 19 MiB, two passes, one lane.
var parameters = &argon2id.Params{
	Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32,
}

const (
	// atOnce bounds the hashes that are computed at once, and so the memory that they take.
	atOnce = 2

	// longestWait bounds how long a person waits for one to be computed.
	longestWait = 5 * time.Second

	shortest, longest = 12, 128 // characters of a password
)

// ErrBusy reports that more people sign in at this moment than can be served.
var ErrBusy = errors.New("too many people sign in at this moment: try again in a few seconds")

// hasher hashes passwords, few at once.
type hasher struct {
	slots chan struct{}

	// nobodys is the hash of a password that nobody has.
	nobodys string
}

func newHasher() *hasher {
	nobodys, err := argon2id.CreateHash("nobody has this password", parameters)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return &hasher{slots: make(chan struct{}, atOnce), nobodys: nobodys}
}

// enter waits for the turn to compute a hash. The caller calls leave.
func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	wait := time.NewTimer(longestWait)
	defer wait.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-wait.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hash returns the hash of the password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return argon2id.CreateHash(password, parameters)
}

// matches reports whether the password is the account's. It takes as long if there is no account.
func (h *hasher) matches(ctx context.Context, account *Account, password string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()

	hash := h.nobodys
	if account != nil {
		hash = account.Hash
	}

	same, err := argon2id.ComparePasswordAndHash(password, hash)
	return same && account != nil, err
}

//go:embed common.txt
var commonList string

// common are passwords of 12 characters and more that guessers try first.
var common = strings.Fields(commonList)

// check returns an error if the account with the name may not have the password.
func check(name, password string) error {
	n := utf8.RuneCountInString(password)
	lower := strings.ToLower(password)
	switch {
	case n < shortest || n > longest:
		return errors.New("a password has 12 to 128 characters: some words in a row are a good one")
	case lower == name:
		return errors.New("the name is no password")
	case slices.Contains(common, strings.ReplaceAll(lower, " ", "")):
		return errors.New("this password is one of those that are guessed first: choose another one")
	}

	return nil
}
