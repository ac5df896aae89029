package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/infra/export"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write a stack for docker compose or kubectl",
		Long: `Writes what "up" would provision in the form of another tool, for where Pulumi
cannot run. The values of secrets are not in it: the export says how to make them
where the stack runs. It plans from the files alone.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	for _, form := range []struct {
		name, short string
		target      stacks.Target
		make        func(export.Source) ([]export.File, error)
	}{
		{"compose", "Write a project of docker compose", stacks.Docker, export.Compose},
		{"kubernetes", "Write manifests for kubectl apply", stacks.Kubernetes, export.Kubernetes},
	} {
		var dir string
		sub := &cobra.Command{
			Use:   form.name + " [STACK]",
			Short: form.short,
			Args:  stackArg,
			RunE: func(c *cobra.Command, args []string) error {
				return a.export(c.Context(), stackOf(args), form.target, dir, form.make)
			},
			DisableFlagsInUseLine: true,
		}

		sub.Flags().StringVarP(&dir, "out", "o", "",
			"write the files into this folder, instead of the main one to stdout")
		c.AddCommand(sub)
	}

	return c
}

// export writes the stack's files into dir. If dir is empty it prints the first of them, with paths
// relative to the project's root.
func (a *App) export(
	ctx context.Context, name string, on stacks.Target, dir string,
	make func(export.Source) ([]export.File, error),
) error {
	t, p, err := a.planOf(ctx, name, on)
	if err != nil {
		return err
	}

	to := t.project.Root
	if dir != "" {
		if to, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}

	// A plan is the same on every machine. What is exported names the images that this one builds.
	rendered, err := program.Render(p.Settings, p.Stack, t.project.Root)
	if err != nil {
		return err
	}

	files, err := make(export.Source{
		Rendered: rendered,
		Stack:    p.Stack,
		Root:     t.project.Root,
		Dir:      to,
	})
	if err != nil {
		return err
	}

	if dir == "" {
		if _, err := fmt.Fprint(a.out, files[0].Text); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if len(files) > 1 {
			a.say("it needs %s beside it: --out DIR writes them all", paths(files[1:]))
		}
		return nil
	}

	for _, f := range files {
		if err := writeFile(filepath.Join(to, filepath.FromSlash(f.Path)), f.Text, f.Mode); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}

	a.say("wrote %s to %s: the head of %s says how to use it", paths(files), dir, files[0].Path)
	return nil
}

func paths(files []export.File) string {
	var out []string
	for _, f := range files {
		out = append(out, f.Path)
	}
	return strings.Join(out, ", ")
}

// writeFile writes the file with the mode, whatever the umask.
func writeFile(path, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
