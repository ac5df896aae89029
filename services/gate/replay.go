package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
)

const replayUsage = `usage: gate replay BACKUP   after the restore of a backup, do again what the list of
                           records on the standard input says was done since, and
                           print what was done as JSON`

// maxReplay bounds the list of records in bytes.
const maxReplay = 256 << 20

// replayed is what `gate replay` prints.
type replayed struct {
	// Done counts the acts that were done again, or of which nothing was there to do, by their
	// actions.
	Done map[auditlog.Action]int `json:"done"`

	// Left names those that cannot be done again, and Failed those that can be by hand.
	Left   []string `json:"left"`
	Failed []string `json:"failed"`
}

// replayer does again what was done since a backup.
type replayer struct {
	by       string
	backup   string
	key      auditlog.Key
	records  *audit.Recorder
	data     *owndata.Data
	accounts *account.Accounts
	keys     *apikey.Keys

	// removeDocument removes the document of a collection that records call so; it is nil where the
	// stack has no documents.
	removeDocument func(ctx context.Context, collection, object string) error
}

// replay does again what was erased, removed and revoked since a backup that has been restored.
// `--by=NAME` says who asks.
func replay(
	ctx context.Context, args, environ []string, in io.Reader, stdout io.Writer,
) error {
	by, args := flag(args, "--by=")
	if len(args) != 1 {
		return errors.New(replayUsage)
	}

	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}
	if !cfg.Audit {
		return errors.New("nothing is recorded in this stack: nobody signs in")
	}

	var list []auditlog.Record
	if err := json.NewDecoder(io.LimitReader(in, maxReplay)).Decode(&list); err != nil {
		return fmt.Errorf("the list of records: %w", err)
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

	secret, err := contract.Secret("AUDIT_KEY_FILE", cfg.AuditKeyFile)
	if err != nil {
		return err
	}
	records, err := audit.Open(&cfg.Auditing, at, commands, o.log, nil)
	if err != nil {
		return err
	}
	defer records.Close()

	signer := identity.NewSigner(identity.Gate)
	if err := signer.Publish(ctx, o.store.Publish); err != nil {
		return fmt.Errorf("%s: %w", o.address, err)
	}
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	frontend := hop.New("frontend", cfg.FrontendURL)
	frontend.Secure(who.Client())
	o.sessions.Audit = records
	keys := newKeys(o.store, cfg)
	keys.Audit = records
	r := &replayer{
		by: by, backup: args[0], key: auditlog.NewKey(secret), records: records, keys: keys,
		accounts: account.New(o.store, o.names, o.sessions),
		data: owndata.New(o.store, frontend,
			func(p identity.Person) string { return signer.Sign(p, identity.Backend) },
			o.sessions, keys),
	}
	r.accounts.OnRemove(keys.RevokeAll)
	r.accounts.OnRemove(o.store.DropUsage)
	r.accounts.OnRemove(o.store.DropReadings)
	r.accounts.OnRemove(r.data.Withdraw(cmp.Or(by, commands)))
	if peer := newKnowledge(cfg, who); peer != nil {
		documents := newDocuments(peer, signer)
		person := identity.Person{Name: by, By: by, Admin: true}
		r.removeDocument = func(ctx context.Context, collection, object string) error {
			return documents.RemoveRecorded(ctx, person, collection, func(file string) bool {
				return r.key.Name("document", collection+"/"+file) == object
			})
		}
	}

	act, err := records.Begin(ctx, auditlog.Record{
		Action: auditlog.Restore, By: by, Detail: map[string]string{"backup": args[0]},
	})
	if err != nil {
		return err
	}
	done, err := r.run(ctx, list)
	outcome := auditlog.Done
	if err != nil || len(done.Failed) > 0 {
		outcome = auditlog.Failed
	}
	act.End(outcome)
	if err != nil {
		return err
	}

	if err := r.data.Rewrite(ctx); err != nil {
		done.Failed = append(done.Failed, fmt.Sprintf("Redis does not write its append-only file "+
			"anew, which has what was erased until then: %v", err))
	}
	return json.NewEncoder(stdout).Encode(done)
}

// takes are the acts by which all that somebody had written or handed over goes.
var takes = []auditlog.Action{auditlog.Erase, auditlog.UserRemoved, auditlog.Withdrawal}

// run does the acts again, in their order.
func (r *replayer) run(ctx context.Context, list []auditlog.Record) (replayed, error) {
	slices.SortStableFunc(list, func(a, b auditlog.Record) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Number, b.Number))
	})

	out := replayed{Done: map[auditlog.Action]int{}, Left: []string{}, Failed: []string{}}
	names, err := r.accounts.Recorded(ctx, r.key) // before any of them is removed
	if err != nil {
		return out, err
	}

	seen := map[string]bool{}
	unmoved := map[string]bool{} // people of whom somebody else could not be given what was theirs
	for _, e := range list {
		if seen[e.ID] { // a list may have an act twice
			continue
		}
		seen[e.ID] = true

		var known bool
		var err error
		if unmoved[cmp.Or(e.Object, e.Actor)] && slices.Contains(takes, e.Action) {
			err = errors.New("what was moved to somebody else first would be erased with it")
		} else {
			known, err = r.again(ctx, e)
		}

		switch {
		case err != nil:
			unmoved[e.Object] = unmoved[e.Object] || e.Action == auditlog.Move
			out.Failed = append(out.Failed, fmt.Sprintf("%s: %v", describe(e, names), err))
		case known:
			out.Done[e.Action]++
		default:
			out.Left = append(out.Left, describe(e, names))
		}
	}
	return out, nil
}

