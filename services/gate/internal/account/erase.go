package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
)

// errLastAdmin reports that nobody would be left who manages the stack.
var errLastAdmin = fmt.Errorf("%w: this is the last admin's account, so make another admin first",
	owndata.ErrKept)

// ID returns the id of the person with the account.
func (a *Accounts) ID(ctx context.Context, name string) (string, error) {
	account, err := a.stored(ctx, canonical(name))
	if err != nil {
		return "", err
	}
	return a.names.Of(Issuer, account.Subject), nil
}

// Person returns the person with the account, as a session knows one.
func (a *Accounts) Person(ctx context.Context, name string) (*session.Session, error) {
	account, err := a.stored(ctx, canonical(name))
	if err != nil {
		return nil, err
	}
	return &session.Session{ID: a.names.Of(Issuer, account.Subject), Who: account.who()}, nil
}

// Erase removes the account with the name, with all that erase erases of the person with an id, and
// the invitation with the name. The account goes last, so what fails half-way can be done again.
// The error is an owndata.ErrKept if nobody would be left who manages the stack.
func (a *Accounts) Erase(
	ctx context.Context, name string, erase func(ctx context.Context, id string) error,
) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx),
		owndata.EraseTime+2*removalTime)
	defer cancel()
	name = canonical(name)
	account, err := a.stored(ctx, name)
	switch {
	case errors.Is(err, ErrUnknown):
		return a.Remove(ctx, name) // it may be an invitation's
	case err != nil:
		return err
	}

	// Nobody signs in meanwhile, and of the last two admins one sees that the other one goes.
	closed := account.Removed
	if !closed {
		if account, err = a.change(ctx, name, remove); err == nil {
			err = a.checkAdmins(ctx, account)
		}
	}

	if err == nil {
		err = erase(ctx, a.names.Of(Issuer, account.Subject))
	}

	if err != nil {
		if account != nil && !closed {
			err = errors.Join(err, a.reopen(ctx, account))
		}
		return err
	}

	return a.Remove(ctx, name)
}

// remove marks an account as one that is being removed.
func remove(account *Account) error {
	account.Removed = true
	return nil
}

// reopen takes the mark back: the person tries again.
func (a *Accounts) reopen(ctx context.Context, account *Account) error {
	open := *account
	open.Removed = false
	_, err := a.store.Swap(ctx, accountsKey, account.Name, encode(account), encode(&open))
	return err
}

// checkAdmins checks that there is an admin besides the one with the account.
func (a *Accounts) checkAdmins(ctx context.Context, account *Account) error {
	if !account.Admin {
		return nil
	}

	all, err := a.List(ctx)
	if err != nil {
		return err
	}

	for _, other := range all {
		if other.Admin && !other.Removed && other.Subject != account.Subject {
			return nil
		}
	}

	return errLastAdmin
}
