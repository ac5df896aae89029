package report

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
)

// commandUsage is the error for a command line that is none.
const commandUsage = "usage: gate usage [--days N] [--json]"

// document is what the command prints as JSON.
type document struct {
	Days   int      `json:"days"`
	Limits limits   `json:"limits"`
	People []Person `json:"people"`
}

// limits are those of each person; 0 is none.
type limits struct {
	RequestsPerDay int64 `json:"requests_per_day"`
	TokensPerDay   int64 `json:"tokens_per_day"`
	AtOnce         int   `json:"at_once"`
}

// Command runs the command line of `gate usage`.
func (r *Reporter) Command(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("usage", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	days := flags.Int("days", shownDays, "")
	asJSON := flags.Bool("json", false, "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return errors.New(commandUsage)
	}
	if *days < 1 || *days > usage.Kept {
		return fmt.Errorf("--days: must be from 1 to %d, got %d", usage.Kept, *days)
	}

	people, err := r.All(ctx, *days)
	if err != nil {
		return err
	}

	if *asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(document{*days, limitsOf(r.limits), people})
	}

	if len(people) == 0 {
		_, err := fmt.Fprintf(out, "Nobody has asked anything in %d days.\n", *days)
		return err
	}

	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "WHO\tQUESTIONS\tTODAY\tTOKENS READ\tWRITTEN\tTODAY")
	for _, p := range people {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\n", p.Who(), p.Total.Questions,
			p.Today.Questions, p.Total.PromptTokens, p.Total.Tokens, p.Today.AllTokens())
	}

	return table.Flush()
}

func limitsOf(l contract.Limits) limits {
	return limits{l.RequestsPerDay, l.TokensPerDay, l.RequestsAtOnce}
}