// describe says when what was done to whom or what. names are those of the accounts, by what records
// call them.
func describe(e auditlog.Record, names map[string]string) string {
	object := cmp.Or(e.Object, e.Actor)
	text := fmt.Sprintf("%s %s of %s", e.Time.UTC().Format(time.DateTime), e.Action,
		cmp.Or(names[object], object))
	if to := e.Detail["to"]; to != "" {
		text += " to " + cmp.Or(names[to], to)
	}
	if collection := e.Detail["collection"]; collection != "" {
		text += " in " + collection
	}
	return text
}

// again does an act again. It reports false for one that cannot be.
func (r *replayer) again(ctx context.Context, e auditlog.Record) (known bool, err error) {
	switch e.Action {
	case auditlog.Erase:
		return true, r.erase(ctx, e.Object)
	case auditlog.Move:
		return r.move(ctx, e)
	case auditlog.UserRemoved:
		return true, r.remove(ctx, e)
	case auditlog.KeyRevoked:
		return true, r.revoke(ctx, e)
	case auditlog.Delete:
		_, err := r.data.DeleteAgain(ctx, e.Actor, r.by, map[string]bool{e.Object: true})
		return true, err
	case auditlog.Withdrawal:
		return true, r.data.WithdrawAgain(ctx, e.Actor, cmp.Or(r.by, commands), e.Object)
	case auditlog.DocumentRemoved:
		if r.removeDocument == nil {
			return false, nil
		}
		return true, r.removeDocument(ctx, e.Detail["collection"], e.Object)
	}
	return false, nil
}

// record records an act that is done again by what records nothing: a backup that was made before
// it was has to know.
func (r *replayer) record(ctx context.Context, e auditlog.Record) error {
	return r.records.Record(ctx, auditlog.Record{
		Action: e.Action, Actor: e.Actor, By: r.by, Object: e.Object,
	}, auditlog.Done)
}

// restoredDetail is what a record of a move has, with the name of the backup, that was done again.
const restoredDetail = "restored"

// move gives the conversations again. What was moved by a restore is not: who had them may have
// written others in what that restore replaced, and a backup of it may be what is restored now.
func (r *replayer) move(ctx context.Context, e auditlog.Record) (known bool, err error) {
	if e.Detail[restoredDetail] != "" {
		return false, nil
	}
	who := auditlog.Record{By: r.by, Detail: map[string]string{restoredDetail: r.backup}}
	return true, r.data.Move(ctx, who, e.Object, e.Detail["to"])
}

// revoke ends a key, or all of a person's or a browser's.
func (r *replayer) revoke(ctx context.Context, e auditlog.Record) error {
	if e.Object != e.Actor && e.Actor != "" {
		found, err := r.keys.RevokeRecorded(ctx, e.Actor, e.Object)
		if err != nil {
			return err
		}
		if found {
			return r.record(ctx, e)
		}
		// All of what a browser had are named by the browser; nothing else is.
	}

	list, err := r.keys.List(ctx, e.Object)
	if err == nil {
		err = r.keys.RevokeAll(ctx, e.Object)
	}
	if err != nil || len(list) == 0 {
		return err
	}
	return r.record(ctx, e)
}

// name returns the name of the account that records call so, "" if there is none.
func (r *replayer) name(ctx context.Context, object string) (string, error) {
	names, err := r.accounts.Recorded(ctx, r.key)
	return names[object], err
}

// erase erases all that is stored of the person with the id, with the account.
func (r *replayer) erase(ctx context.Context, id string) error {
	erase := func(ctx context.Context, id string) error {
		return r.data.Erase(ctx, auditlog.Record{By: r.by}, id)
	}

	name, err := r.name(ctx, id)
	if err != nil {
		return err
	}
	if name == "" {
		return erase(ctx, id)
	}

	err = r.accounts.Erase(ctx, name, erase)
	if errors.Is(err, owndata.ErrKept) {
		// Who is the last admin now was not when the account was erased.
		err = errors.Join(erase(ctx, id), err)
	}
	return err
}

// remove removes the account that the record names, if there is one.
func (r *replayer) remove(ctx context.Context, e auditlog.Record) error {
	name, err := r.name(ctx, e.Object)
	if err != nil || name == "" {
		return err
	}
	if err := r.accounts.Remove(ctx, name); err != nil {
		return err
	}
	return r.record(ctx, e)
}
