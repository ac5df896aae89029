package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/learn"
	"github.com/codexcontinue/codexcontinue/services/learning"
)

func (a *App) learnCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "learn COMMAND",
		Short: "Read, review and use what people hand over below answers",
		Long: `Makes of what people think of answers a change of the model, which is reviewed twice:
an administrator accepts what was handed over, on the page Review or with review, in
words that name nobody, and propose makes a change of the Modelfile and its evals for
a pull request. export writes a data set. It runs inside one of the stack's gates; the
audit has who read and decided what.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	var state, file, decision string
	var asJSON bool
	list := &cobra.Command{
		Use:   "list [STACK]",
		Short: "List what was handed over",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			if state != "" && state != learning.Waiting && state != learning.Accepted {
				return usageError{fmt.Errorf("--state %q: the states are %s and %s", state,
					learning.Waiting, learning.Accepted)}
			}
			return a.learnList(c.Context(), stackOf(args), state, asJSON)
		},
	}
	list.Flags().StringVar(&state, "state", "", "only those that are waiting or accepted")
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON, with all that was written")

	review := &cobra.Command{
		Use:   "review STACK ID --decision FILE",
		Short: "Accept or reject what was handed over",
		Long: `Decides on one of what was handed over, by its id in list. The decision is JSON, in a file
or, with -, on the standard input:

  {"submitted_at": "...", "accept": true, "review": {"question": "...", "answer": "...",
    "must": ["text that an answer has to contain"], "must_not": ["and that it may not"]}}

The question and the answer are what a data set and a proposal get: write them so that
they name nobody. With "accept": false and no review it is rejected, which deletes it.
submitted_at is that of the list: what its author has changed since is refused.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 || decision == "" {
				return usageError{fmt.Errorf("name the stack, the id and the decision: see `%s --help`",
					c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.learnReview(c.Context(), args[0], args[1], decision)
		},
	}
	review.Flags().StringVar(&decision, "decision", "", "the file with the decision, - for the standard input")

	export := &cobra.Command{
		Use:   "export [STACK]",
		Short: "Write what was accepted as a data set",
		Long: `Writes each question that was accepted with its answer as a line of JSON in the chat
format, {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}, which tools
that train models read. It has nothing else of what people wrote.

An erasure does not reach a file that was written before it: keep it no longer than you
need it.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.learnExport(c.Context(), stackOf(args), file)
		},
	}
	export.Flags().StringVar(&file, "file", "", "write it to this new file, which only you can read")

	propose := &cobra.Command{
		Use:   "propose [STACK]",
		Short: "Change the Modelfile and its evals as the accepted corrections say",
		Long: `Adds each accepted correction to the stack's Modelfile in this checkout, as a question
and its answer (MESSAGE), and to evals.yaml beside it what an answer to the question
must and must not contain. What is there stays as it is, and nothing is added twice.
Files with changes that are not committed are refused.

It prints the change. Commit it to a branch and open a pull request: codexctl diff shows
what it does to each stack, and a version that fails its evals does not serve.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.learnPropose(c.Context(), stackOf(args))
		},
	}

	for _, sub := range []*cobra.Command{list, review, export, propose} {
		sub.DisableFlagsInUseLine = true
		c.AddCommand(sub)
	}
	return c
}

// submissions returns what was handed over in the stack and is in the state, any if that is empty.
func (a *App) submissions(
	ctx context.Context, name, state string,
) (t target, modelfile string, all []learning.Submission, err error) {
	t, stack, err := a.load(name)
	if err != nil {
		return t, "", nil, err
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return t, "", nil, err
	}
	defer g.platform.Close()

	all, err = g.submissions(ctx, state)
	return t, stack.Model.Modelfile, all, err
}

