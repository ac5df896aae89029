// Command backend is the REST API: conversations, answers that outlive their readers, models and the stack's status.
//
//	backend                    serve, as the environment says (see services/contract)
//	backend healthcheck [URL]  exit 0 when /health answers 200
//	backend version            print the version
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

// errUsage is what a wrong command line gets.
var errUsage = errors.New("usage: backend [healthcheck [URL] | version]")

// run is the whole command: it returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	switch {
	case len(args) == 0:
		return serve(ctx, environ, stderr)
	case args[0] == "healthcheck" && len(args) <= 2:
		addr, url := "", ""
		if len(args) == 2 {
			url = args[1]
		} else if addr = lookup(environ, "LISTEN_ADDR"); addr == "" {
			return errors.New("healthcheck: LISTEN_ADDR is not set: set it or give a URL")
		}
		return server.Healthcheck(ctx, addr, "/health", url)
	case args[0] == "version" && len(args) == 1:
		_, err := fmt.Fprintln(stdout, version())
		return err
	}
	return errUsage
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[contract.Backend](environ)
	if err != nil {
		return err
	}
	log := logging.New(stderr, "backend", cfg.LogLevel, cfg.Debug)
	srv := server.New("backend", log, cfg.DrainTimeout)
	srv.Liveness("/health")
	if cfg.Debug {
		srv.Profiling()
	}
	return srv.Run(ctx, cfg.ListenAddr)
}

// lookup finds a variable in the environment; the last setting of it counts, as for os.Getenv.
func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// version is the version control revision that the binary was built from, when Go recorded one.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+modified"
		}
	}
	if rev == "" {
		return info.Main.Version
	}
	return rev + modified
}
