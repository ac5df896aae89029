package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	redislog "github.com/redis/go-redis/v9/logging"
)

const auditUsage = `usage: gate audit verify                     check all records
       gate audit copy                       check the records on the standard input alone
       gate audit days                       list the days that have records
       gate audit page DAY FROM              print records of a day
       gate audit names [DAY]                print the names of people, by their pseudonyms
       gate audit person PERSON              print what records call a person, one name a line
       gate audit up BY REVISION DIGEST      record that a configuration begins, print its id
       gate audit up BY REVISION DIGEST ID done|failed   record how it ended; without an intent ID is -
       gate audit command BY SERVICE PROGRAM         record that a command begins, print its id
       gate audit command BY SERVICE PROGRAM ID CODE record that it has ended`

// readAudit reads the records of who did what, in a gate's container.
func readAudit(
	ctx context.Context, args, environ []string, stdin io.Reader, stdout io.Writer,
) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}

	if !cfg.Audit {
		if len(args) > 0 && args[0] == "up" {
			return nil // who asks cannot know what the stack was before
		}
		return errors.New("nothing is recorded in this stack: nobody signs in")
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	secret, err := contract.Secret("AUDIT_KEY_FILE", cfg.AuditKeyFile)
	if err != nil {
		return err
	}

	key := auditlog.NewKey(secret)
	if len(args) == 1 && args[0] == "copy" {
		return verifyCopy(key, stdin, stdout)
	}

	redislog.Disable()
	records, err := audit.NewReader(redisclient.Address(at))
	if err != nil {
		return err
	}
	defer records.Close()

	switch {
	case len(args) == 1 && args[0] == "verify":
		return verify(ctx, records, key, stdout)
	case len(args) == 1 && args[0] == "days":
		days, err := records.Days(ctx)
		return printed(stdout, days, err)
	case len(args) == 3 && args[0] == "page":
		from, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil || from < 0 {
			return errors.New(auditUsage)
		}

		lines, err := records.Page(ctx, args[1], from)
		return printed(stdout, lines, err)
	case (len(args) == 1 || len(args) == 2) && args[0] == "names":
		since := ""
		if len(args) == 2 {
			since = args[1]
		}

		names, err := peopleNames(ctx, cfg, at, key, records, since)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(names)
	case len(args) == 2 && args[0] == "person":
		return recordedPerson(ctx, cfg, at, key, args[1], stdout)
	case (len(args) == 4 || len(args) == 6) && args[0] == "up":
		return configuration(ctx, cfg, at, args[1:], stdout)
	case (len(args) == 4 || len(args) == 6) && args[0] == "command":
		return command(ctx, cfg, at, args[1:], stdout)
	}

	return errors.New(auditUsage)
}

// verify checks the whole chain.
func verify(
	ctx context.Context, records *audit.Reader, key auditlog.Key, stdout io.Writer,
) error {
	chain := auditlog.NewChain(key)
	if err := records.Each(ctx, "", chain.Add); err != nil {
		return err
	}
	return found(chain, stdout)
}

