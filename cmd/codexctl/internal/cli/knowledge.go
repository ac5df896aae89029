package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) knowledgeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "knowledge COMMAND",
		Short: "Manage the documents that answers name as their sources",
		Long: `Manages the documents of a stack that has knowledge (codexcontinue:knowledge, which
also says which collections there are and who reads them). It runs inside one of the
stack's gates. Where people sign in, the audit has who added and removed what.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	add := &cobra.Command{
		Use:   "add STACK COLLECTION PATH...",
		Short: "Add files, or the files of folders, and replace those of the same name",
		Long: `Adds files to the collection: Markdown, text, HTML, Word (.docx), PDF and FHIR R4
bundles, of at most 64 MiB each. Of a folder it adds all files, also of folders in it,
but for hidden ones. A document is known by its file's name, without the folder.

What is there with the same bytes is left as it is, which is told by its SHA-256. A
file that cannot be read is named with why, and the others are added: the exit code
is 1 then. A run that was interrupted goes on where it was when it is run again.`,
		Args: atLeast(3, "name the stack, the collection, and files or folders"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.addDocuments(c.Context(), args[0], args[1], args[2:])
		},
	}

	var asJSON bool
	list := &cobra.Command{
		Use:   "list STACK [COLLECTION]",
		Short: "List the collections, or the documents of one",
		Args:  atLeast(1, "name the stack"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.listDocuments(c.Context(), args[0], args[1:], asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	remove := &cobra.Command{
		Use:   "remove STACK COLLECTION NAME...",
		Short: "Remove documents by their names, with all that was made of them",
		Long: `Removes documents from the collection, by their names as "list" has them. If one of
them is not there, none is removed.`,
		Args: atLeast(3, "name the stack, the collection, and documents"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withLibrarian(c.Context(), args[0], func(l librarian) error {
				return a.removeDocuments(c.Context(), l, args[1], args[2:])
			})
		},
	}

	reindex := &cobra.Command{
		Use:   "reindex STACK COLLECTION",
		Short: "Make the vectors of a collection anew",
		Long: `Makes the vectors of all passages of the collection anew, in the background. The old
