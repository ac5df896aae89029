package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
)

// dataUsage is the error for a command line that is none.
const dataUsage = `usage: gate user erase PERSON   erase all that is stored of somebody
       gate user move FROM TO     give somebody's conversations to somebody else
       gate user sign-out PERSON  end somebody's sessions and keys
       gate user read PERSON REASON   print all that is stored of somebody, and record why
       gate user read -               the same, with the two as a JSON array on the standard input

FROM may be browser:ID as well, which the page Usage tells where nobody signs in, and gate usage
--json then and later.

A person is account:NAME, ISSUER#SUBJECT, or as the stack's own sign-in knows people: the
name of an account, or the subject at the provider`

// maxWords bounds what readWords reads, in bytes: more than the names of files that a command line
// of Linux can hold.
const maxWords = 4 << 20

// readWords returns the command line, where one whose last words are to be read has those of a JSON
// array in the place of the last one: other people of the machine can see a command line, and an
// engine or a cluster may record it.
func readWords(args []string, in io.Reader) ([]string, error) {
	if !wordsFollow(args) {
		return args, nil
	}

	n := len(args)
	var words []string // it may have no end that can be seen here
	if err := json.NewDecoder(io.LimitReader(in, maxWords)).Decode(&words); err != nil {
		return nil, fmt.Errorf("read the words of gate %s: %w", args[0], err)
	}

	return append(args[:n-1:n-1], words...), nil
}

// openData returns what is stored of people, for a command.
func openData(
	ctx context.Context, cfg *gateenv.Config, o *opened, keys *apikey.Keys,
) (*owndata.Data, error) {
	signer := identity.NewSigner(identity.Gate)
	if err := signer.Publish(ctx, o.store.Publish); err != nil {
		return nil, err
	}

	sign := func(p identity.Person) string { return signer.Sign(p, identity.Backend) }
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return nil, err
	}

	frontend := hop.New("frontend", cfg.FrontendURL)
	frontend.Secure(who.Client())
	return owndata.New(o.store, frontend, sign, o.sessions, keys), nil
}

// wordsFollow reports whether the last words of a command line are on the standard input: those of
// `gate user read -`, `gate learn review -` and `gate knowledge remove COLLECTION -`.
func wordsFollow(args []string) bool {
	n := len(args)
	if n < 3 || args[n-1] != "-" {
		return false
	}

	switch args[0] {
	case "user":
		return args[n-2] == "read"
	case "learn":
		return args[n-2] == "review"
	case "knowledge":
		return args[n-3] == "remove"
	}
	return false
}

// dataCommand runs the commands that are about people's data.
type dataCommand struct {
	cfg      gateenv.Config
	data     *owndata.Data
	names    *pseudonym.Names
	accounts *account.Accounts
	sessions *session.Manager

	by string // who asks, as the machine of codexctl calls them
}

// run runs the command line.
func (c *dataCommand) run(ctx context.Context, args []string, stdout io.Writer) error {
	people := args[1:]
	if args[0] == "read" && len(args) == 3 {
		people = args[1:2]
	}

	for _, word := range people {
		if word == "" || strings.HasPrefix(word, "-") {
			return errors.New(dataUsage)
		}
	}

	var said string
	var err error
	switch {
	case args[0] == "erase" && len(args) == 2:
		said, err = c.erase(ctx, args[1])
	case args[0] == "move" && len(args) == 3:
		said, err = c.move(ctx, args[1], args[2])
	case args[0] == "sign-out" && len(args) == 2:
		said, err = c.signOut(ctx, args[1])
	case args[0] == "read" && len(args) == 3:
		return c.read(ctx, args[1], args[2], stdout)
	default:
		err = errors.New(dataUsage)
	}

	if err != nil {
		return err
	}

	_, err = fmt.Fprintln(stdout, said)
	return err
}

