// Package secret reads the values of a stack's secrets, which every target needs and which are nowhere else.
package secret

import (
	"errors"
	"fmt"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

// Values takes the values of the stack's secrets from the Pulumi config, by Secret.Name. Each that is not there is in the
// error, with the command that sets it.
func Values(ctx *pulumi.Context, stack stacks.Stack) (map[string]pulumi.StringOutput, error) {
	cfg := config.New(ctx, stacks.Project)
	out := map[string]pulumi.StringOutput{}
	var errs []error
	for _, s := range stack.Secrets {
		v, err := cfg.TrySecret(s.ConfigKey)
		if err != nil {
			errs = append(errs, fmt.Errorf("secrets.%s: the config has no %s:%s: set it with `pulumi config set --secret --stack %s %s:%s`",
				s.Name, stacks.Project, s.ConfigKey, stack.Name, stacks.Project, s.ConfigKey))
			continue
		}
		out[s.Name] = v
	}
	return out, errors.Join(errs...)
}
