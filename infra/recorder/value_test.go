package recorder

import (
	"maps"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// TestUnknownSecrets checks that a secret has a fingerprint only if all of it is known: before they
// are provisioned, any two would have the same.
func TestUnknownSecrets(t *testing.T) {
	text := resource.NewStringProperty
	unknown := resource.MakeComputed(text(""))
	values := reader{key: []byte("key")}
	inputs := values.object("", resource.PropertyMap{
		"known":   resource.MakeSecret(text("a")),
		"unknown": resource.MakeSecret(unknown),
		"partly": resource.MakeSecret(resource.NewObjectProperty(resource.PropertyMap{
			"known": text("a"), "unknown": unknown,
		})),
	})

	for name, v := range inputs {
		if v != Secret {
			t.Errorf("%s is %v", name, v)
		}
	}

	got := slices.Collect(maps.Keys(values.fingerprints))
	if !slices.Equal(got, []string{"known"}) {
		t.Errorf("there are fingerprints of %q", got)
	}
}