// erase erases all that is stored of the person, and returns what to say.
func (c *dataCommand) erase(
	ctx context.Context, who string,
) (said string, err error) {
	erase := func(ctx context.Context, id string) error {
		return c.data.Erase(ctx, auditlog.Record{By: c.by}, id)
	}
	if name, ok := c.account(who); ok {
		err = c.accounts.Erase(ctx, name, erase)
	} else {
		id := c.provided(who)
		if err := stored(ctx, c.data, who, id); err != nil {
			return "", err
		}
		err = erase(ctx, id)
	}

	if err != nil {
		return "", fmt.Errorf("%s: %w", who, err)
	}

	said = fmt.Sprintf("All that was stored of %s has been erased.", who)
	if err := c.data.Rewrite(ctx); err != nil {
		said += fmt.Sprintf(" Redis does not write its append-only file anew, which has it until "+
			"then: %v.", err)
	}

	return said, nil
}

// move gives the conversations of one person, or of a browser, to another person, and returns what
// to say.
func (c *dataCommand) move(
	ctx context.Context, from, to string,
) (said string, err error) {
	if id, ok := formerBrowser(from); ok {
		return c.take(ctx, from, id, to)
	}

	var ids [2]string
	for i, who := range []string{from, to} {
		if ids[i], err = c.id(ctx, who); err != nil {
			return "", fmt.Errorf("%s: %w", who, err)
		}
	}

	if ids[0] == ids[1] {
		return "", fmt.Errorf("%s and %s are the same person", from, to)
	}

	if err := stored(ctx, c.data, from, ids[0]); err != nil {
		return "", err
	}

	if err := c.known(ctx, to, ids[1]); err != nil {
		return "", err
	}

	if err := c.data.Move(ctx, auditlog.Record{By: c.by}, ids[0], ids[1]); err != nil {
		return "", fmt.Errorf("%s to %s: %w", from, to, err)
	}

	return fmt.Sprintf("%s has the conversations of %s now. Both have to sign in again; the keys of "+
		"%s are revoked.", to, from, from), nil
}

// take gives the conversations that a browser had before people signed in to a person, and returns
// what to say.
func (c *dataCommand) take(
	ctx context.Context, browser, from, to string,
) (said string, err error) {
	id, err := c.id(ctx, to)
	if err != nil {
		return "", fmt.Errorf("%s: %w", to, err)
	}

	if from == id {
		return "", fmt.Errorf("%s and %s are the same person", browser, to)
	}

	if err := stored(ctx, c.data, browser, from); err != nil {
		return "", err
	}
	if err := c.known(ctx, to, id); err != nil {
		return "", err
	}

	// People have such ids as well, and are signed out by a move.
	signs, err := c.signsIn(ctx, from)
	if err != nil {
		return "", err
	}
	if signs {
		return "", fmt.Errorf("%s is no browser, but somebody who signs in: write %s as who it is",
			browser, browser)
	}

	if err := c.data.Take(ctx, auditlog.Record{By: c.by}, from, id); err != nil {
		return "", fmt.Errorf("%s to %s: %w", browser, to, err)
	}

	return fmt.Sprintf("%s has the conversations of %s now, whose keys are revoked.", to, browser), nil
}

// signsIn reports whether the id is that of an account, or of somebody who has signed in: of a
// provider's people it is known for a while after their last session.
func (c *dataCommand) signsIn(ctx context.Context, id string) (bool, error) {
	names, err := c.accounts.Names(ctx, nil)
	if err != nil || names[id] != "" {
		return err == nil, err
	}
	return c.sessions.Knows(ctx, id)
}

// known returns an error if nothing is known of the person with the id, who is to get something. An
// account was made by a person, but anything may be the name of one at a provider.
func (c *dataCommand) known(ctx context.Context, who, id string) error {
	if _, ok := c.account(who); ok {
		return nil
	}

	if err := stored(ctx, c.data, who, id); err != nil {
		return fmt.Errorf("%w: let them sign in first, if this is how they are called", err)
	}
	return nil
}

