package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/maintenance"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/oidc"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

const maintenanceUsage = `usage: gate maintenance               print the notice as JSON, null if there is none
       gate maintenance on BY [MESSAGE]  put a notice up
       gate maintenance off BY           take it down`

// duringMaintenance reports whether a request is answered while a notice is up: the looks of the
// page, the state of the stack, who follows or stops an answer that is being written, and who
// leaves.
func duringMaintenance(r *http.Request) bool {
	switch path := r.URL.Path; path {
	case "/api/status", session.SignOutPath, oidc.BackChannelPath:
		return true
	default:
		return strings.HasPrefix(path, "/static/") || resumable(r)
	}
}

// maintain puts up the notice of maintenance or takes it down, in a gate's container. All gates have
// it within a second.
func maintain(ctx context.Context, args, environ []string, stdout io.Writer) error {
	on := len(args) > 0 && args[0] == "on"
	if n := len(args); n != 0 && !(on && (n == 2 || n == 3)) && !(n == 2 && args[0] == "off") {
		return errors.New(maintenanceUsage)
	}

	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
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

	if len(args) == 0 {
		n, err := maintenance.Get(ctx, o.store)
		if err != nil {
			return fmt.Errorf("%s: %w", o.address, err)
		}
		return json.NewEncoder(stdout).Encode(n)
	}

	var n *maintenance.Notice
	if on {
		if n, err = maintenance.New(strings.Join(args[2:], ""), args[1], time.Now()); err != nil {
			return err
		}
	}

	records, err := audit.Open(&cfg.Auditing, at, commands, o.log, nil)
	if err != nil {
		return err
	}
	defer records.Close()

	act, err := records.Begin(ctx, auditlog.Record{
		Action: auditlog.Maintenance, By: args[1], Detail: map[string]string{"state": args[0]},
	})
	if err != nil {
		return err
	}

	err = maintenance.Put(ctx, o.store, n)
	act.End(audit.Result(err))
	if err != nil {
		return fmt.Errorf("%s: %w", o.address, err)
	}
	return nil
}
