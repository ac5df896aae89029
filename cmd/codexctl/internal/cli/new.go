package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
)

func (a *App) newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "new",
		Short: "Add a service or a domain to the sources",
		Long: `Writes what a new service or domain is made of into the checkout, ready to be
planned and tested: docs/domains.md and docs/extending.md tell what each file is
for. It writes all of it or nothing, and overwrites nothing.`,
		SuggestionsMinimumDistance: 2,
		Args:                       noArgs,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	for _, kind := range []struct {
		name, short, example string
		make                 func(root string, name scaffold.Name) (scaffold.Change, error)
	}{
		{"domain", "Add a stack with a model and texts of its own", "legal", scaffold.Domain},
		{"service", "Add a Go service that every stack runs", "search", scaffold.Service},
	} {
		c.AddCommand(&cobra.Command{
			Use:   kind.name + " NAME",
			Short: kind.short,
			Args: func(c *cobra.Command, args []string) error {
				if len(args) != 1 {
					return usageError{fmt.Errorf("name one %s, such as %s: see `%s --help`",
						kind.name, kind.example, c.CommandPath())}
				}
				return nil
			},
			RunE: func(_ *cobra.Command, args []string) error {
				return a.add(args[0], kind.make)
			},
			DisableFlagsInUseLine: true,
		})
	}

	return c
}

// add writes the change of that name into the checkout, and prints what it wrote and what comes
// next.
func (a *App) add(
	text string, change func(root string, name scaffold.Name) (scaffold.Change, error),
) error {
	name, err := scaffold.ParseName(text)
	if err != nil {
		return usageError{err}
	}
	p, err := project.Find(a.dir)
	if err != nil {
		return err
	}

	c, err := change(p.Root, name)
	if err != nil {
		return err
	}
	if err := c.Write(p.Root); err != nil {
		return err
	}

	for _, f := range c.Files {
		a.out.Printf("new      %s", f.Path)
	}
	for _, e := range c.Edits {
		a.out.Printf("changed  %s", e.Path)
	}

	a.say("Next:")
	for _, step := range c.Next {
		a.say("  %s", step)
	}
	return nil
}
