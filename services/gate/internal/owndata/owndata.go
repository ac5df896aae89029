// Package owndata gives people all that is stored of them, and erases it.
//
// The gate has sessions and keys itself. Conversations are the backend's, which is asked through
// the frontend, as for the pages, in the person's name.
package owndata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
)

// The paths of all conversations of a person, of those that another one gives, and of all that a
// person has handed over for review. Browsers may not delete the first and the last nor post to the
// second: for that there is the page, which asks who it is.
const (
	AllPath         = "/api/conversations"
	TakePath        = AllPath + "/take"
	SubmissionsPath = "/api/submissions"
)

// EraseTime bounds an erasure, which goes on after whoever asked for it has gone.
const EraseTime = 2 * time.Minute

// Data is what is stored of people.
type Data struct {
	store    *store.Store
	frontend *hop.Client
	sign     func(identity.Person) string
	sessions *session.Manager
	keys     *apikey.Keys
}

// New returns what is stored: conversations behind the frontend, which takes the tokens that sign
// makes, sessions and keys.
func New(
	st *store.Store, frontend *hop.Client, sign func(identity.Person) string,
	sessions *session.Manager, keys *apikey.Keys,
) *Data {
	return &Data{st, frontend, sign, sessions, keys}
}

// Stored reports whether anything is stored of the person with the id, besides an account.
func (d *Data) Stored(ctx context.Context, id string) (bool, error) {
	sessions, err := d.sessions.List(ctx, id)
	if err != nil || len(sessions) > 0 {
		return err == nil, err
	}

	keys, err := d.keys.List(ctx, id)
	if err != nil || len(keys) > 0 {
		return err == nil, err
	}

	used, err := d.usage(ctx, id)
	if err != nil || len(used) > 0 {
		return err == nil, err
	}

	return d.written(ctx, id)
}

// written reports whether the person with the id has conversations, or has handed something over,
// which is kept for longer than they are.
func (d *Data) written(ctx context.Context, id string) (bool, error) {
	there, err := d.conversations(ctx, id)
	if err != nil || there {
		return there, err
	}

	resp, err := d.ask(ctx, http.MethodGet, SubmissionsPath, identity.Person{ID: id}, nil)
	if err != nil {
		return false, fmt.Errorf("list what was handed over: %w", err)
	}
	defer resp.Body.Close()

	var page struct{ Submissions []struct{} } // of which none is looked at
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return false, fmt.Errorf("list what was handed over: %w", err)
	}

	return len(page.Submissions) > 0, nil
}

// conversations reports whether the person with the id has conversations.
func (d *Data) conversations(ctx context.Context, id string) (bool, error) {
	var page backendapi.ConversationPage
	err := d.frontend.JSON(ctx, http.MethodGet, AllPath+"?limit=1", nil, &page,
		d.as(identity.Person{ID: id}))
	if err != nil {
		return false, fmt.Errorf("list conversations: %w", err)
	}

	return len(page.Conversations) > 0, nil
}

// Erase erases all that is stored of the person with the id, but for the account where there is
// one, which goes last. What fails half-way can be done again. Whatever is stored by a person's id
// is erased here. who is what the audit says of the one who asks.
func (d *Data) Erase(ctx context.Context, who auditlog.Record, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EraseTime)
	defer cancel()
	who.Action, who.Object = auditlog.Erase, id
	act := d.sessions.Audit.BeginAnyway(ctx, who)
	err := d.erase(ctx, id, who.By)
	act.End(audit.Result(err))

	return err
}

func (d *Data) erase(ctx context.Context, id, by string) error {
	// The conversations go first, as they can fail: the person is signed in then, and tries again.
	// From then on the backend takes nothing new for longer than requests of before are good.
	who := identity.Person{ID: id, By: by}
	resp, err := d.ask(ctx, http.MethodDelete, AllPath, who, nil)
	if err != nil {
		return fmt.Errorf("erase conversations: %w", err)
	}

	_ = resp.Body.Close()

	return errors.Join(d.sessions.EndAll(ctx, id, ""), d.keys.RevokeAll(ctx, id),
		d.store.DropUsage(ctx, id), d.store.DropReadings(ctx, id))
}

// Withdraw returns a function that takes back all that a person has handed over for review, which
// others read also when nobody has the account any more. by is whom the audit names.
func (d *Data) Withdraw(by string) func(ctx context.Context, id string) error {
	return func(ctx context.Context, id string) error {
		who := identity.Person{ID: id, By: by}
		resp, err := d.ask(ctx, http.MethodDelete, SubmissionsPath, who, nil)
		if err != nil {
			return fmt.Errorf("take back what was handed over: %w", err)
		}

		return resp.Body.Close()
	}
}

// Rewrite has Redis forget what has been erased in its append-only file as well. It does so by
// itself only when that has grown. A Redis of another owner may refuse it.
func (d *Data) Rewrite(ctx context.Context) error {
	return d.store.Rewrite(context.WithoutCancel(ctx))
}

// Move gives the conversations of the person with the first id to the one with the second id. Both
// are signed out, and the first one's keys are revoked: they were made for somebody else. What
// fails half-way can be done again. who is what the audit says of the one who asks.
func (d *Data) Move(ctx context.Context, who auditlog.Record, from, to string) error {
	return d.recorded(ctx, who, from, to, d.move)
}

