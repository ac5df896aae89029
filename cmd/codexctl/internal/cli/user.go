package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
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

	c.AddCommand(a.eraseCommand(&stack))
	return c
}

func (a *App) eraseCommand(stack *string) *cobra.Command {
	var issuer string
	var yes bool
	c := &cobra.Command{
		Use:   "erase NAME",
		Short: "Erase all that is stored of somebody",
		Long: `Erases all that is stored of somebody: conversations, sessions, keys and the account,
which goes last, so that an erasure that failed can be repeated. The last admin is kept.

Where an OpenID provider knows the people, NAME is the subject: what the provider's
tokens call the person in the claim sub.`,
		Args: func(c *cobra.Command, list []string) error {
			if len(list) != 1 || list[0] == "" || strings.HasPrefix(list[0], "-") {
				return usageError{fmt.Errorf("name one person: see `%s --help`", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, list []string) error {
			return a.erase(c.Context(), *stack, list[0], issuer, yes)
		},
		DisableFlagsInUseLine: true,
	}

	c.Flags().StringVar(&issuer, "issuer", "", "the provider's issuer (default: the stack's)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before")
	return c
}

// erase runs `gate user erase` in one of the stack's gates, after the person at the terminal has
// typed the name again.
func (a *App) erase(ctx context.Context, stack, name, issuer string, yes bool) error {
	if !yes && !a.asks() {
		return usageError{fmt.Errorf("this erases all that is stored of %s and there is no terminal "+
			"to ask on: add --yes", name)}
	}

	question := fmt.Sprintf("Erase all that is stored of %s in stack %s? Type the name again: ", name,
		stack)
	if !yes && !a.typed(question, name) {
		return errors.New("nothing was erased")
	}

	words := []string{"erase"}
	if issuer != "" {
		words = append(words, "--issuer="+issuer)
	}

	return a.user(ctx, stack, append(words, name))
}

// user runs `gate user` with the words in one of the stack's gates.
func (a *App) user(ctx context.Context, name string, words []string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	gate := stack.Service(stacks.Gate)
	if gate == nil {
		return fmt.Errorf("stack %s has no %s", t.file.Name, stacks.Gate)
	}

	if mode := stack.SignIn(); mode != gateenv.Accounts &&
		!(words[0] == "erase" && mode == gateenv.OIDC) {
		return fmt.Errorf("nobody has an account in stack %s: set %s:signIn: {accounts: true}, "+
			"then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	list, err := t.replicas(ctx, p, stacks.Gate)
	if err != nil {
		return err
	}

	i := slices.IndexFunc(list, func(r running.Replica) bool { return r.Healthy })
	if i < 0 {
		return fmt.Errorf("%s of stack %s does not run well yet: `codexctl status %s`", stacks.Gate,
			t.file.Name, t.name)
	}

	way, err := p.Edge(ctx, stack)
	if err != nil {
		return err
	}
	defer way.Close()

	at := way.address
	if len(stack.TrustedProxies) > 0 {
		at = "" // people come by what stands before the edge, whose address it does not know
	}

	command := []string{gate.Health.Command[0], "user", "--at=" + at}
	code, output, err := p.Exec(ctx, list[i], append(command, words...))
	if err != nil {
		return err
	}
	if code != 0 {
		return errors.New(strings.TrimPrefix(output, stacks.Gate+": "))
	}

	a.out.Printf("%s", output)
	if way.address == "" && way.hint != "" {
		a.say("%s", way.hint)
	}

	return nil
}
