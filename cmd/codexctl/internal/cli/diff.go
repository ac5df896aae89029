package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/revision"
	"github.com/codexcontinue/codexcontinue/infra/diff"
	"github.com/codexcontinue/codexcontinue/infra/plan"
)

func (a *App) diffCommand() *cobra.Command {
	var base, format string
	var only []string
	c := &cobra.Command{
		Use:   "diff",
		Short: "Show what the working tree changes in every plan",
		Long: `Compares the plans of the working tree with those of a revision, for every stack and
target: what is replaced or removed, what becomes exposed, which limits, images
and models change, then every property. Both sides are planned by programs built
from their own sources. It needs go and git; no engine, login, passphrase, state
or network, as long as Go has the modules of both.

Secrets show as numbers: equal numbers are equal secrets.

Exit codes: 0 nothing changes, 2 something does, 1 the plans cannot be made.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.diff(c.Context(), base, format, only)
		},
	}

	c.Flags().StringVar(&base, "base", "",
		"the revision to compare with (default: where the branch left the default one)")
	c.Flags().StringSliceVar(&only, "stack", nil, "compare only this stack; may be repeated")
	c.Flags().StringVar(&format, "format", "text",
		"text, markdown (for a comment on a pull request) or json")
	return c
}

func (a *App) diff(ctx context.Context, base, format string, only []string) error {
	if !slices.Contains([]string{"text", "markdown", "json"}, format) {
		return usageError{fmt.Errorf("--format %q: the formats are text, markdown and json",
			format)}
	}

	p, err := project.Find(a.dir)
	if err != nil {
		return err
	}

	cache := a.cacheDir()
	if cache != "" {
		cache = filepath.Join(cache, "codexcontinue", "diff")
	}

	c, err := revision.Open(ctx, revision.Options{
		Root:    p.Root,
		Environ: a.environ,
		Cache:   cache,
		Say:     a.say,
	})
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	defer c.Close()

	report, err := compareRevisions(ctx, c, base, only)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	if err := a.printDiff(report, format); err != nil {
		return err
	}

	var refused []error
	for _, p := range report.Plans {
		if p.Chosen && p.Refused != nil && p.Refused.After != "" {
			refused = append(refused,
				fmt.Errorf("%s cannot be planned on %s: %s", p.Stack, p.Target, p.Refused.After))
		}
	}

	switch {
	case len(refused) > 0:
		return errors.Join(refused...)
	case report.Changed():
		return exitError{exitDiffers}
	}

	return nil
}

func compareRevisions(
	ctx context.Context, c *revision.Checkout, base string, only []string,
) (diff.Report, error) {
	from, err := c.Commit(ctx, base)
	if err != nil {
		return diff.Report{}, err
	}

	to, err := c.WorkingTree(ctx)
	if err != nil {
		return diff.Report{}, err
	}

	before, after, err := c.Plans(ctx, from, to)
	if err != nil {
		return diff.Report{}, err
	}
	if before, after, err = onlyStacks(before, after, only); err != nil {
		return diff.Report{}, err
	}

	return diff.Compare(from.Name, to.Name, before, after)
}

// onlyStacks returns the plans of the named stacks, or all if none is named.
func onlyStacks(before, after []plan.Document, only []string) (b, a []plan.Document, err error) {
	if len(only) == 0 {
		return before, after, nil
	}

	var known []string
	for _, d := range slices.Concat(before, after) {
		known = append(known, d.Stack)
	}

	slices.Sort(known)
	known = slices.Compact(known)
	for _, name := range only {
		if !slices.Contains(known, name) {
			return nil, nil, fmt.Errorf("--stack %s: there is no such stack; the stacks are %s",
				name, strings.Join(known, ", "))
		}
	}

	other := func(d plan.Document) bool { return !slices.Contains(only, d.Stack) }
	return slices.DeleteFunc(before, other), slices.DeleteFunc(after, other), nil
}

func (a *App) printDiff(r diff.Report, format string) error {
	switch format {
	case "json":
		return writeJSON(a.out, r)
	case "markdown":
		_, err := fmt.Fprint(a.out, diff.Markdown(r))
		return err
	}

	paints := map[diff.Style]console.Paint{
		diff.Heading: console.Bold,
		diff.Added:   console.Green,
		diff.Removed: console.Red,
		diff.Changed: console.Yellow,
		diff.Alarm:   console.Red,
		diff.Quiet:   console.Dim,
	}

	return diff.Text(a.out, r, a.out.Width(), func(s diff.Style, text string) string {
		return a.out.Paint(paints[s], text)
	})
}
