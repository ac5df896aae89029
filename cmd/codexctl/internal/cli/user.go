package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) userCommand() *cobra.Command {
	var stack string
	c := &cobra.Command{
		Use:   "user COMMAND",
		Short: "Invite people to a stack, and manage their accounts",
		Long: `Manages the accounts of a stack in which people sign in with a name and a password
(codexcontinue:signIn: {accounts: true}). It runs inside one of the stack's gates.
Where an OpenID provider has the accounts there are erase, move, read and sign-out.

The code of an invitation is shown once, and good once, for 72 hours.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	c.PersistentFlags().StringVarP(&stack, "stack", "s", defaultStack, "the stack")

	add := func(use, short string, args cobra.PositionalArgs) *cobra.Command {
		word, _, _ := strings.Cut(use, " ")
		sub := &cobra.Command{
			Use:   use,
			Short: short,
			Args: func(c *cobra.Command, list []string) error {
				if err := args(c, list); err != nil {
					return usageError{fmt.Errorf("%w: see `%s --help`", err, c.CommandPath())}
				}
				return nil
			},
			RunE: func(c *cobra.Command, list []string) error {
				line := append([]string{word}, list...)
				if admin, _ := c.Flags().GetBool("admin"); admin {
					line = append(line, "--admin")
				}
				return a.user(c.Context(), stack, line)
			},
			DisableFlagsInUseLine: true,
		}

		c.AddCommand(sub)
		return sub
	}

	one := cobra.ExactArgs(1)
	add("list", "List the accounts and invitations", cobra.NoArgs)
	add("invite NAME", "Let somebody make an account", one).
		Flags().Bool("admin", false, "as an admin, who can invite others on the page")
	add("reset NAME", "Let somebody choose a new password", one)
	add("admin NAME", "Make somebody an admin", one)
	add("member NAME", "Make an admin a member", one)
	add("groups NAME [GROUP...]", "Say of which groups somebody is", cobra.MinimumNArgs(1))
	add("remove NAME", "Remove an account or an invitation", one)
	add("sign-out PERSON", "End the sessions and keys of somebody", one).Long = signOutLong

	c.AddCommand(a.dataCommands(&stack)...)
	return c
}

const signOutLong = `Ends all sessions of a person and revokes all keys, at once. Who may sign in can do so
again: take that away first, at the provider, or by codexctl user remove.
` + aPerson

// ofProviders are the commands that are for the people of an OpenID provider as well.
var ofProviders = []string{"erase", "move", "sign-out"}

// user runs `gate user` with the words in one of the stack's gates.
func (a *App) user(ctx context.Context, name string, words []string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	if mode := stack.SignIn(); mode != gateenv.Accounts &&
		!(mode == gateenv.OIDC && slices.Contains(ofProviders, words[0])) {
		return fmt.Errorf("nobody has an account in stack %s: set %s:signIn: {accounts: true}, "+
			"then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
	}

	g, err := a.gate(ctx, t, stack)
	if err != nil {
		return err
	}
	defer g.platform.Close()

	way, err := g.platform.Edge(ctx, stack)
	if err != nil {
		return err
	}
	defer way.Close()

	at := way.address
	if len(stack.TrustedProxies) > 0 {
		at = "" // people come by what stands before the edge, whose address it does not know
	}

	output, err := g.user(ctx, at, words)
	if err != nil {
		return err
	}

	a.out.Printf("%s", output)
	if way.address == "" && way.hint != "" {
		a.say("%s", way.hint)
	}

	return nil
}

// user runs `gate user` with the words, for whoever runs this command. The page for a code is at
// the site.
func (g gate) user(ctx context.Context, site string, words []string) (string, error) {
	line := append([]string{"user", "--at=" + site, "--by=" + operator()}, words...)
	output, err := g.run(ctx, line...)
	if err != nil && strings.Contains(err.Error(), "usage: gate user") {
		// A gate of the version before records nothing, and does not know --by.
		return g.run(ctx, slices.Delete(line, 2, 3)...)
	}

	return output, err
}

// nobodyYet is how the gate's list of people begins where there is none.
const nobodyYet = "Nobody has an account."

// sayWhoIsFirst says how the first person gets an account, where people need one, nobody has one
// and nobody is invited. A gate that cannot be asked now leaves it at that.
func (a *App) sayWhoIsFirst(ctx context.Context, t target, p platform, stack stacks.Stack) {
	if stack.SignIn() != gateenv.Accounts {
		return
	}

	g, err := healthyGate(ctx, t, stack, p)
	if err == nil && g.nobodyYet(ctx) {
		a.say("nobody can sign in yet. Invite an administrator: "+
			"codexctl user invite --stack %s --admin NAME", t.name)
	}
}

// nobodyYet reports whether the stack is known to have no account and no invitation.
func (g gate) nobodyYet(ctx context.Context) bool {
	said, err := g.user(ctx, "", []string{"list"})
	return err == nil && strings.HasPrefix(said, nobodyYet)
}