// recorded moves conversations from one person to another one, and records that.
func (d *Data) recorded(
	ctx context.Context, who auditlog.Record, from, to string,
	move func(ctx context.Context, from, to string) error,
) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EraseTime)
	defer cancel()
	detail := map[string]string{"to": to}
	maps.Copy(detail, who.Detail)
	who.Action, who.Object, who.Detail = auditlog.Move, from, detail
	act, err := d.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return err
	}

	err = move(ctx, from, to)
	act.End(audit.Result(err))

	return err
}

func (d *Data) move(ctx context.Context, from, to string) error {
	for _, id := range []string{from, to} {
		if err := d.sessions.EndAll(ctx, id, ""); err != nil {
			return err
		}
	}

	return d.give(ctx, from, to)
}

// give moves the conversations, and revokes the keys of who had them.
func (d *Data) give(ctx context.Context, from, to string) error {
	// The token of the other person says that it is the gate that moves them.
	consent := backendapi.Take{From: d.sign(identity.Person{ID: from})}
	resp, err := d.ask(hop.Repeatable(ctx), http.MethodPost, TakePath, identity.Person{ID: to},
		consent)
	if err != nil {
		return fmt.Errorf("move conversations: %w", err)
	}

	_ = resp.Body.Close()

	return d.keys.RevokeAll(ctx, from)
}

// ask asks the backend in the name of the person.
func (d *Data) ask(
	ctx context.Context, method, path string, who identity.Person, body any,
) (*http.Response, error) {
	return d.frontend.Do(ctx, method, path, body, d.as(who))
}

// as returns the header of a request in the name of the person.
func (d *Data) as(who identity.Person) http.Header {
	token := d.sign(who)
	return http.Header{"Authorization": {identity.Authorization(token)}}
}

// Account is what is known of a person.
type Account struct {
	Name    string   `json:"name"`
	Issuer  string   `json:"issuer"`
	Subject string   `json:"subject"`
	Admin   bool     `json:"admin"`
	Groups  []string `json:"groups"`
}

// Session is a session as an export has it.
type Session struct {
	Browser string    `json:"browser"`
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	Seen    time.Time `json:"last_used"`
	Ends    time.Time `json:"ends"`
}

// Key is a key as an export has it: with nothing of the secret.
type Key struct {
	Name    string         `json:"name"`
	Scopes  []apikey.Scope `json:"scopes"`
	Made    time.Time      `json:"made"`
	Expires time.Time      `json:"expires,omitzero"`
	Used    time.Time      `json:"last_used,omitzero"`
}

// Summary is an export without the conversations.
type Summary struct {
	Account  Account   `json:"account"`
	Sessions []Session `json:"sessions"`
	Keys     []Key     `json:"keys"`

	// Usage is what was used of the models, the newest day first.
	Usage []usage.Day `json:"usage"`

	// Readings are when whoever operates the stack read all this, the newest first.
	Readings []Reading `json:"readings"`
}

// The formats of an export: JSON of all, and a ZIP archive with the conversations in Markdown.
const (
	JSON     = "json"
	Markdown = "markdown"
)

// Export returns all that is stored of the person who is signed in. The caller reads it, as it
// comes, and closes it.
func (d *Data) Export(
	ctx context.Context, me *session.Session, format string,
) (io.ReadCloser, error) {
	return d.export(ctx, me, "", format)
}

// export is Export, for who is called by if that is not the person.
func (d *Data) export(
	ctx context.Context, me *session.Session, by, format string,
) (io.ReadCloser, error) {
	var head []byte
	if format == JSON {
		s, err := d.summary(ctx, me)
		if err != nil {
			return nil, err
		}
		if head, err = json.MarshalIndent(s, "", "  "); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}

	who := identity.Person{ID: me.ID, By: by}
	resp, err := d.ask(ctx, http.MethodGet, AllPath+"/export?format="+format, who, nil)
	if err != nil {
		return nil, fmt.Errorf("export conversations: %w", err)
	}
	if head == nil {
		return resp.Body, nil
	}

	return joined(head, resp.Body)
}

// summary returns what the gate itself knows of the person.
func (d *Data) summary(ctx context.Context, me *session.Session) (Summary, error) {
	s := Summary{
		Account: Account{me.Name, me.Issuer, me.Subject, me.Admin,
			append([]string{}, me.Groups...)},
		Sessions: []Session{},
		Keys:     []Key{},
	}

	sessions, err := d.sessions.List(ctx, me.ID)
	if err != nil {
		return s, err
	}

	for _, x := range sessions {
		s.Sessions = append(s.Sessions, Session{
			x.Browser, x.Address, x.Since.UTC(), x.Seen.UTC(), x.Deadline.UTC(),
		})
	}

	keys, err := d.keys.List(ctx, me.ID)
	if err != nil {
		return s, err
	}

	for _, k := range keys {
		s.Keys = append(s.Keys, Key{k.Name, k.Scopes, k.Made, k.Expires, k.Used})
	}

	if s.Usage, err = d.usage(ctx, me.ID); err != nil {
		return s, err
	}

	s.Readings, err = d.Readings(ctx, me.ID)
	return s, err
}

// usage returns what the person has used.
func (d *Data) usage(ctx context.Context, id string) ([]usage.Day, error) {
	used, err := d.store.Usage(ctx, []string{id})
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return usage.Days(used[0])
}
