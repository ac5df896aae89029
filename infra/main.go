// Command infra is the Pulumi program of `pulumi up`; codexctl runs the same program inline. See
// infra/program.
package main

import (
	"os"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// exitLogged tells the Pulumi CLI that the program has reported its error itself.
const exitLogged = 32

func main() {
	// pulumi.Run would head the error with "an unhandled error occurred" and a count of errors.
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		err := program.Deploy("")(ctx)
		if err != nil {
			_ = ctx.Log.Error(err.Error(), nil) // the engine that would take the line is gone
		}
		return err
	})
	if err != nil {
		os.Exit(exitLogged)
	}
}