// formerBrowser returns the id of the person as whom a browser was known where nobody signed in, of
// one that is written browser:ID.
func formerBrowser(who string) (id string, ok bool) {
	id, ok = strings.CutPrefix(who, "browser:")
	return id, ok && pseudonym.Is(id)
}

// signOut ends the sessions and keys of the person, and returns what to say.
func (c *dataCommand) signOut(ctx context.Context, who string) (said string, err error) {
	id, err := c.id(ctx, who)
	if err != nil {
		return "", fmt.Errorf("%s: %w", who, err)
	}

	sessions, keys, err := c.data.SignOut(ctx, auditlog.Record{By: c.by}, id)
	if err != nil {
		return "", fmt.Errorf("%s: %w", who, err)
	}

	// Anything may be the name of somebody at a provider.
	if _, ok := c.account(who); !ok && sessions+keys == 0 {
		return "", fmt.Errorf("%s: nobody of this name is signed in or has a key: it is what the "+
			"provider's tokens call the person in the claim sub", who)
	}

	return fmt.Sprintf("%s is signed out. Sessions that ended: %d. Keys that are revoked: %d.", who,
		sessions, keys), nil
}

// read prints all that is stored of the person, for the reason.
func (c *dataCommand) read(
	ctx context.Context, who, reason string, stdout io.Writer,
) error {
	err := c.data.CheckReader(c.by, reason)
	if err != nil {
		return err
	}

	// Whether a name has an account is in the list of accounts, and nothing
	// that is stored of anyone.
	id, err := c.id(ctx, who)
	if err == nil {
		err = c.data.Read(ctx, stdout, auditlog.Record{By: c.by}, id, reason,
			func(ctx context.Context) (*session.Session, error) { return c.person(ctx, who) })
	}

	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}

	return nil
}

// person returns what is known of a person: of one whom a provider signs in, what the newest
// session has.
func (c *dataCommand) person(
	ctx context.Context, who string,
) (*session.Session, error) {
	if name, ok := c.account(who); ok {
		return c.accounts.Person(ctx, name)
	}

	issuer, subject := c.provider(who)
	person := &session.Session{
		ID: c.names.Of(issuer, subject), Who: session.Who{Issuer: issuer, Subject: subject},
	}

	list, err := c.sessions.List(ctx, person.ID)
	if err != nil {
		return nil, err
	}

	if len(list) > 0 {
		person.Who = list[0].Who
		return person, nil
	}

	// Anything may be the name of somebody at a provider.
	there, err := c.data.Stored(ctx, person.ID)
	if err == nil && !there {
		err = owndata.ErrNothing
	}

	return person, err
}

// stored returns an error if nothing is stored of the person with the id.
func stored(ctx context.Context, data *owndata.Data, who, id string) error {
	there, err := data.Stored(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", who, err)
	case !there:
		return fmt.Errorf("nothing is stored of %s", who)
	}

	return nil
}

// account returns the name of the account of a person, or reports that another issuer knows them.
func (c *dataCommand) account(who string) (name string, ok bool) {
	name, ok = strings.CutPrefix(who, "account:")
	return name, ok || c.cfg.SignIn == gateenv.Accounts && !strings.Contains(who, "://")
}

// provided returns the id of a person whom a provider knows.
func (c *dataCommand) provided(who string) string { return c.names.Of(c.provider(who)) }

// provider returns the provider that knows a person, and the subject that it knows.
func (c *dataCommand) provider(who string) (issuer, subject string) {
	issuer, subject, ok := strings.Cut(who, "#")
	if ok && strings.Contains(issuer, "://") {
		return issuer, subject
	}
	return c.cfg.Issuer, who
}

// id returns the person's id.
func (c *dataCommand) id(ctx context.Context, who string) (string, error) {
	if name, ok := c.account(who); ok {
		return c.accounts.ID(ctx, name)
	}
	return c.provided(who), nil
}