func (g gate) submissions(ctx context.Context, state string) ([]learning.Submission, error) {
	words := []string{"learn", "--by=" + operator(), "list"}
	if state != "" {
		words = append(words, state)
	}

	var out bytes.Buffer
	if err := g.learn(ctx, strings.NewReader(""), &out, words...); err != nil {
		return nil, err
	}

	var page learning.Submissions
	if err := json.Unmarshal(out.Bytes(), &page); err != nil {
		return nil, fmt.Errorf("what was handed over came in part, run it again: %w", err)
	}

	return page.Submissions, nil
}

// decide runs `gate learn review` with the decision, as JSON.
func (g gate) decide(ctx context.Context, id, decision string) error {
	// Command lines are in the list of processes and in the engine's events.
	in, err := json.Marshal([]string{id, decision})
	if err != nil {
		return err
	}

	return g.learn(ctx, bytes.NewReader(in), io.Discard, "learn", "--by="+operator(), "review", "-")
}

// learn runs `gate learn` with the words.
func (g gate) learn(ctx context.Context, in io.Reader, out io.Writer, words ...string) error {
	err := g.stream(ctx, in, out, words...)
	if err != nil && strings.Contains(err.Error(), "usage: gate [healthcheck") {
		return errors.New("the gate knows no way to read what people hand over: `codexctl up` brings " +
			"one that does")
	}
	return err
}

func (a *App) learnList(ctx context.Context, name, state string, asJSON bool) error {
	_, _, all, err := a.submissions(ctx, name, state)
	if err != nil {
		return err
	}

	return a.printSubmissions(all, asJSON)
}

func (a *App) printSubmissions(all []learning.Submission, asJSON bool) error {
	if asJSON {
		return writeJSON(a.out, learning.Submissions{Submissions: all})
	}

	if len(all) == 0 {
		a.say("nothing was handed over")
		return nil
	}

	for _, v := range all {
		a.out.Printf("%s  %s  %-8s  %-4s  %s", v.ID, v.SubmittedAt.Format("2006-01-02"), v.State,
			v.Verdict, firstLine(v.Question))
	}
	return nil
}

// firstLine returns the first line of a text, or its beginning, without what a terminal would take
// for more than text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, line)
	if runes := []rune(line); len(runes) > 80 {
		return string(runes[:79]) + "…"
	}
	return line
}

func (a *App) learnReview(ctx context.Context, name, id, file string) error {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(a.in)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}

	var d learning.Decision
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	if err := g.decide(ctx, id, string(text)); err != nil {
		return err
	}

	if d.Accept {
		a.say("%s is accepted", id)
	} else {
		a.say("%s is rejected, and deleted", id)
	}
	return nil
}

func (a *App) learnExport(ctx context.Context, name, file string) error {
	_, _, all, err := a.submissions(ctx, name, learning.Accepted)
	if err != nil {
		return err
	}

	if file == "" {
		_, err := learn.Dataset(a.out, all)
		return err
	}

	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	n, err := learn.Dataset(f, all)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file)) // half of it must not look like all of it
	}

	a.say("%d questions with their answers are in %s", n, file)
	return nil
}

func (a *App) learnPropose(ctx context.Context, name string) error {
	t, modelfile, all, err := a.submissions(ctx, name, learning.Accepted)
	if err != nil {
		return err
	}

	c := learn.Checkout{Root: t.project.Root, Modelfile: modelfile, Environ: a.environ}
	p, err := c.Propose(ctx, all)
	if err != nil {
		return err
	}

	if p.Examples+p.Cases == 0 {
		a.say("nothing is new: the Modelfile and its evals have all that was accepted")
		return nil
	}

	a.printProposal(p.Diff)
	a.say("%d examples and %d cases were added: commit them to a branch, and see `codexctl diff`",
		p.Examples, p.Cases)
	return nil
}

// printProposal prints a difference, which has what people wrote, without what a terminal would take
// for more than text.
func (a *App) printProposal(diff string) {
	for line := range strings.Lines(strings.TrimRight(diff, "\n")) {
		a.out.Printf("%s", console.Plain(strings.TrimRight(line, "\n")))
	}
}
