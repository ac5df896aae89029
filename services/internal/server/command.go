package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Command is the command line of every service. Without arguments it serves, `healthcheck [URL]`
// exits 0 if the service is alive, `certificate` prints until when the one by which it speaks TLS
// with the others of its stack is good, `version` prints the version.
type Command struct {
	// Health is the path of a health check without a URL.
	Health string

	// Usage is the error for any other command line.
	Usage string

	// Serve serves until ctx is done.
	Serve func(ctx context.Context, environ []string, stderr io.Writer) error
}

// Run runs the command. It returns nil after a clean stop.
func (c Command) Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	switch {
	case len(args) == 0:
		return c.Serve(ctx, environ, stderr)
	case args[0] == "healthcheck" && len(args) <= 2:
		url := ""
		if len(args) == 2 {
			url = args[1]
		}
		return Healthcheck(ctx, environ, c.Health, url)
	case args[0] == "certificate" && len(args) == 1:
		who, err := identity(environ)
		if err != nil {
			return err
		}
		if who == nil {
			return errors.New("TLS_CERTIFICATE_FILE: is not set: there is no certificate")
		}

		_, err = fmt.Fprintln(stdout, who.Expires().Format(time.RFC3339))
		return err
	case args[0] == "version" && len(args) == 1:
		_, err := fmt.Fprintln(stdout, Version())
		return err
	}

	return errors.New(c.Usage)
}
