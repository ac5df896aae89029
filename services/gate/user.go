package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	redislog "github.com/redis/go-redis/v9/logging"
)

// user manages the accounts, in a gate's container. `--at=URL` says where the site is.
func user(ctx context.Context, args, environ []string, stdout io.Writer) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}

	site := ""
	if len(args) > 0 {
		if value, ok := strings.CutPrefix(args[0], "--at="); ok {
			site, args = strings.TrimSuffix(value, "/"), args[1:]
		}
	}

	erases := len(args) > 0 && args[0] == "erase"
	if cfg.SignIn != gateenv.Accounts && !(erases && cfg.SignIn == gateenv.OIDC) {
		return fmt.Errorf("nobody has an account in this stack: SIGN_IN is %s, not %s", cfg.SignIn,
			gateenv.Accounts)
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	redislog.Disable()
	address := redisclient.Address(at)
	st, err := store.New(address)
	if err != nil {
		return err
	}
	defer st.Close()

	names := &pseudonym.Names{}
	if err := names.Read(ctx, st.Get); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}

	log := slog.New(slog.DiscardHandler)
	sessions := session.New(st, names, cfg.SessionIdle, cfg.SessionLife, log)
	accounts := account.New(st, names, sessions)
	keys := newKeys(st, cfg.SignIn)
	accounts.OnRemove(keys.RevokeAll)
	if erases && len(args) > 1 {
		data, publish := ownData(cfg, st, sessions, keys)
		if err = publish(ctx); err == nil {
			err = erase(ctx, cfg, args[1:], names, accounts, data, stdout)
		}
	} else {
		err = accounts.Command(ctx, args, site, stdout)
	}

	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", address, err)
	}

	return err
}

// ownData returns what is stored of people, for a command beside the gates. publish must have
// returned before it is used: the backend knows then who asks.
func ownData(
	cfg gateenv.Config, st *store.Store, sessions *session.Manager, keys *apikey.Keys,
) (data *owndata.Data, publish func(context.Context) error) {
	signer := identity.NewSigner(identity.Gate)
	sign := func(p identity.Person) string { return signer.Sign(p, identity.Backend) }
	publish = func(ctx context.Context) error { return signer.Publish(ctx, st.Publish) }
	return owndata.New(st, hop.New("frontend", cfg.FrontendURL), sign, sessions, keys), publish
}

// erase erases all that is stored of the person with the account that the first of the
// words names. Where an OpenID provider knows the people it names the subject, and a second
// one may be the issuer.
func erase(
	ctx context.Context, cfg gateenv.Config, words []string, names *pseudonym.Names,
	accounts *account.Accounts, data *owndata.Data, stdout io.Writer,
) error {
	who, issuer, err := parseErase(words, cfg)
	if err != nil {
		return err
	}

	if cfg.SignIn == gateenv.OIDC {
		err = data.Erase(ctx, names.Of(issuer, who))
	} else {
		err = accounts.Erase(ctx, who, data.Erase)
	}

	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}

	said := ""
	if err := data.Rewrite(ctx); err != nil {
		said = fmt.Sprintf(" Redis does not write its append-only file anew, which has it until then: "+
			"%v.", err)
	}

	_, err = fmt.Fprintf(stdout, "All that was stored of %s has been erased.%s\n", who, said)
	return err
}

// parseErase returns whom the words name.
func parseErase(words []string, cfg gateenv.Config) (who, issuer string, err error) {
	issuer = cfg.Issuer
	if value, ok := strings.CutPrefix(words[0], "--issuer="); ok && cfg.SignIn == gateenv.OIDC {
		issuer, words = value, words[1:]
	}

	if len(words) != 1 || words[0] == "" || strings.HasPrefix(words[0], "-") {
		return "", "", errors.New("usage: gate user erase NAME, or where an OpenID provider knows " +
			"the people: gate user erase [--issuer=URL] SUBJECT")
	}

	return words[0], issuer, nil
}
