package docker

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addVolumes makes the stack's volumes. Docker makes a volume or hands out the one that is there:
// so what `destroy` kept is adopted again by the next `up`.
func (d *deployment) addVolumes() error {
	for _, v := range d.stack.Volumes {
		c := d.Project.Volumes[v.Name]
		volume, err := docker.NewVolume(d.ctx, v.Name, &docker.VolumeArgs{
			Name:   pulumi.String(c.Name),
			Driver: pulumi.String(c.Driver),
			Labels: docker.VolumeLabelArray(pairs(c.Labels, volumeLabel)),
		}, pulumi.RetainOnDelete(slices.Contains(d.Retained, v.Name)),
			// A volume cannot be changed, only replaced by an empty one, and the data is worth more
			// than its label or driver: an adopted volume keeps those it was made with.
			pulumi.IgnoreChanges([]string{"labels", "driver", "driverOpts"}))
		if err != nil {
			return fmt.Errorf("volumes.%s: %w", v.Name, err)
		}

		d.volumes[v.Name] = volume.Name
	}

	return nil
}
