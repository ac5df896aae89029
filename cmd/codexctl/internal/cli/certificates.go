package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

// authorityKey is the key of the config with what the certificates come of.
const authorityKey = stacks.Project + ":" + stacks.InternalAuthorityKey

func (a *App) certificatesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "certificates COMMAND",
		Short: "Make what the services' certificates come of, and replace it",
		Long: `Makes the secret codexcontinue:internalAuthority of a stack whose services speak TLS with
each other (codexcontinue:internalTLS), and writes it, encrypted, to the stack's settings
file. Every certificate and key inside the stack comes of it, and lasts two years.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	anyway := false
	rotate := &cobra.Command{
		Use:   "rotate STACK",
		Short: "Replace it, for the next up",
		Long: `Replaces the authority by the next one, which the services trust already, and adds a new
next one. The next "codexctl up" replaces the certificates. Old and new services trust each
other over one rotation, so it is refused while the settings are not those of the last up.`,
		Args: exactly(1, "name the stack"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.rotateCertificates(c.Context(), args[0], anyway)
		},
		DisableFlagsInUseLine: true,
	}
	rotate.Flags().BoolVar(&anyway, "anyway", false,
		"though the settings have changed since the last up")

	c.AddCommand(&cobra.Command{
		Use:   "new STACK",
		Short: "Make the secret of a stack that has none",
		Args:  exactly(1, "name the stack"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.newCertificates(c.Context(), args[0])
		},
		DisableFlagsInUseLine: true,
	}, rotate)

	return c
}

func (a *App) newCertificates(ctx context.Context, name string) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}

	if t.hasAuthority() {
		return fmt.Errorf("%s: is set: replace it with `codexctl certificates rotate %s`",
			authorityKey, t.name)
	}

	plain, secret := t.file.Config.Own()
	_, stack, err := program.LoadOffline(t.project.Root, t.file.Name, plain, secret)
	if err != nil {
		return err
	}
	if !stack.InternalTLS() {
		return fmt.Errorf("the services of stack %s do not speak TLS: `pulumi config set -s %s "+
			"%s:internalTLS true` first", t.file.Name, t.name, stacks.Project)
	}

	return a.writeAuthority(ctx, t, func(context.Context, *deploy.Session) (string, error) {
		return authority.New(a.now()), nil
	})
}

func (a *App) rotateCertificates(ctx context.Context, name string, anyway bool) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}

	if !t.hasAuthority() {
		return fmt.Errorf("%s: is not set: `codexctl certificates new %s`", authorityKey, t.name)
	}

	return a.writeAuthority(ctx, t, func(ctx context.Context, s *deploy.Session) (string, error) {
		settings, err := settingsDigest(t)
		if err != nil {
			return "", err
		}
		list, err := s.History(ctx)
		if err != nil {
			return "", err
		}
		if !anyway && !isUp(list, settings) {
			return "", fmt.Errorf("%s has changed since the last `codexctl up %s`: run that first, or "+
				"give --anyway if nobody has rotated since, as over two rotations services do not "+
				"trust each other", t.file.Path, t.name)
		}

		text, err := s.Secret(ctx, authorityKey)
		if err != nil {
			return "", err
		}

		text, err = authority.Rotate(text, a.now())
		if err != nil {
			return "", fmt.Errorf("%s: %w: remove it with `pulumi config rm -s %s %[1]s` and make one "+
				"with `codexctl certificates new %[3]s`", authorityKey, err, t.name)
		}
		return text, nil
	})
}

// isUp reports whether the last update that made all had the settings file of the digest, or left
// nothing that runs. It takes one that says no digest, as a plain pulumi makes them, for that.
func isUp(newestFirst []deploy.Update, digest string) bool {
	for _, u := range newestFirst {
		switch {
		case !u.Made():
		case u.Kind == "destroy":
			return true
		case u.Kind == "update":
			return u.Release == nil || u.Release.Settings == digest
		}
	}
	return true
}

// hasAuthority reports whether the secret is in the settings.
func (t target) hasAuthority() bool {
	_, secret := t.file.Config.Own()
	return slices.Contains(secret, stacks.InternalAuthorityKey)
}

// writeAuthority writes the secret that made makes.
func (a *App) writeAuthority(
	ctx context.Context, t target, made func(context.Context, *deploy.Session) (string, error),
) error {
	s, err := a.session(ctx, t, true)
	if err != nil {
		return a.explainError(err, t.name)
	}

	text, err := made(ctx, s)
	if err == nil {
		err = s.SetSecret(ctx, authorityKey, text)
	}
	if failed, ok := errors.AsType[*deploy.Error](err); ok {
		return a.explainError(failed, t.name)
	}
	if err != nil {
		return err
	}

	a.say("%s: %s is a new one: certificates are good until %s: `codexctl up %s`", t.file.Path,
		authorityKey, a.now().Add(authority.Life).UTC().Format("2006-01-02"), t.name)
	return nil
}
