package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/report"
)

// printUsage prints what people have used, in a gate's container.
func printUsage(ctx context.Context, args, environ []string, stdout io.Writer) error {
	cfg, o, err := openOf(ctx, environ)
	if err != nil {
		return err
	}
	defer o.store.Close()

	var known report.Names
	switch cfg.SignIn {
	case gateenv.Accounts:
		known = account.New(o.store, o.names, o.sessions).Names
	case gateenv.OIDC:
		known = o.sessions.Names
	}

	err = report.New(o.store, cfg.Limits, known).Command(ctx, args, stdout)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", o.address, err)
	}

	return err
}
