package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/stacks"
)

type auditOptions struct {
	since, person, export, against, copy string
	json, verify                         bool
}

func (a *App) auditCommand() *cobra.Command {
	var o auditOptions
	c := &cobra.Command{
		Use:   "audit [STACK]",
		Short: "Show who did what, and check that no record was changed",
		Long: `Prints the records of a stack in which people sign in: who signed in, asked,
stopped, deleted, exported, made keys or managed accounts, and which
configurations up made. It runs inside one of the stack's gates.

--verify finds a record that was changed, taken out or moved. One that was cut
off the end it finds with --against: the file of an earlier --export, or what
the services logged where codexcontinue:audit is {log: true}. --copy checks such
a file alone, as of days that the stack no longer has: by its key, and without
its Redis.

WHO is a name where the stack knows one: of accounts that there are, or of people of
a provider who are signed in. Others are pseudonyms; --person finds what they did.
` + aPerson + " A browser of before people signed in is browser:ID.",
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.audit(c.Context(), stackOf(args), o)
		},
	}

	f := c.Flags()
	f.StringVar(&o.since, "since", "", "print records of this day (UTC) and later: 2026-11-26")
	f.StringVar(&o.person, "person", "", "print records of this person, and about them, alone")
	f.BoolVar(&o.json, "json", false, "print the records as they are, one line of JSON each")
	f.BoolVar(&o.verify, "verify", false, "check all records, and print what was found")
	f.StringVar(&o.export, "export", "", "write the records as they are to this new file")
	f.StringVar(&o.against, "against", "",
		"check also that what stands in this file is what the stack has")
	f.StringVar(&o.copy, "copy", "", "check the records in this file, and not those of the stack")
	return c
}

// check returns an error for options that mean nothing, or nothing together.
func (o auditOptions) check() error {
	if _, err := time.Parse(time.DateOnly, o.since); o.since != "" && err != nil {
		return usageError{fmt.Errorf("--since %s is no day: write it like 2026-11-26", o.since)}
	}

	switch prints := o.since != "" || o.export != "" || o.json; {
	case o.copy != "" && (prints || o.verify || o.against != ""):
		return usageError{errors.New("--copy checks a file alone: leave out the other flags")}
	case prints && (o.verify || o.against != ""):
		return usageError{errors.New("--verify and --against check all records and give none " +
			"out: leave out --since, --json and --export")}
	case o.person != "" && (o.export != "" || o.verify || o.against != ""):
		return usageError{errors.New("--person prints the records of one person: leave out " +
			"--export, --verify and --against, which are of all")}
	case o.json && o.export != "":
		return usageError{errors.New("--export writes the records to a file and --json prints " +
			"them: leave out one")}
	}

	return nil
}

