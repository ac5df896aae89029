package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

// commands names in records the gate that runs a command of codexctl.
const commands = "codexctl"

// flag returns the value of the flag, if it is the first of the arguments, and those after it.
func flag(args []string, name string) (string, []string) {
	if len(args) > 0 {
		if value, ok := strings.CutPrefix(args[0], name); ok {
			return value, args[1:]
		}
	}
	return "", args
}

// user manages the accounts, in a gate's container. `--at=URL` says where the site is, and after it
// `--by=NAME` who asks.
func user(ctx context.Context, args, environ []string, stdout io.Writer) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}

	site, args := flag(args, "--at=")
	site = strings.TrimSuffix(site, "/")
	by, args := flag(args, "--by=")
	about := len(args) > 0 && // what is stored of somebody
		slices.Contains([]string{"read", "erase", "move", "sign-out"}, args[0])
	if cfg.SignIn != gateenv.Accounts && !(about && cfg.SignIn == gateenv.OIDC) {
		return fmt.Errorf("nobody has an account in this stack: SIGN_IN is %s, not %s", cfg.SignIn,
			gateenv.Accounts)
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	o, err := open(ctx, &cfg, at)
	if err != nil {
		return err
	}
	defer o.store.Close()

	records, err := audit.Open(&cfg.Auditing, at, commands, o.log, nil)
	if err != nil {
		return err
	}
	defer records.Close()

	o.sessions.Audit = records
	accounts := account.New(o.store, o.names, o.sessions)
	keys := newKeys(o.store, cfg)
	accounts.OnRemove(keys.RevokeAll)
	accounts.OnRemove(o.store.DropUsage)
	accounts.OnRemove(o.store.DropReadings)
	removes := len(args) > 0 && args[0] == "remove"
	var data *owndata.Data
	if about || removes {
		if data, err = openData(ctx, &cfg, o, keys); err != nil {
			return err
		}
	}

	if about {
		c := &dataCommand{cfg, data, o.names, accounts, o.sessions, by}
		err = c.run(ctx, args, stdout)
	} else {
		if removes {
			accounts.OnRemove(data.Withdraw(cmp.Or(by, commands)))
		}
		err = accounts.Command(ctx, args, site, by, stdout)
	}

	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", o.address, err)
	}

	return err
}
