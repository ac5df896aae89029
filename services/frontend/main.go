// Command frontend serves the web UI: server-rendered chat pages, answers streamed as sanitised
// HTML, and a proxy to the backend's API.
//
//	frontend                    serve, configured by the environment (see services/frontend/frontendenv)
//	frontend healthcheck [URL]  exit 0 when /healthz answers 200
//	frontend certificate        print until when its certificate is good
//	frontend version            print the version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/web"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "frontend:", err)
		os.Exit(1)
	}
}

// run runs the command. It returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c := server.Command{
		Health: "/healthz",
		Usage:  "usage: frontend [healthcheck [URL] | certificate | version]",
		Serve:  serve,
	}
	return c.Run(ctx, args, environ, stdout, stderr)
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[frontendenv.Config](environ)
	if err != nil {
		return err
	}

	log := logging.New(stderr, "frontend", cfg.LogLevel, cfg.Debug)
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	srv := server.New("frontend", log, cfg.DrainTimeout)
	srv.Secure(who.Server())
	texts, err := domain.Read(cfg.DomainFile)
	if err != nil {
		return fmt.Errorf("DOMAIN_FILE: %w", err)
	}

	app, err := web.New(cfg, texts, log)
	if err != nil {
		return err
	}

	app.Secure(who.Client())
	app.Register(srv)
	return srv.Run(ctx, cfg.ListenAddr, app.Drain)
}
