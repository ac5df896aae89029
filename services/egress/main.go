// Command egress is the way out of a stack that has no other: an HTTP proxy (CONNECT) which lets
// through to the destinations that the stack's settings name, and to nobody else.
//
//	egress                    serve, configured by the environment (see egressenv)
//	egress healthcheck [URL]  exit 0 when /health answers 200
//	egress version            print the version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/codexcontinue/codexcontinue/services/egress/internal/tunnel"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "egress:", err)
		os.Exit(1)
	}
}

// run runs the command. It returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c := server.Command{
		Health: "/health",
		Usage:  "usage: egress [healthcheck [URL] | version]",
		Serve:  serve,
	}
	return c.Run(ctx, args, environ, stdout, stderr)
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[egressenv.Config](environ)
	if err != nil {
		return err
	}

	log := logging.New(stderr, "egress", cfg.LogLevel, cfg.Debug)
	srv := server.New("egress", log, cfg.DrainTimeout)
	srv.Liveness("/health")
	srv.Readiness("/ready", nil)
	if cfg.Debug {
		srv.Profiling()
	}

	tunnels := tunnel.New(cfg.Destinations, cfg.Private, log)
	srv.Connect(tunnels)
	return srv.Run(ctx, cfg.ListenAddr, tunnels.Wait)
}
