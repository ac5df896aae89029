// Package apikey keeps the keys with which people's programs ask the API.
package apikey

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Scope is what a key is good for.
type Scope string

// The scopes.
const (
	Chat        Scope = "chat"
	Completions Scope = "completions"
	Embeddings  Scope = "embeddings"
	Models      Scope = "models"
)

// Scopes are all scopes.
var Scopes = []Scope{Chat, Completions, Embeddings, Models}

const (
	// Most is how many keys a person may have.
	Most = 20

	// maxName bounds the name of a key in bytes.
	maxName = 60
)

var (
	// ErrInvalid reports a key that does not count: a made-up one, one that was revoked or has
	// expired, or one of a person who is gone.
	ErrInvalid = errors.New("the key is not valid")

	// ErrScope reports a key that is not good for what was asked.
	ErrScope = errors.New("the key lacks the scope")

	// ErrRefused reports a key that cannot be made.
	ErrRefused = errors.New("a key cannot be made")

	// ErrGone reports that a person is not let in any more. The keys count again if that changes.
	ErrGone = errors.New("the person is gone")
)

// Refusal reports a key of somebody's that does not count, or not for what was asked. It is an
// ErrInvalid or an ErrScope.
type Refusal struct {
	// Owner is the person's ID, and Key that of the key.
	Owner, Key string

	// Why is the reason, in words.
	Why string
	err error
}

// Error implements error.
func (e *Refusal) Error() string { return e.err.Error() + ": " + e.Why }

// Unwrap returns ErrInvalid or ErrScope.
func (e *Refusal) Unwrap() error { return e.err }

