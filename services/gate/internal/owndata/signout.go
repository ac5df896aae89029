package owndata

import (
	"context"
	"errors"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

// SignOut ends all sessions of the person with the id and revokes all keys, and returns how many
// there were. Nothing else of the person changes. It needs Redis alone, so that somebody can be shut
// out of a stack that is half down. who is what the audit says of the one who asks; nothing is
// recorded where there is nothing to end.
func (d *Data) SignOut(
	ctx context.Context, who auditlog.Record, id string,
) (sessions, keys int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EraseTime)
	defer cancel()
	open, err := d.sessions.List(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	made, err := d.keys.List(ctx, id)
	if err != nil {
		return 0, 0, err
	}

	// The restore of a backup does again what is recorded as a revocation, and ends all sessions.
	for _, part := range []struct {
		action auditlog.Action
		found  int
		end    func() error
	}{
		{auditlog.SignOut, len(open), func() error { return d.sessions.EndAll(ctx, id, "") }},
		{auditlog.KeyRevoked, len(made), func() error { return d.keys.RevokeAll(ctx, id) }},
	} {
		var act *audit.Act
		if part.found > 0 {
			record := who
			record.Action, record.Object = part.action, id
			act = d.sessions.Audit.BeginAnyway(ctx, record)
		}

		ended := part.end()
		act.End(audit.Result(ended))
		err = errors.Join(err, ended)
	}

	return len(open), len(made), err
}
