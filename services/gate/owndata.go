package main

import (
	"context"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
)

// accountData returns the page of the data of people with accounts, which go with the account.
func accountData(
	site *account.Site, accounts *account.Accounts, data *owndata.Data,
) *owndata.Site {
	return &owndata.Site{
		Site:    site.Site,
		Data:    data,
		Confirm: site.Confirm,
		Erase: func(ctx context.Context, me *session.Session) error {
			return accounts.Erase(ctx, me.Name, erased(data, me))
		},
	}
}

// providedData returns the page of the data of people whom an OpenID provider signs in.
func providedData(site *session.Site, data *owndata.Data) *owndata.Site {
	return &owndata.Site{
		Site:    site,
		Data:    data,
		Confirm: owndata.TypedName,
		Erase: func(ctx context.Context, me *session.Session) error {
			return erased(data, me)(ctx, me.ID)
		},
	}
}

// erased returns the function that erases what is stored of a person who asks for that.
func erased(data *owndata.Data, me *session.Session) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		return data.Erase(ctx, auditlog.Record{Actor: me.ID}, id)
	}
}
