package server

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Command is the command line that every service has: no argument serves, `healthcheck [URL]` exits
// 0 when the service is alive, `version` prints the version.
type Command struct {
	// Health is the path that a health check without a URL asks.
	Health string

	// Usage is the error that any other command line gets.
	Usage string

	// Serve serves until ctx is done.
	Serve func(ctx context.Context, environ []string, stderr io.Writer) error
}

// Run does what args say. It returns nil after a clean stop.
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
	case args[0] == "version" && len(args) == 1:
		_, err := fmt.Fprintln(stdout, Version())
		return err
	}

	return errors.New(c.Usage)
}
