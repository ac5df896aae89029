package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/report"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	redislog "github.com/redis/go-redis/v9/logging"
)

// printUsage prints what people have used, in a gate's container.
func printUsage(ctx context.Context, args, environ []string, stdout io.Writer) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
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

	var known report.Names
	if cfg.SignIn != gateenv.None {
		names := &pseudonym.Names{}
		if err := names.Read(ctx, st.Get); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}

		log := slog.New(slog.DiscardHandler)
		sessions := session.New(st, names, cfg.SessionIdle, cfg.SessionLife, log)
		known = signedInNames(sessions)
		if cfg.SignIn == gateenv.Accounts {
			known = account.New(st, names, sessions).Names
		}
	}

	err = report.New(st, cfg.Limits, known).Command(ctx, args, stdout)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", address, err)
	}

	return err
}

// signedInNames returns the function that knows the names of those who are signed in: a provider
// keeps the people, and the gate only sessions.
func signedInNames(sessions *session.Manager) report.Names {
	return func(ctx context.Context, ids []string) (map[string]string, error) {
		names := map[string]string{}
		for _, id := range ids {
			list, err := sessions.List(ctx, id)
			if err != nil {
				return nil, err
			}
			if len(list) > 0 {
				names[id] = list[0].Name
			}
		}

		return names, nil
	}
}
