// Package secret reads the values of a stack's secrets, which every target needs and which are
// nowhere else. It knows no stack, so that an edit of one does not compile it again.
package secret

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

// Values returns the values of the secrets, by name, from the Pulumi config of the project. keys
// are the keys there, by name. The error has each that is not there, with the command that sets it.
// What needs a value for which check returns an error is not provisioned. A preview does not check,
// as a plan has other texts in the place of values.
func Values(
	ctx *pulumi.Context, project, stack string, keys map[string]string,
	check func(name, value string) error,
) (map[string]pulumi.StringOutput, error) {
	cfg := config.New(ctx, project)
	out := map[string]pulumi.StringOutput{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		v, err := cfg.TrySecret(keys[name])
		if err != nil {
			key := project + ":" + keys[name]
			errs = append(errs, fmt.Errorf("secrets.%s: the config has no %s: set it with "+
				"`pulumi config set --secret --stack %s %s`", name, key, stack, key))
			continue
		}

		if !ctx.DryRun() {
			v = v.ApplyT(func(value string) (string, error) {
				return value, check(name, value)
			}).(pulumi.StringOutput)
		}
		out[name] = v
	}

	return out, errors.Join(errs...)
}
