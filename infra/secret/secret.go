// Package secret reads the values of a stack's secrets, which every target needs and which are
// nowhere else. It knows no stack, so that an edit of one does not compile it again.
package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Placeholder begins the text that stands in the place of each secret's value in a plan that is made
// of files alone. A plan that shows it shows a secret.
const Placeholder = "placeholder-of-secret-"

// Values returns the values of the secrets, by name, from the Pulumi config of the project. keys
// are the keys there, by name; one with dots is the path of a text in a value that is an object, as
// `pulumi config set --path` takes it. The error has each that is not there, with the command that
// sets it, and each for which check returns an error, which a Placeholder in a preview is not asked
// for. So a program that calls Values before it registers anything changes nothing for a value that
// is refused.
func Values(
	ctx *pulumi.Context, project, stack string, keys map[string]string,
	check func(name, value string) error,
) (map[string]pulumi.StringOutput, error) {
	out := map[string]pulumi.StringOutput{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		object, path, nested := strings.Cut(keys[name], ".")
		value, ok := ctx.GetConfig(project + ":" + object)
		if !ok {
			key, flags := project+":"+keys[name], "--secret"
			if nested {
				flags += " --path"
			}
			errs = append(errs, fmt.Errorf("secrets.%s: the config has no %s: set it with "+
				"`pulumi config set %s --stack %s %s`", name, key, flags, stack, key))
			continue
		}

		if nested {
			if value, ok = lookUp(value, strings.Split(path, ".")); !ok {
				errs = append(errs, fmt.Errorf("secrets.%s: %s:%s is no text: set it again with "+
					"`pulumi config set --secret --path`", name, project, keys[name]))
				continue
			}
		}

		if !ctx.DryRun() || !strings.HasPrefix(value, Placeholder) {
			if err := check(name, value); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		out[name] = pulumi.ToSecret(pulumi.String(value)).(pulumi.StringOutput)
	}

	return out, errors.Join(errs...)
}

// lookUp returns the text at the path in the object, which is JSON, and reports whether it is
// there.
func lookUp(object string, path []string) (string, bool) {
	var v any
	if json.Unmarshal([]byte(object), &v) != nil {
		return "", false
	}
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		v = m[key]
	}

	text, ok := v.(string)
	return text, ok && text != ""
}
