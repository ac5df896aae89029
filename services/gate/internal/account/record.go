package account

import (
	"context"
	"errors"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

// actions are what admins do to accounts, by the words for it.
var actions = map[string]auditlog.Action{
	"invite": auditlog.UserInvited,
	"reset":  auditlog.UserReset,
	"admin":  auditlog.UserAdmin,
	"member": auditlog.UserMember,
	"groups": auditlog.UserGroups,
	"remove": auditlog.UserRemoved,
}

// recorded does to the account of the name what the word says, between two records of it. who is
// the record of the one who asks.
func (a *Accounts) recorded(
	ctx context.Context, who auditlog.Record, word, name string, do func() error,
) error {
	who.Action, who.Object = actions[word], a.object(ctx, name)
	act, err := a.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return err
	}

	err = do()
	act.End(result(err))
	return err
}

// kind is what names in records are of where there is no account.
const kind = "name"

// object returns what records call the account of the name, or the name if there is no account.
func (a *Accounts) object(ctx context.Context, name string) string {
	if a.sessions.Audit == nil {
		return ""
	}
	if account, err := a.stored(ctx, name); err == nil {
		return a.names.Of(Issuer, account.Subject)
	}
	return a.sessions.Audit.Name(kind, name)
}

// Recorded returns the names of the accounts by what records call them.
func (a *Accounts) Recorded(ctx context.Context, key auditlog.Key) (map[string]string, error) {
	all, err := a.List(ctx)
	if err != nil {
		return nil, err
	}

	names := make(map[string]string, 2*len(all))
	for _, account := range all {
		names[a.names.Of(Issuer, account.Subject)] = account.Name
		names[key.Name(kind, account.Name)] = account.Name
	}

	return names, nil
}

// result returns the outcome of an act with the error.
func result(err error) auditlog.Outcome {
	if _, unfit := errors.AsType[*refusal](err); unfit {
		return auditlog.Refused
	}
	return audit.Result(err, ErrName, ErrTaken, ErrUnknown, ErrCode, errSelf)
}
