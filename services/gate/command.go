package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	redislog "github.com/redis/go-redis/v9/logging"
)

// opened is what a command about people works with, in a gate's container.
type opened struct {
	address  redisclient.Address
	store    *store.Store // which the caller closes
	names    *pseudonym.Names
	sessions *session.Manager
	log      *slog.Logger // discards, as the command prints its errors
}

// openOf opens Redis as the environment says, for a command.
func openOf(ctx context.Context, environ []string) (gateenv.Config, *opened, error) {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return cfg, nil, err
	}

	at, err := cfg.Redis()
	if err != nil {
		return cfg, nil, err
	}

	o, err := open(ctx, &cfg, at)
	return cfg, o, err
}

// open opens Redis at the address, with the names that the gates have where people sign in.
func open(ctx context.Context, cfg *gateenv.Config, at contract.Redis) (*opened, error) {
	redislog.Disable()
	o := &opened{
		address: redisclient.Address(at),
		names:   &pseudonym.Names{},
		log:     slog.New(slog.DiscardHandler),
	}

	var err error
	if o.store, err = store.New(o.address); err != nil {
		return nil, err
	}

	if cfg.SignIn != gateenv.None {
		if err := o.names.Read(ctx, o.store.Get); err != nil {
			o.store.Close()
			return nil, fmt.Errorf("%s: %w", o.address, err)
		}
	}

	o.sessions = session.New(o.store, o.names, cfg.SessionIdle, cfg.SessionLife, o.log)
	return o, nil
}
