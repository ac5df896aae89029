package docker

import (
	"maps"
	"slices"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Labels that only containers on Docker carry.
const (
	// LabelPIDs is the limit of processes and threads; the provider has no argument for it (see engine.go).
	LabelPIDs = "dev.codexcontinue.pids"
	// LabelFilesOf stands on the never-started container that carries a service's files (see file.go), in the place of
	// stacks.LabelService.
	LabelFilesOf = "dev.codexcontinue.files-of"
)

// The provider takes labels as a set of pairs, with one Go type for each kind of resource; sorted, they are stable.

func networkLabels(labels map[string]string) docker.NetworkLabelArray {
	var out docker.NetworkLabelArray
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, docker.NetworkLabelArgs{Label: pulumi.String(k), Value: pulumi.String(labels[k])})
	}
	return out
}

func volumeLabels(labels map[string]string) docker.VolumeLabelArray {
	var out docker.VolumeLabelArray
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, docker.VolumeLabelArgs{Label: pulumi.String(k), Value: pulumi.String(labels[k])})
	}
	return out
}

func containerLabels(labels map[string]string) docker.ContainerLabelArray {
	var out docker.ContainerLabelArray
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, docker.ContainerLabelArgs{Label: pulumi.String(k), Value: pulumi.String(labels[k])})
	}
	return out
}
