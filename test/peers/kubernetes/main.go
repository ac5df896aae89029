// Pulumi-resource-kubernetes is Pulumi's provider for Kubernetes, built from its Go module. The
// files it embeds are in a folder of that module which cannot be imported, so upstream's own build
// copies them. test/peers/build.sh makes the compiler find the two files.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var mapping []byte

func main() { provider.Serve("kubernetes", version.Version, schema, mapping) }
