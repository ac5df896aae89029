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
type mocks struct {
	value  string
	secret bool
}

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if v, ok := args.Inputs["value"]; ok {
		for v.IsSecret() {
			v, m.secret = v.SecretValue().Element, true
		}
		m.value = v.StringValue()
	}
	return args.Name, args.Inputs, nil
}

func (m *mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

type made struct{ pulumi.CustomResourceState }

// TestCheck refuses a value before anything is made, also in a preview. That takes a plan's text in
// the place of a value; what provisions does not.
func TestCheck(t *testing.T) {
	const placeholder = secret.Placeholder + "key"
	for name, tt := range map[string]struct {
		value, path string
		preview     bool
		want, err   string
	}{
		"a good one":               {value: "good", want: "good"},
		"a bad one":                {value: "bad", err: "it is bad"},
		"a bad one in a preview":   {value: "bad", preview: true, err: "it is bad"},
		"a placeholder":            {value: placeholder, preview: true, want: placeholder},
		"a placeholder, for real":  {value: placeholder, err: "it is bad"},
		"a good one in an object":  {value: `{"a":{"b":"good"}}`, path: ".a.b", want: "good"},
		"a bad one in an object":   {value: `{"a":{"b":"bad"}}`, path: ".a.b", err: "it is bad"},
		"an object in the place":   {value: `{"a":{"b":{}}}`, path: ".a.b", err: "is no text"},
		"an object that lacks one": {value: `{"a":"good"}`, path: ".a.b", err: "is no text"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &mocks{}
			err := pulumi.RunErr(func(ctx *pulumi.Context) error {
				values, err := secret.Values(ctx, "project", "stack",
					map[string]string{"x": "key" + tt.path},
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

			if m.value != tt.want || (err == nil) != (tt.err == "") ||
				err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("made of %q, %v", m.value, err)
			}
			if m.value != "" && !m.secret {
				t.Error("the value is no secret")
			}
		})
	}
}

// TestRefusals says all that is wrong with the values at once.
func TestRefusals(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := secret.Values(ctx, "project", "stack",
			map[string]string{"a": "bad", "b": "gone", "c": "gone.too"},
			func(name, _ string) error { return errors.New(name + " is bad") })
		return err
	}, pulumi.WithMocks("project", "stack", &mocks{}), func(info *pulumi.RunInfo) {
		info.Config = map[string]string{"project:bad": "x"}
	})
	for _, want := range []string{
		"a is bad",
		"secrets.b: the config has no project:gone: set it with `pulumi config set --secret --stack",
		"secrets.c: the config has no project:gone.too: set it with `pulumi config set --secret --path",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
