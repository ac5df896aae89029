// Command planner prints the plans of a checkout, every stack for every target, as
// plan.Encode writes them:
//
//	planner ROOT < KEY
//
// KEY fingerprints the plans' secrets. It comes from stdin, where no other process reads it.
// `codexctl diff` builds the planner from the sources of each revision that it compares, because
// only these define the revision's stacks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: planner ROOT < KEY")
	}

	key, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("planner: read the key: %w", err)
	}
	if len(key) < 16 {
		return fmt.Errorf("planner: a key of %d bytes can be guessed: give 16 or more", len(key))
	}

	return plan.Print(ctx, stdout, args[0], key)
}
