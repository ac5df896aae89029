// Package account knows people by a name and a password, where no identity provider does.
//
// Nobody makes an account of their own accord: an admin invites a person, and the first one is
// invited by the command. An invitation is a code, which the person types together with a password.
// It is in no address, because addresses are in logs, and in Redis as a hash.
package account

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
)

// Issuer is what vouches for people with accounts.
const Issuer = "accounts"

// accountsKey is the name in Redis of the hash with all accounts.
const accountsKey = "gate:accounts"

var (
	// ErrUnknown reports that nobody has an account with the name.
	ErrUnknown = errors.New("there is no account with this name")

	// ErrTaken reports that somebody has an account with the name.
	ErrTaken = errors.New("there is an account with this name already")

	// ErrName reports a name that no account can have.
	ErrName = errors.New("a name has 1 to 64 of the characters a-z, 0-9, '.', '_', '-' and '@', " +
		"and begins with a letter or a digit")
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// Account is somebody's.
type Account struct {
	Name string

	// Subject is the person for ever: who gets the name of a removed account is somebody else.
	Subject string
	Admin   bool     `json:",omitempty"`
	Groups  []string `json:",omitempty"`
	Since   time.Time

	// Hash is that of the password.
	Hash string

	// Code is the CodeHash of the invitation that the password came with: it has been used.
	Code string `json:",omitempty"`

	// Removed reports whether the account is being removed: it is nobody's, but for Remove.
	Removed bool `json:",omitempty"`
}

// who returns the person as a session knows one.
func (a *Account) who() session.Who {
	return session.Who{
		Issuer: Issuer, Subject: a.Subject, Name: a.Name, Admin: a.Admin, Groups: a.Groups,
	}
}

// Accounts are the accounts of a stack.
type Accounts struct {
	store    *store.Store
	names    *pseudonym.Names
	sessions *session.Manager
	hasher   *hasher
	removed  []func(ctx context.Context, id string) error
}

// New returns the accounts in the store. Their sessions end with what they could do.
func New(st *store.Store, names *pseudonym.Names, sessions *session.Manager) *Accounts {
	return &Accounts{store: st, names: names, sessions: sessions, hasher: newHasher()}
}

// OnRemove has f called with the id of a person whose account has been removed. It must be called
// before the first request.
func (a *Accounts) OnRemove(f func(ctx context.Context, id string) error) {
	a.removed = append(a.removed, f)
}

// canonical returns the name as accounts have it.
func canonical(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// Find returns the account with the name.
func (a *Accounts) Find(ctx context.Context, name string) (*Account, error) {
	account, err := a.stored(ctx, name)
	if err == nil && account.Removed {
		return nil, ErrUnknown
	}
	return account, err
}

// stored is Find, and returns an account that is being removed as well.
func (a *Accounts) stored(ctx context.Context, name string) (*Account, error) {
	value, err := a.store.Field(ctx, accountsKey, name)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if value == "" {
		return nil, ErrUnknown
	}

	return decode(value)
}

// List returns all accounts by name.
func (a *Accounts) List(ctx context.Context) ([]*Account, error) {
	values, err := a.store.Fields(ctx, accountsKey)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}

	var all []*Account
	for _, value := range values {
		account, err := decode(value)
		if err != nil {
			return nil, err
		}
		all = append(all, account)
	}

	slices.SortFunc(all, func(a, b *Account) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Names returns the names of those who have accounts, by their ids.
func (a *Accounts) Names(ctx context.Context, _ []string) (map[string]string, error) {
	all, err := a.List(ctx)
	if err != nil {
		return nil, err
	}

	names := make(map[string]string, len(all))
	for _, account := range all {
		names[a.names.Of(Issuer, account.Subject)] = account.Name
	}

	return names, nil
}

// create makes an account. It is an ErrTaken if there is one with the name.
func (a *Accounts) create(ctx context.Context, account *Account) error {
	account.Subject, account.Since = rand.Text(), time.Now().UTC().Truncate(time.Second)
	made, err := a.store.Swap(ctx, accountsKey, account.Name, "", encode(account))
	switch {
	case err != nil:
		return fmt.Errorf("accounts: %w", err)
	case !made:
		return ErrTaken
	}

	return nil
}

// change changes the account with the name.
func (a *Accounts) change(
	ctx context.Context, name string, edit func(*Account) error,
) (*Account, error) {
	for {
		old, err := a.store.Field(ctx, accountsKey, name)
		if err != nil {
			return nil, fmt.Errorf("accounts: %w", err)
		}
		if old == "" {
			return nil, ErrUnknown
		}

		account, err := decode(old)
		if err != nil {
			return nil, err
		}

		if account.Removed {
			return nil, ErrUnknown
		}

		if err := edit(account); err != nil {
			return nil, err
		}

		done, err := a.store.Swap(ctx, accountsKey, name, old, encode(account))
		if err != nil {
			return nil, fmt.Errorf("accounts: %w", err)
		}
		if done {
			return account, nil
		}
	}
}

// SetAdmin makes an admin of the person, or a member. Who is signed in has to sign in again.
func (a *Accounts) SetAdmin(ctx context.Context, name string, admin bool) error {
	return a.setRights(ctx, name, func(account *Account) error {
		account.Admin = admin
		return nil
	})
}

// SetGroups puts the person into the groups, and into no others. Who is signed in has to sign in
// again.
func (a *Accounts) SetGroups(ctx context.Context, name string, groups []string) error {
	for _, g := range groups {
		if !namePattern.MatchString(g) {
			return fmt.Errorf("the group %q: %w", g, ErrName)
		}
	}

	return a.setRights(ctx, name, func(account *Account) error {
		account.Groups = groups
		return nil
	})
}

func (a *Accounts) setRights(
	ctx context.Context, name string, edit func(*Account) error,
) error {
	account, err := a.change(ctx, name, edit)
	if err != nil {
		return err
	}

	id := a.names.Of(Issuer, account.Subject)
	return errors.Join(a.store.PutGroups(ctx, id, account.Groups), a.sessions.EndAll(ctx, id, ""))
}

// removalTime bounds how long a removal goes on after whoever asked for it has gone.
const removalTime = 30 * time.Second

// Remove removes the account or the invitation with the name. If it fails, nobody signs in with the
// account any more, and it can be removed again: the name is kept until all else is gone.
func (a *Accounts) Remove(ctx context.Context, name string) error {
	invited, err := a.withdraw(ctx, name)
	if err != nil {
		return err
	}

	account, err := a.stored(ctx, name)
	if err == nil && !account.Removed {
		account, err = a.change(ctx, name, remove)
	}

	switch {
	case errors.Is(err, ErrUnknown) && invited:
		return nil
	case err != nil:
		return err
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalTime)
	defer cancel()
	id := a.names.Of(Issuer, account.Subject)
	errs := []error{a.sessions.EndAll(ctx, id, ""), a.forgetBrowsers(ctx, id)}
	for _, f := range a.removed {
		errs = append(errs, f(ctx, id))
	}

	if err := errors.Join(errs...); err != nil {
		return err
	}

	// If it is not there now, another removal was faster.
	if _, err := a.store.Swap(ctx, accountsKey, name, encode(account), ""); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}

	return nil
}

func encode(account *Account) string {
	b, err := json.Marshal(account)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return string(b)
}

func decode(value string) (*Account, error) {
	account := &Account{}
	if err := json.Unmarshal([]byte(value), account); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return account, nil
}
