package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

// usage is the error for a command line that is none.
const usage = `usage: gate user list
       gate user invite NAME [--admin]     let somebody make an account
       gate user reset NAME                let somebody choose a new password
       gate user admin|member NAME         say what somebody may do
       gate user groups NAME [GROUP...]    say of which groups somebody is
       gate user remove NAME               remove an account or an invitation
       gate user sign-out PERSON           end somebody's sessions and keys
       gate user erase PERSON              erase all that is stored of somebody
       gate user move FROM TO              give somebody's conversations to somebody else`

// Command runs the command line of `gate user`, for the person who calls themselves by. The page for
// a code is at the site.
func (a *Accounts) Command(
	ctx context.Context, args []string, site, by string, out io.Writer,
) error {
	admin := false
	if i := slices.Index(args, "--admin"); i >= 0 && len(args) > 1 && args[0] == "invite" {
		admin, args = true, slices.Delete(slices.Clone(args), i, i+1)
	}

	if len(args) == 1 && args[0] == "list" {
		return a.printAll(ctx, out)
	}
	if len(args) < 2 || len(args) > 2 && args[0] != "groups" || strings.HasPrefix(args[1], "-") {
		return errors.New(usage)
	}

	name := canonical(args[1])
	if actions[args[0]] == "" {
		return fmt.Errorf("%s: %s", name, usage)
	}

	var said string
	err := a.recorded(ctx, auditlog.Record{By: by}, args[0], name, func() (err error) {
		said, err = a.command(ctx, args, name, site, admin)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}

	_, err = fmt.Fprintln(out, said)
	return err
}

// command does what the words say to the account of the name, and returns what to say of it.
func (a *Accounts) command(
	ctx context.Context, args []string, name, site string, admin bool,
) (said string, err error) {
	switch args[0] {
	case "invite", "reset":
		code, i := "", &Invitation{}
		if args[0] == "invite" {
			code, i, err = a.Invite(ctx, name, admin)
		} else {
			code, i, err = a.Reset(ctx, name)
		}

		said = fmt.Sprintf("Give %s this address and this code, which is shown only now:\n\n"+
			"  %s\n  %s\n\nThe code is good once, until %s.", name, site+invitationPath, code,
			i.expires())
	case "admin", "member":
		said = name + " is " + words[args[0]] + " now, and has to sign in again."
		err = a.SetAdmin(ctx, name, args[0] == "admin")
	case "groups":
		said = name + " is of these groups now, and has to sign in again."
		err = a.SetGroups(ctx, name, args[2:])
	case "remove":
		said, err = name+" has been removed.", a.Remove(ctx, name)
	}
	return said, err
}

// expires returns when the invitation expires as people say it.
func (i *Invitation) expires() string {
	if i == nil {
		return ""
	}
	return i.Expires.UTC().Format("2 Jan 2006, 15:04 UTC")
}

// printAll prints all accounts and invitations.
func (a *Accounts) printAll(ctx context.Context, out io.Writer) error {
	all, err := a.List(ctx)
	if err != nil {
		return err
	}

	invitations, err := a.Invitations(ctx)
	if err != nil {
		return err
	}

	if len(all)+len(invitations) == 0 {
		_, err := fmt.Fprintln(out,
			"Nobody has an account. Invite an admin: user invite NAME --admin")
		return err
	}

	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tMAY\tGROUPS\tSINCE")
	for _, account := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", account.Name, role(account.Admin),
			strings.Join(account.Groups, ", "), account.Since.Format(time.DateOnly))
	}

	for _, name := range slices.Sorted(maps.Keys(invitations)) {
		if i := invitations[name]; !i.Reset {
			fmt.Fprintf(table, "%s\t%s\t\tinvited until %s\n", name, role(i.Admin), i.expires())
		}
	}

	return table.Flush()
}

// role returns what a person may do.
func role(admin bool) string {
	if admin {
		return "admin"
	}
	return "member"
}