ones answer until then. After a change of the model that makes them this is not
needed: it happens by itself.`,
		Args: exactly(2, "name the stack and the collection"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withLibrarian(c.Context(), args[0], func(l librarian) error {
				return a.manageDocuments(c.Context(), l, nil, "reindex", args[1])
			})
		},
	}

	for _, x := range []*cobra.Command{add, list, remove, reindex} {
		x.DisableFlagsInUseLine = true
		c.AddCommand(x)
	}

	return c
}

// atLeast takes that many arguments, or more.
func atLeast(n int, want string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s: see `%s --help`", want, c.CommandPath())}
		}
		return nil
	}
}

// librarian manages documents by one of a stack's gates.
type librarian struct {
	gate
	stack string // as the command line names it
}

// withLibrarian calls f with the way to the stack's documents.
func (a *App) withLibrarian(
	ctx context.Context, name string, f func(l librarian) error,
) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	if stack.Service(stacks.Knowledge) == nil {
		return fmt.Errorf("stack %s has no knowledge: set %s:knowledge: {collections: {NAME: "+
			"everybody}}, then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	return f(librarian{g, t.name})
}

// words returns the command line of the gate, for whoever runs this command.
func (l librarian) words(words ...string) []string {
	return append([]string{"knowledge", "--by=" + operator()}, words...)
}

// explained returns an error of the gate as one of this command.
func (l librarian) explained(err error) error {
	switch text := fmt.Sprint(err); {
	case err == nil:
		return nil
	case strings.HasPrefix(text, "usage: gate [") || strings.HasPrefix(text, "this stack has no"):
		return fmt.Errorf("the gate that runs knows no documents yet: `codexctl up %s`", l.stack)
	case strings.HasPrefix(text, "usage: gate knowledge") && !strings.Contains(text, "--turns"):
		return fmt.Errorf("the gate that runs is older than this codexctl: `codexctl up %s`", l.stack)
	case strings.HasPrefix(text, "The documents cannot be reached"):
		return fmt.Errorf("%w: `codexctl status %s` says how %s is", err, l.stack, stacks.Knowledge)
	}
	return err
}

// ask runs `gate knowledge` with the words, which reads in, and returns what it prints.
func (l librarian) ask(ctx context.Context, in io.Reader, words ...string) (string, error) {
	var out bytes.Buffer // a list may be long
	err := l.stream(ctx, in, &out, l.words(words...)...)
	return out.String(), l.explained(err)
}

// askJSON is ask for a command that prints JSON.
func (l librarian) askJSON(ctx context.Context, v any, words ...string) error {
	output, err := l.ask(ctx, nil, words...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(output), v); err != nil {
		return fmt.Errorf("%s says something else than JSON: %w", l.replica.Name, err)
	}
	return nil
}

// manageDocuments runs `gate knowledge` with the words, which reads in, and prints what it says.
func (a *App) manageDocuments(
	ctx context.Context, l librarian, in io.Reader, words ...string,
) error {
	output, err := l.ask(ctx, in, words...)
	for line := range strings.Lines(output) { // also of those before an error
		a.out.Printf("%s", console.Plain(strings.TrimRight(line, "\n")))
	}
	return err
}

// removeDocuments removes the documents of these names from the collection.
func (a *App) removeDocuments(
	ctx context.Context, l librarian, collection string, names []string,
) error {
	// Names of files say whom they are about, and command lines are in the list of processes, the
	// engine's events and the cluster's audit log.
	in, err := json.Marshal(names)
	if err != nil {
		return err
	}

	err = a.manageDocuments(ctx, l, bytes.NewReader(in), "remove", collection, "-")
	if err != nil && strings.Contains(err.Error(), ` has no "-"`) && !slices.Contains(names, "-") {
		return fmt.Errorf("the gate that runs is older than this codexctl, and nothing was removed: "+
			"`codexctl up %s`", l.stack)
	}
	return err
}

func (a *App) listDocuments(
	ctx context.Context, name string, collection []string, asJSON bool,
) error {
	if len(collection) > 1 {
		return usageError{errors.New("one collection at a time: see `codexctl knowledge list --help`")}
	}

	return a.withLibrarian(ctx, name, func(l librarian) error {
		if len(collection) == 0 {
			var all documents.Collections
			err := l.askJSON(ctx, &all, "list")
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(a.out, all)
			}

			a.printCollections(all)
			return nil
		}

		var all documents.Documents
		err := l.askJSON(ctx, &all, "list", collection[0])
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(a.out, all)
		}

		a.printDocuments(all)
		return nil
	})
}

func (a *App) printCollections(all documents.Collections) {
	rows := [][]string{{"COLLECTION", "FOR", "DOCUMENTS", "PASSAGES", "SIZE", ""}}
	for _, c := range all.Collections {
		readers, pending := strings.Join(c.Groups, ", "), ""
		if readers == "" {
			readers = "everybody"
		}
		if c.Pending > 0 {
			pending = fmt.Sprintf("%d passages without their vector", c.Pending)
		}

		rows = append(rows, []string{c.Name, readers, fmt.Sprint(c.Documents),
			fmt.Sprint(c.Passages), console.Size(c.Bytes), pending})
	}

	a.out.Table(rows, head)
	if all.Embedding != "" {
		a.say("vectors by %s", all.Embedding)
	}
}

// head paints the first row of a table.
func head(y, _ int) console.Paint {
	if y == 0 {
		return console.Dim
	}
	return ""
}

func (a *App) printDocuments(all documents.Documents) {
	rows := [][]string{{"NAME", "TYPE", "SIZE", "PASSAGES", "ADDED", "BY", "STATE"}}
	for _, d := range all.Documents {
		state := d.State
		if d.Problem != "" {
			state += ": " + d.Problem
		}
		if n := len(d.Warnings); n > 0 {
			state += ", " + strings.Join(d.Warnings, " ")
		}

		rows = append(rows, []string{console.Plain(d.File), d.Type, console.Size(d.Bytes),
			fmt.Sprint(d.Passages), console.Age(a.now().Sub(d.Added)), console.Plain(d.AddedBy),
			console.Plain(state)})
	}

	a.out.Table(rows, head)
}
