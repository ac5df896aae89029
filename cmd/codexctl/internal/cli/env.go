package cli

import (
	"context"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
)

func (a *App) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env [STACK]",
		Short: "Print what a plain pulumi needs to work on the same state",
		Long: `Prints the environment variables by which a plain pulumi finds the state, the
engine and the passphrase that codexctl uses, as commands of a POSIX shell:

  eval "$(codexctl env)"; pulumi up -s dev

It prints nothing where pulumi finds everything by itself.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.env(c.Context(), stackOf(args))
		},
	}
}

func (a *App) env(ctx context.Context, name string) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}

	host, err := a.engineHost(t)
	if err != nil {
		return err
	}

	backend, env, err := a.pulumiEnv(t, host)
	if err != nil {
		return err
	}
	if err := t.project.Prepare(backend); err != nil {
		return err
	}

	find, err := a.finder(t)
	if err != nil {
		return err
	}
	if found := find.Look(ctx); found.Path == found.Built {
		env["PATH"] = filepath.Dir(found.Built) + string(filepath.ListSeparator) + a.getenv("PATH")
	}

	for _, k := range slices.Sorted(maps.Keys(env)) {
		a.out.Printf("export %s=%s", k, quote(env[k]))
	}

	return nil
}

// quote returns s as a word of a POSIX shell.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (a *App) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of codexctl and of what it builds",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			revision, toolchain := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				toolchain = info.GoVersion
				for _, s := range info.Settings {
					switch {
					case s.Key == "vcs.revision":
						revision = s.Value[:min(12, len(s.Value))]
					case s.Key == "vcs.modified" && s.Value == "true":
						revision += " with changes"
					}
				}
			}

			a.out.Table([][]string{
				{"codexctl", revision},
				{"go", toolchain},
				{"pulumi", "v" + pulumicli.Version + " where none from v" + pulumicli.Minimum + " on is on PATH"},
			}, nil)

			return nil
		},
	}
}