// Key is a key of a person's, without its secret.
type Key struct {
	// ID is the hash of the secret.
	ID     string    `json:"-"`
	Name   string    `json:"name"`
	Owner  string    `json:"owner"` // the person's ID
	Scopes []Scope   `json:"scopes"`
	Made   time.Time `json:"made"`

	// Expires is zero for a key that does not, and Used for one that was not used yet.
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"-"`
}

// Expired reports whether the key has expired.
func (k *Key) Expired() bool { return !k.Expires.IsZero() && time.Now().After(k.Expires) }

// Keys are the keys of all people.
type Keys struct {
	// Audit records keys that are made and revoked on the page. It must be set before the first
	// request.
	Audit *audit.Recorder

	store   *store.Store
	days    int
	current func(ctx context.Context, owner string) (identity.Person, error)
}

// New returns the keys in the store. A key lasts the days at most; 0 lets it last for ever. current
// returns the person with the ID as the person is now, with what the groups allow, or ErrGone.
func New(
	s *store.Store, days int,
	current func(ctx context.Context, owner string) (identity.Person, error),
) *Keys {
	return &Keys{store: s, days: days, current: current}
}

// Make makes a key, and returns its secret: it is not stored, and cannot be told again. The name
// must not be empty, nor the scopes. A key that never expires has a zero time.
func (k *Keys) Make(
	ctx context.Context, owner, name string, scopes []Scope, expires time.Time,
) (secret string, err error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || len(name) > maxName:
		return "", fmt.Errorf("%w without a name, nor with one of more than %d characters",
			ErrRefused, maxName)
	case len(scopes) == 0:
		return "", fmt.Errorf("%w that is good for nothing: choose what it is good for", ErrRefused)
	}

	for _, s := range scopes {
		if !slices.Contains(Scopes, s) {
			return "", fmt.Errorf("%w for %q: that is no scope", ErrRefused, s)
		}
	}

	if latest := time.Now().AddDate(0, 0, k.days); k.days != 0 &&
		(expires.IsZero() || expires.After(latest)) {
		return "", fmt.Errorf("%w that lasts for more than %d days", ErrRefused, k.days)
	}

	secret = newSecret()
	record, err := json.Marshal(Key{
		Name: name, Owner: owner, Scopes: scopes, Made: time.Now().UTC(), Expires: expires.UTC(),
	})
	if err != nil {
		return "", err
	}

	ok, err := k.store.PutKey(ctx, owner, hash(secret), string(record), Most)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("%w beside %d others: revoke one that is not used any more",
			ErrRefused, Most)
	}

	return secret, nil
}

// Check returns the person for whose program the secret speaks, if the key has the scope,
// which is empty where any key will do. The error is ErrInvalid or ErrScope, a *Refusal where it is
// known whose the key is, or one of what could not be asked.
func (k *Keys) Check(ctx context.Context, secret string, scope Scope) (identity.Person, error) {
	if !valid(secret) {
		return identity.Person{}, ErrInvalid
	}

	key, err := k.get(ctx, hash(secret))
	switch {
	case err != nil:
		return identity.Person{}, err
	case key == nil:
		return identity.Person{}, ErrInvalid
	case key.Expired():
		return identity.Person{}, &Refusal{key.Owner, key.ID, "expired", ErrInvalid}
	}

	person, err := k.current(ctx, key.Owner)
	switch {
	case errors.Is(err, ErrGone):
		return identity.Person{}, &Refusal{key.Owner, key.ID, "owner not let in", ErrInvalid}
	case err != nil:
		return identity.Person{}, err
	case scope != "" && !slices.Contains(key.Scopes, scope):
		why := fmt.Sprintf("no scope %s", scope)
		return identity.Person{}, &Refusal{key.Owner, key.ID, why, ErrScope}
	}

	if now := time.Now().Unix() / 60; now > key.Used.Unix()/60 {
		// When it was used is not worth a refusal.
		_ = k.store.UseKey(ctx, key.ID, now)
	}

	return person, nil
}

// List returns the owner's keys, the newest first.
func (k *Keys) List(ctx context.Context, owner string) ([]Key, error) {
	ids, err := k.store.KeysOf(ctx, owner)
	if err != nil {
		return nil, err
	}

	var out []Key
	for _, id := range ids {
		key, err := k.get(ctx, id)
		if err != nil {
			return nil, err
		}
		if key != nil {
			out = append(out, *key)
		}
	}

	slices.SortFunc(out, func(a, b Key) int {
		return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Revoke ends a key of the owner's. A request that it began goes on; the next one is refused.
func (k *Keys) Revoke(ctx context.Context, owner, id string) error {
	return k.store.DropKey(ctx, owner, id)
}

// RevokeRecorded ends the key of the owner's that records call so, and reports whether there was one.
func (k *Keys) RevokeRecorded(ctx context.Context, owner, object string) (bool, error) {
	ids, err := k.store.KeysOf(ctx, owner)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if k.Audit.Name(Kind, id) == object {
			return true, k.store.DropKey(ctx, owner, id)
		}
	}
	return false, nil
}

// RevokeAll ends all keys of the owner, and forgets what the groups were that they followed.
func (k *Keys) RevokeAll(ctx context.Context, owner string) error {
	ids, err := k.store.KeysOf(ctx, owner)
	for _, id := range ids {
		err = errors.Join(err, k.store.DropKey(ctx, owner, id))
	}
	return errors.Join(err, k.store.DropGroups(ctx, owner))
}

// get returns the key with the id, or nil.
func (k *Keys) get(ctx context.Context, id string) (*Key, error) {
	record, used, err := k.store.Key(ctx, id)
	if err != nil || record == "" {
		return nil, err
	}

	key := Key{ID: id}
	if err := json.Unmarshal([]byte(record), &key); err != nil {
		return nil, fmt.Errorf("the stored key: %w", err)
	}

	if latest := key.Made.AddDate(0, 0, k.days); k.days != 0 &&
		(key.Expires.IsZero() || key.Expires.After(latest)) {
		key.Expires = latest // it was made when keys could last for longer
	}

	if used > 0 {
		key.Used = time.Unix(used*60, 0).UTC()
	}

	return &key, nil
}

// encoding is that of secrets: capital letters and digits that nobody mistakes for others.
var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// lengths of the parts of a secret after its prefix, in characters.
const random, sum = 32, 7

// newSecret returns a secret: a prefix by which scanners find one that leaked, 160 random bits, and
// their checksum, by which they tell it from what only looks like one.
func newSecret() string {
	b := make([]byte, random*5/8)
	_, _ = rand.Read(b) // it never fails
	text := encoding.EncodeToString(b)
	return wire.APIKeyPrefix + text + checksum(text)
}

func checksum(text string) string {
	return encoding.EncodeToString(
		binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
}

// valid reports whether the text has the form of a secret.
func valid(secret string) bool {
	text, ok := strings.CutPrefix(secret, wire.APIKeyPrefix)
	return ok && len(text) == random+sum && checksum(text[:random]) == text[random:]
}

// hash returns what is stored of a secret. Nobody guesses 160 random bits, so a slow hash, which is
// for passwords, would only slow each request.
func hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}
