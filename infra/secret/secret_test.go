package secret_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// mocks makes every resource, and keeps the value that one was given.
type mocks struct{ value string }

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if v, ok := args.Inputs["value"]; ok {
		for v.IsSecret() {
			v = v.SecretValue().Element
		}
		m.value = v.StringValue()
	}
	return args.Name, args.Inputs, nil
}

func (m *mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

type made struct{ pulumi.CustomResourceState }

// TestCheck makes nothing of a value that is refused, and has a preview take it.
func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		value   string
		preview bool
		want    string
	}{
		"a good one":           {value: "good", want: "good"},
		"a bad one":            {value: "bad"},
		"a bad one in preview": {value: "bad", preview: true, want: "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &mocks{}
			err := pulumi.RunErr(func(ctx *pulumi.Context) error {
				values, err := secret.Values(ctx, "project", "stack", map[string]string{"x": "key"},
					func(name, value string) error {
						if name != "x" || value != "good" {
							return errors.New("it is bad")
						}
						return nil
					})
				if err != nil {
					return err
				}
				return ctx.RegisterResource("test:index:Thing", "thing",
					pulumi.Map{"value": values["x"]}, &made{})
			}, pulumi.WithMocks("project", "stack", m), func(info *pulumi.RunInfo) {
				info.Config = map[string]string{"project:key": tt.value}
				info.ConfigSecretKeys = []string{"project:key"}
				info.DryRun = tt.preview
			})

			if m.value != tt.want || (err == nil) != (tt.want != "") ||
				err != nil && !strings.Contains(err.Error(), "it is bad") {
				t.Errorf("made of %q, %v", m.value, err)
			}
		})
	}
}