// verifyCopy checks lines that are kept elsewhere. Redis is not asked.
func verifyCopy(key auditlog.Key, in io.Reader, stdout io.Writer) error {
	chain := auditlog.NewChain(key)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if err := chain.Add(lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return found(chain, stdout)
}

// found prints what the check of a chain has found.
func found(chain *auditlog.Chain, stdout io.Writer) error {
	said, err := chain.End()
	if err != nil {
		return err
	}

	_, err = fmt.Fprintln(stdout, said)
	return err
}

func printed(stdout io.Writer, lines []string, err error) error {
	for _, line := range lines {
		if err == nil {
			_, err = fmt.Fprintln(stdout, line)
		}
	}
	return err
}

// peopleNames returns the names of people by what records call them: of all accounts or, where a
// provider keeps the people, of those in the records since the day who are signed in.
func peopleNames(
	ctx context.Context, cfg gateenv.Config, at contract.Redis, key auditlog.Key,
	records *audit.Reader, since string,
) (map[string]string, error) {
	o, err := open(ctx, &cfg, at)
	if err != nil {
		return nil, err
	}
	defer o.store.Close()

	if cfg.SignIn == gateenv.Accounts {
		return account.New(o.store, o.names, o.sessions).Recorded(ctx, key)
	}

	ids := map[string]bool{}
	err = records.Each(ctx, since, func(line string) error {
		if r, err := auditlog.Parse(line); err == nil { // gate audit verify says what is none
			ids[r.Actor], ids[r.Object] = true, true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	people := slices.DeleteFunc(slices.Collect(maps.Keys(ids)), func(id string) bool {
		return !pseudonym.Is(id)
	})
	return o.sessions.Names(ctx, people)
}

// recordedPerson prints what records call the person: the pseudonym and, of an account, what they
// call its name where there was no account yet.
func recordedPerson(
	ctx context.Context, cfg gateenv.Config, at contract.Redis, key auditlog.Key, who string,
	stdout io.Writer,
) error {
	o, err := open(ctx, &cfg, at)
	if err != nil {
		return err
	}
	defer o.store.Close()

	c := &dataCommand{cfg: cfg, names: o.names, sessions: o.sessions,
		accounts: account.New(o.store, o.names, o.sessions)}
	id, ok := formerBrowser(who)
	if !ok {
		if id, err = c.id(ctx, who); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
	}

	all, err := c.accounts.Recorded(ctx, key)
	if err != nil {
		return err
	}

	ids := []string{id}
	for called, name := range all {
		if called != id && name == all[id] {
			ids = append(ids, called)
		}
	}
	return printed(stdout, ids, nil)
}

// configuration records that `codexctl up` is about to make the stack what its configuration says,
// or, with the id of that record and the outcome, that it has ended. An update that began before
// there was a gate has the id "-".
func configuration(
	ctx context.Context, cfg gateenv.Config, at contract.Redis, args []string, stdout io.Writer,
) error {
	what := auditlog.Record{Action: auditlog.Configuration, By: args[0],
		Detail: map[string]string{"revision": args[1], "settings": args[2]}}
	var outcome auditlog.Outcome
	if len(args) == 5 {
		outcome = auditlog.Outcome(args[4])
		if outcome != auditlog.Done && outcome != auditlog.Failed {
			return errors.New(auditUsage)
		}

		switch {
		case actID.MatchString(args[3]):
			what.ID = args[3]
		case args[3] != "-":
			return errors.New(auditUsage)
		}
	}

	records, err := audit.Open(&cfg.Auditing, at, commands, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer records.Close()

	if outcome != "" {
		return records.Record(ctx, what, outcome)
	}

	act, err := records.Begin(ctx, what)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, act.Record.ID)
	return err
}

// command records that an operator runs a program in a service's container, or, with the id of that
// record and the exit code, that it has ended. The code is a number, or "unknown".
func command(
	ctx context.Context, cfg gateenv.Config, at contract.Redis, args []string, stdout io.Writer,
) error {
	records, err := audit.Open(&cfg.Auditing, at, commands, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer records.Close()

	what := auditlog.Record{Action: auditlog.Command, By: args[0],
		Detail: map[string]string{"service": args[1], "program": "other"}}
	if programName.MatchString(args[2]) {
		what.Detail["program"] = args[2]
	}

	if len(args) == 3 {
		act, err := records.Begin(ctx, what)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, act.Record.ID)
		return err
	}

	outcome := auditlog.Done
	code, err := strconv.Atoi(args[4])
	switch {
	case !actID.MatchString(args[3]), err != nil && args[4] != "unknown":
		return errors.New(auditUsage)
	case err != nil || code != 0:
		outcome = auditlog.Failed
	}

	what.ID, what.Detail["code"] = args[3], args[4]
	return records.Record(ctx, what, outcome)
}

var (
	// programName is what can be the name of a program. A whole line in its place may hold anything,
	// and is not recorded.
	programName = regexp.MustCompile(`^[A-Za-z0-9_./+-]{1,64}$`)
	actID       = regexp.MustCompile(`^[A-Z2-7]{16}$`)
)
