package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) historyCommand() *cobra.Command {
	var asJSON bool
	var last int
	c := &cobra.Command{
		Use:   "history [STACK]",
		Short: "Show the updates of a stack: who made it what it is, and when",
		Long: `Prints the updates that the backend of the state knows, the newest first. What
"up" made has who ran it and the commit of the sources, and with --json the model,
the images and the SHA-256 of the settings file. A plain pulumi leaves these out.
The result is "succeeded" where all was made, is healthy and has its model; "not
healthy" and "model not ready" where all was made and that came to nothing, and
"model not awaited" where nobody waited for the model (--no-wait, Ctrl-C) or could.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			if last < 0 {
				return usageError{fmt.Errorf("-n %d: is no number of updates", last)}
			}
			return a.history(c.Context(), stackOf(args), last, asJSON)
		},
	}

	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.IntVarP(&last, "last", "n", 20, "only the last updates; 0 for all")
	return c
}

func (a *App) history(ctx context.Context, name string, last int, asJSON bool) error {
	t, s, err := a.everUp(ctx, name)
	if err != nil {
		return err
	}

	list, err := s.History(ctx)
	if err != nil {
		return a.explainError(err, t.name)
	}
	if last > 0 {
		list = list[:min(last, len(list))]
	}

	if asJSON {
		return writeJSON(a.out, list)
	}

	rows := [][]string{{"N", "WHEN", "WHO", "WHAT", "RESULT", "TOOK", "REVISION", "CHANGED"}}
	for _, u := range list {
		rows = append(rows, historyRow(u))
	}

	a.out.Table(rows, nil)
	return nil
}

// historyRow returns the cells of an update.
func historyRow(u deploy.Update) []string {
	what, known := map[string]string{"update": "up", "destroy": "down"}[u.Kind]
	if !known {
		what = u.Kind
	}

	who, revision := "-", "-"
	if r := u.Release; r != nil {
		who, revision = console.Plain(r.By), console.Plain(r.Revision)
		if r.Rollback > 0 {
			what += fmt.Sprintf(" as of %d", r.Rollback)
		}
	}

	var changed []string
	for _, op := range slices.Sorted(maps.Keys(u.Changes)) {
		if op != "same" && u.Changes[op] > 0 {
			changed = append(changed, fmt.Sprintf("%s %d", op, u.Changes[op]))
		}
	}
	if len(changed) == 0 {
		changed = []string{"nothing"}
	}

	took := "-"
	if !u.End.IsZero() {
		took = console.Elapsed(u.End.Sub(u.Start))
	}

	return []string{
		strconv.Itoa(u.Number), u.Start.Local().Format("2006-01-02 15:04"), who, what, u.Result, took,
		revision, strings.Join(changed, ", "),
	}
}

// shortDigest is how much of a digest people see.
const shortDigest = 12

// release returns what an update is about to make the stack.
func (a *App) release(ctx context.Context, t target, stack stacks.Stack) (deploy.Release, error) {
	settings, err := settingsDigest(t)
	if err != nil {
		return deploy.Release{}, err
	}

	list, err := images.Of(stack, t.project.Root)
	if err != nil {
		return deploy.Release{}, err
	}

	r := deploy.Release{
		By: operator(), Revision: a.revision(ctx, t), Settings: settings,
		Images: map[string]string{}, Data: stack.DataFormats(),
		Model: stack.Model.Name + ":" + stack.Model.Digest[:shortDigest], ID: rand.Text(),
	}
	for _, x := range list {
		r.Images[x.Service] = x.Ref
	}

	back, err := t.rolledBack()
	if err == nil && back != nil && back.Model != "" {
		r.Model = stack.Model.Name + ":" + back.Model
	}

	return r, err
}

// note has the history say what came of an update of which all was made, if it did not succeed. It
// reports whether that is written.
func (a *App) note(ctx context.Context, s *deploy.Session, made deploy.Release, result string) bool {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	err := s.Note(ctx, made, result)
	if err != nil {
		a.say("`codexctl history` says that this up succeeded, and it is %s: %v", result, err)
	}
	return err == nil
}

// awaited has the history say that an update succeeded which was noted as not awaited.
func (a *App) awaited(ctx context.Context, s *deploy.Session, made deploy.Release) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := s.Unnote(ctx, made); err != nil {
		a.say("`codexctl history` says that this up is %s, and it succeeded: %v", deploy.NotAwaited, err)
	}
}

// settingsDigest returns the SHA-256 of the stack's settings file in hex.
func settingsDigest(t target) (string, error) {
	b, err := os.ReadFile(t.file.Path)
	if err != nil {
		return "", err
	}

	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
