// Pulumi-resource-kubernetes is Pulumi's provider for Kubernetes, built from its Go module. What it
// embeds lies in a folder of that module which cannot be imported; upstream's own build copies it.
// test/peers/build.sh tells the compiler where the two files are.
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
