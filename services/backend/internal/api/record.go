package api

import (
	"context"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
)

// record returns what the audit says of an act of the owner's, about the thing of
// the kind with the id. One of whoever operates the stack is about the owner.
func (a *API) record(
	ctx context.Context, action auditlog.Action, owner, kind, id string,
) auditlog.Record {
	me := identity.From(ctx)
	if me.By != "" {
		return auditlog.Record{Action: action, By: me.By, Object: owner}
	}

	return auditlog.Record{
		Action:  action,
		Actor:   owner,
		Address: me.Address,
		Object:  a.Audit.Name(kind, id),
	}
}

// The kinds of what acts are about.
const (
	aConversation = "conversation"
	anAnswer      = "answer"
)

// refusals are the errors of what a person may not do.
var refusals = []error{
	store.ErrNotFound, store.ErrBusy, store.ErrChanged, store.ErrFull, store.ErrKeyReused,
	store.ErrTooMuch, store.ErrTooMany, store.ErrErased, store.ErrSpread, store.ErrSubmissions,
}

// result returns the outcome of an act with the error.
func result(err error) auditlog.Outcome { return audit.Result(err, refusals...) }