func (a *App) audit(ctx context.Context, name string, o auditOptions) error {
	if err := o.check(); err != nil {
		return err
	}

	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	if !stack.Audited() {
		return fmt.Errorf("nothing is recorded in stack %s, as nobody signs in: set %s:signIn, "+
			"then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	switch {
	case o.copy != "":
		return a.verifyCopy(ctx, g, o.copy)
	case o.verify || o.against != "":
		return a.verifyAudit(ctx, g, o.against)
	case o.export != "":
		return a.exportAudit(ctx, g, o)
	}

	lines, err := g.auditLines(ctx, o.since)
	if err == nil && o.person != "" {
		lines, err = a.linesOf(ctx, g, lines, o.person)
	}
	if err != nil {
		return err
	}

	if o.json {
		for _, line := range lines {
			a.out.Printf("%s", line)
		}
		return nil
	}

	return a.printAudit(ctx, g, lines, o.since)
}

// linesOf returns those of the lines that are of the person or about them. The gate computes what
// the records call them.
func (a *App) linesOf(
	ctx context.Context, g gate, lines []string, person string,
) (of []string, err error) {
	output, err := g.run(ctx, "audit", "person", person)
	if err != nil {
		return nil, err
	}

	ids := strings.Fields(output)
	for _, line := range lines {
		r, err := auditlog.Parse(line)
		if err != nil {
			return nil, notRecord(err)
		}
		if slices.Contains(ids, r.Actor) || slices.Contains(ids, r.Object) ||
			slices.Contains(ids, r.Detail["to"]) {
			of = append(of, line)
		}
	}

	if len(of) == 0 {
		a.say("there is no record of %s, if this is how they are called", person)
	}
	return of, nil
}

func notRecord(err error) error {
	return fmt.Errorf("%w: `codexctl audit --verify` says where", err)
}

// verifyAudit has the gate check all records, by the key that it alone has, and compares them with
// those in the file, if one is named.
func (a *App) verifyAudit(ctx context.Context, g gate, file string) error {
	said, err := g.run(ctx, "audit", "verify")
	if err != nil {
		return err
	}

	a.out.Printf("%s", said)
	if file == "" {
		return nil
	}

	copied, err := readCopy(file)
	if err != nil {
		return err
	}

	lines, err := g.auditLines(ctx, "")
	if err != nil {
		return err
	}

	n, err := auditlog.Compare(lines, copied)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	a.out.Printf("%d of the %d records in %s are in the stack, as they stand there; the others "+
		"are older than what it keeps.\n", n, len(copied), file)
	return nil
}

// verifyCopy has the gate check the records in the file, by the key that it alone has.
func (a *App) verifyCopy(ctx context.Context, g gate, file string) error {
	lines, err := readCopy(file)
	if err != nil {
		return err
	}

	var said strings.Builder
	in := strings.NewReader(strings.Join(lines, "\n") + "\n")
	if err := g.stream(ctx, in, &said, "audit", "copy"); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	a.out.Printf("%s: %s", file, strings.TrimSpace(said.String()))
	return nil
}

// readCopy returns the lines of the file that are records, in the order of their numbers, each once:
// the logs of several services have them in any order, and others around them.
func readCopy(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}

	type numbered struct {
		n    int64
		line string
	}
	var found []numbered
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		if r, err := auditlog.Parse(line); err == nil {
			found = append(found, numbered{r.Number, line})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: has no record of an audit", file)
	}

	slices.SortStableFunc(found, func(x, y numbered) int { return cmp.Compare(x.n, y.n) })
	found = slices.Compact(found)
	lines := make([]string, len(found))
	for i, x := range found {
		lines[i] = x.line
	}
	return lines, nil
}

// exportAudit writes the records to a file that must not be there.
func (a *App) exportAudit(ctx context.Context, g gate, o auditOptions) (err error) {
	lines, err := g.auditLines(ctx, o.since)
	if err != nil {
		return err
	}

	f, err := os.OpenFile(o.export, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	for _, line := range lines {
		if _, err := fmt.Fprintln(f, line); err != nil {
			return err
		}
	}

	a.say("%d records written to %s", len(lines), o.export)
	return nil
}

// printAudit prints the records, which are of the day and later, as a table. People whom the gate
// knows by name have it.
func (a *App) printAudit(ctx context.Context, g gate, lines []string, since string) error {
	words := []string{"audit", "names"}
	if since != "" {
		words = append(words, since)
	}
	output, err := g.run(ctx, words...)
	if err != nil && since != "" { // a gate of an earlier release takes no day
		output, err = g.run(ctx, "audit", "names")
	}
	if err != nil {
		return err
	}

	names := map[string]string{}
	if err := json.Unmarshal([]byte(output), &names); err != nil {
		return fmt.Errorf("the names of people: %w", err)
	}

	var text strings.Builder
	if err := writeAudit(&text, lines, names); err != nil {
		return err
	}

	a.out.Printf("%s", text.String())
	return nil
}

func writeAudit(w io.Writer, lines []string, names map[string]string) error {
	named := func(id string) string {
		if name, ok := names[id]; ok {
			return name
		}
		return id
	}

	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "RECORD\tTIME\tWHO\tFROM\tDID\tOUTCOME\tABOUT\tMODEL\tBYTES")
	for _, line := range lines {
		r, err := auditlog.Parse(line)
		if err != nil {
			return notRecord(err)
		}

		who := named(r.Actor)
		if r.By != "" {
			who = strconv.Quote(r.By) // as the one who typed it called themselves
		}

		about := named(r.Object)
		switch r.Action {
		case auditlog.Configuration:
			about = r.Detail["revision"] + " " + r.Detail["settings"]
		case auditlog.Maintenance:
			about = r.Detail["state"]
		case auditlog.Command:
			about = strings.TrimSpace(r.Detail["service"] + " " + r.Detail["program"] + " " +
				r.Detail["code"])
		case auditlog.Access:
			about = strings.TrimSpace(about + " " + r.Detail["route"] + ": " + r.Detail["why"])
		}
		if why := r.Detail["reason"]; why != "" {
			about += " " + strconv.Quote(why)
		}

		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Number,
			r.Time.UTC().Format(time.DateTime), who, r.Address, r.Action, r.Outcome, about, r.Model,
			r.Bytes)
	}

	return table.Flush()
}

