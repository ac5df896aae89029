// Command peer is both ends of the attempts of package outside: `peer serve ADDRESS...` answers
// them, and `peer try` makes those that it reads as JSON, and writes their results.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	"github.com/codexcontinue/codexcontinue/test/outside"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) > 1 && args[0] == "serve":
		go func() { log.Fatal(outside.Sniff(os.Stdout)) }()
		return outside.Serve(ctx, args[1:], os.Stdout)
	case len(args) == 1 && args[0] == "try":
		var attempts []outside.Attempt
		if err := json.NewDecoder(os.Stdin).Decode(&attempts); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(outside.Try(ctx, attempts))
	}

	return errors.New("usage: peer serve ADDRESS... | peer try")
}
