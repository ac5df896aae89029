// Command knowledge keeps documents and finds the passages of them that answer a question.
//
//	knowledge                    serve, configured by the environment (see knowledgeenv)
//	knowledge healthcheck [URL]  exit 0 when /health answers 200
//	knowledge version            print the version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "knowledge:", err)
		os.Exit(1)
	}
}

// run runs the command. It returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c := server.Command{
		Health: "/health",
		Usage:  "usage: knowledge [healthcheck [URL] | version]",
		Serve:  serve,
	}
	return c.Run(ctx, args, environ, stdout, stderr)
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[knowledgeenv.Config](environ)
	if err != nil {
		return err
	}

	log := logging.New(stderr, "knowledge", cfg.LogLevel, cfg.Debug)
	srv := server.New("knowledge", log, cfg.DrainTimeout)
	srv.Liveness("/health")
	srv.Readiness("/ready", nil)
	return srv.Run(ctx, cfg.ListenAddr, nil)
}
