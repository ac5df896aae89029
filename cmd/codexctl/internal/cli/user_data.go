package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// aPerson says how a person is named.
const aPerson = `
A person is account:NAME, ISSUER#SUBJECT, or as the stack's own sign-in knows people:
the name of an account, or the subject, which is what a provider's tokens call the
person in the claim sub.`

// dataCommands returns the commands that are about people's data.
func (a *App) dataCommands(stack *string) []*cobra.Command {
	add := func(
		use, short, long string, people int, question func(list []string) string,
	) *cobra.Command {
		var yes bool
		c := &cobra.Command{
			Use:   use,
			Short: short,
			Long:  long + "\n" + aPerson,
			Args: func(c *cobra.Command, list []string) error {
				if len(list) != people {
					return usageError{fmt.Errorf("%q: see `%s --help`", list, c.CommandPath())}
				}
				return nil
			},
			DisableFlagsInUseLine: true,
		}

		c.RunE = func(_ *cobra.Command, list []string) error {
			return a.aboutData(c.Context(), *stack, append([]string{c.Name()}, list...),
				question(list), yes)
		}
		c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before")
		return c
	}

	erase := add("erase PERSON", "Erase all that is stored of somebody",
		`Erases all that is stored of a person: conversations, sessions, keys and the account,
which goes last, so that an erasure that failed can be repeated. The last admin is kept.`, 1,
		func(list []string) string { return "Erase all that is stored of " + list[0] })
	move := add("move FROM TO", "Give somebody's conversations to somebody else",
		`Gives all conversations of one person to another one, such as to the same person at a
new provider. Both are signed out, and the first one's keys are revoked. A move that
failed can be repeated, and one that was wrong can be moved back.

FROM may be browser:ID: what a browser had while nobody signed in. The page Usage says
the ID then, and "codexctl usage --json" then and later; nobody is signed out by it.`, 2,
		func(list []string) string {
			return fmt.Sprintf("Give all conversations of %s to %s", list[0], list[1])
		})
	return []*cobra.Command{a.readCommand(stack), erase, move}
}

// aboutData runs `gate user` with the words in one of the stack's gates, after somebody at the
// terminal has typed the name of the person in question again.
func (a *App) aboutData(
	ctx context.Context, stack string, words []string, question string, yes bool,
) error {
	who := words[1]
	if !yes && !a.asks() {
		return usageError{fmt.Errorf("%s is about what is stored of %s and there is no terminal to "+
			"ask on: add --yes", words[0], who)}
	}

	if !yes && !a.typed(fmt.Sprintf("%s in stack %s? Type %s again: ", question, stack, who), who) {
		return errors.New("nothing was changed")
	}

	return a.user(ctx, stack, words)
}
