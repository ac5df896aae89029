package docker

import (
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Labels that only containers on Docker carry.
const (
	// LabelPIDs is the limit of processes and threads; the provider has no argument
	// for it (see engine.go).
	LabelPIDs = "dev.codexcontinue.pids"
	// LabelFilesOf stands on the never-started container that carries a service's files (see
	// file.go), in the place of stacks.LabelService.
	LabelFilesOf = "dev.codexcontinue.files-of"
)

// pairs returns the labels as the provider takes them, a set of pairs; sorted, they are stable.
// Each kind of resource has a Go type of its own for a pair.
func pairs[T any](labels types.Labels, pair func(name, value pulumi.String) T) []T {
	var out []T
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, pair(pulumi.String(name), pulumi.String(labels[name])))
	}
	return out
}

func networkLabel(name, value pulumi.String) docker.NetworkLabelInput {
	return docker.NetworkLabelArgs{Label: name, Value: value}
}

func volumeLabel(name, value pulumi.String) docker.VolumeLabelInput {
	return docker.VolumeLabelArgs{Label: name, Value: value}
}

func containerLabel(name, value pulumi.String) docker.ContainerLabelInput {
	return docker.ContainerLabelArgs{Label: name, Value: value}
}