// auditLines returns the lines of the records since the day, or all if it is empty.
func (g gate) auditLines(ctx context.Context, since string) ([]string, error) {
	days, err := g.auditDays(ctx)
	if err != nil {
		return nil, err
	}

	var lines []string
	for _, day := range days {
		if day < since {
			continue
		}

		of, err := g.auditOf(ctx, day)
		if err != nil {
			return nil, err
		}
		lines = append(lines, of...)
	}

	return lines, nil
}

// auditDays returns the days that have records, the first first.
func (g gate) auditDays(ctx context.Context) ([]string, error) {
	days, err := g.run(ctx, "audit", "days")
	return strings.Fields(days), err
}

// auditOf returns the lines of a day's records.
func (g gate) auditOf(ctx context.Context, day string) ([]string, error) {
	var lines []string
	for from := 0; ; from += auditlog.PageSize {
		output, err := g.run(ctx, "audit", "page", day, strconv.Itoa(from))
		if err != nil {
			return nil, err
		}

		page := strings.FieldsFunc(output, func(r rune) bool { return r == '\n' })
		lines = append(lines, page...)

		// One more page would begin beyond what was recorded meanwhile.
		if len(page) < auditlog.PageSize {
			return lines, nil
		}
	}
}

// configuring has the gate that runs record, before anything is changed, that the stack is to become
// what its settings and sources say. ended records once how that ended, by a gate that runs then; the
// first up has no gate before it, and that record alone. What cannot be recorded is said and done
// all the same: it may be what the gate or Redis needs to run again.
func (a *App) configuring(
	ctx context.Context, t target, stack stacks.Stack, p platform,
) (ended func(auditlog.Outcome)) {
	if stack.Service(stacks.Gate) == nil {
		return func(auditlog.Outcome) {}
	}

	revision := a.revision(ctx, t)
	digest, unread := settingsDigest(t)
	record := func(ctx context.Context, more ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if unread != nil {
			return "", unread
		}

		g, err := healthyGate(ctx, t, stack, p)
		if err != nil {
			return "", err
		}
		said, err := g.run(ctx, append([]string{"audit", "up", operator(), revision, digest}, more...)...)
		if err != nil && strings.HasPrefix(err.Error(), "usage:") {
			err = errors.New("the gate that runs is of an earlier release, which does not record it")
		}
		return said, err
	}

	id, err := record(ctx)
	if err != nil && !errors.Is(err, errNoContainer) {
		a.say("the audit does not have that this up begins: %v", err)
	}

	done := false
	return func(outcome auditlog.Outcome) {
		// One that began unrecorded, as nobody signed in or there was no gate, has to be known of
		// if it came to an end.
		intended := id != ""
		if done || !intended && (outcome != auditlog.Done || !stack.Audited()) {
			return
		}

		done = true
		_, err := record(context.WithoutCancel(ctx), cmp.Or(id, "-"), string(outcome))
		if err != nil {
			a.say("the audit does not have how this up ended, which is %s: %v", outcome, err)
		} else if intended && !stack.Audited() { // a gate that asks nobody to sign in records nothing
			a.say("the audit may not have how this up ended, which is %s: it ends sign-in", outcome)
		}
	}
}

// operator returns the name of who runs the command, as the machine has it.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// revision returns the commit of the sources, with "-dirty" if they have changed since.
func (a *App) revision(ctx context.Context, t target) string {
	c := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude=*")
	c.Dir, c.Env = t.project.Root, a.environ
	out, err := c.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
