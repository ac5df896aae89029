package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

const (
	// invitationsKey is the name in Redis of the hash with all invitations, of which a name has one
	// at most: inviting again makes the former code worthless. A restore drops it: see package
	// backups of codexctl.
	invitationsKey = "gate:invitations"

	// invitationLife is how long a code is good.
	invitationLife = 72 * time.Hour
)

// ErrCode reports a code that is not good for the name: not the one that was
// made, used, or too old.
var ErrCode = errors.New("this code is not good for this name, has been used, or is too old: " +
	"ask for a new one")

// Invitation lets a person choose a password, once.
type Invitation struct {
	Name  string
	Admin bool `json:",omitempty"`

	// Reset reports whether the person has an account, and gets a new password for it.
	Reset   bool `json:",omitempty"`
	Expires time.Time

	// CodeHash is the SHA-256 of the code. That has 130 random bits, which no table holds.
	CodeHash string
}

// Invite lets somebody make an account with the name, and returns the code for it.
func (a *Accounts) Invite(
	ctx context.Context, name string, admin bool,
) (code string, i *Invitation, err error) {
	if !namePattern.MatchString(name) {
		return "", nil, ErrName
	}

	_, err = a.stored(ctx, name)
	switch {
	case err == nil:
		return "", nil, ErrTaken
	case !errors.Is(err, ErrUnknown):
		return "", nil, err
	}

	return a.invite(ctx, &Invitation{Name: name, Admin: admin})
}

// Reset lets the person with the account choose a new password, and returns the code for it. The
// password that there is stays good until then.
func (a *Accounts) Reset(
	ctx context.Context, name string,
) (code string, i *Invitation, err error) {
	if _, err := a.Find(ctx, name); err != nil {
		return "", nil, err
	}
	return a.invite(ctx, &Invitation{Name: name, Reset: true})
}

func (a *Accounts) invite(ctx context.Context, i *Invitation) (string, *Invitation, error) {
	code := rand.Text()
	i.CodeHash, i.Expires = hashCode(code), time.Now().Add(invitationLife)
	b, err := json.Marshal(i)
	if err != nil {
		return "", nil, fmt.Errorf("invitations: %w", err)
	}

	for {
		old, err := a.store.Field(ctx, invitationsKey, i.Name)
		if err != nil {
			return "", nil, fmt.Errorf("invitations: %w", err)
		}

		done, err := a.store.Swap(ctx, invitationsKey, i.Name, old, string(b))
		if err != nil {
			return "", nil, fmt.Errorf("invitations: %w", err)
		}
		if done {
			return code, i, nil
		}
	}
}

// Invitations returns the invitations that are good, by name.
func (a *Accounts) Invitations(ctx context.Context) (map[string]*Invitation, error) {
	values, err := a.store.Fields(ctx, invitationsKey)
	if err != nil {
		return nil, fmt.Errorf("invitations: %w", err)
	}

	all := make(map[string]*Invitation)
	for name, value := range values {
		i := &Invitation{}
		if err := json.Unmarshal([]byte(value), i); err != nil {
			return nil, fmt.Errorf("invitations: %w", err)
		}

		if time.Now().Before(i.Expires) {
			all[name] = i
			continue
		}

		if _, err := a.store.Swap(ctx, invitationsKey, name, value, ""); err != nil {
			return nil, fmt.Errorf("invitations: %w", err)
		}
	}

	return all, nil
}

// withdraw removes the invitation of the name, and reports whether there was one.
func (a *Accounts) withdraw(ctx context.Context, name string) (bool, error) {
	for {
		old, err := a.store.Field(ctx, invitationsKey, name)
		if err != nil || old == "" {
			return false, err
		}

		done, err := a.store.Swap(ctx, invitationsKey, name, old, "")
		if err != nil || done {
			return done, err
		}
	}
}

// accept gives the account of the name the password, for the code of an invitation. Who got no
// answer may send the same again. The error is an ErrCode, an ErrBusy, one of check, of the audit,
// or of the store. who is the record of the one who has the code: without it nothing is recorded.
func (a *Accounts) accept(
	ctx context.Context, who auditlog.Record, name, code, password string,
) (*Account, error) {
	value, err := a.store.Field(ctx, invitationsKey, name)
	if err != nil {
		return nil, fmt.Errorf("invitations: %w", err)
	}
	if value == "" {
		return nil, ErrCode
	}

	i := &Invitation{}
	if err := json.Unmarshal([]byte(value), i); err != nil {
		return nil, fmt.Errorf("invitations: %w", err)
	}

	if subtle.ConstantTimeCompare([]byte(i.CodeHash), []byte(hashCode(code))) == 0 ||
		!time.Now().Before(i.Expires) {
		return nil, ErrCode
	}

	if err := check(name, password); err != nil {
		return nil, &refusal{err}
	}

	act, err := a.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return nil, err
	}

	account, err := a.use(ctx, i, password)
	if act != nil && err == nil {
		act.Record.Actor = a.names.Of(Issuer, account.Subject)
	}

	act.End(result(err))
	if err != nil {
		return nil, err
	}

	// The invitation goes last: until then the account knows that it has been used.
	if _, err := a.store.Swap(ctx, invitationsKey, name, value, ""); err != nil {
		return nil, fmt.Errorf("invitations: %w", err)
	}

	return account, nil
}

// use gives the account of the invitation the password. Of two who use it at once, one comes first,
// and the other one gets an ErrCode.
func (a *Accounts) use(ctx context.Context, i *Invitation, password string) (*Account, error) {
	now, err := a.Find(ctx, i.Name)
	switch {
	case err == nil && now.Code == i.CodeHash:
		same, err := a.hasher.matches(ctx, now, password)
		if err == nil && !same {
			err = ErrCode
		}
		if err != nil {
			return nil, err
		}

		return now, a.sessions.EndAll(ctx, a.names.Of(Issuer, now.Subject), "")
	case err != nil && !errors.Is(err, ErrUnknown):
		return nil, err
	}

	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return nil, err
	}

	if i.Reset {
		return a.setPassword(ctx, i.Name, "", func(account *Account) error {
			if account.Code == i.CodeHash {
				return ErrCode
			}

			account.Hash, account.Code = hash, i.CodeHash
			return nil
		})
	}

	account := &Account{Name: i.Name, Admin: i.Admin, Hash: hash, Code: i.CodeHash}
	return account, a.create(ctx, account)
}

// setPassword has edit give the account another password, and ends its sessions, but for that with
// the Ref except.
func (a *Accounts) setPassword(
	ctx context.Context, name, except string, edit func(*Account) error,
) (*Account, error) {
	account, err := a.change(ctx, name, edit)
	if err != nil {
		return nil, err
	}
	return account, a.sessions.EndAll(ctx, a.names.Of(Issuer, account.Subject), except)
}

// refusal is what is wrong with a password, for the person who chose it.
type refusal struct{ error }

// hashCode returns the SHA-256 of a code, which people may type in small letters and in groups.
func hashCode(code string) string {
	code = strings.ToUpper(strings.Join(strings.FieldsFunc(code, func(r rune) bool {
		return r == ' ' || r == '-'
	}), ""))
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}
