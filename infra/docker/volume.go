package docker

import (
	"fmt"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addVolumes makes the stack's volumes under fixed names. Docker makes a volume or hands out the one that is there:
// so what `destroy` kept is adopted again by the next `up`.
func (d *deployment) addVolumes() error {
	for _, v := range d.stack.Volumes {
		volume, err := docker.NewVolume(d.ctx, v.Name, &docker.VolumeArgs{
			Name:   pulumi.String(volumeName(d.stack, v)),
			Driver: pulumi.String("local"),
			Labels: volumeLabels(d.stackLabels()),
		}, pulumi.RetainOnDelete(true),
			// A volume cannot be changed, only replaced by an empty one, and the data is worth more than its label or
			// driver: an adopted volume keeps those it was made with.
			pulumi.IgnoreChanges([]string{"labels", "driver", "driverOpts"}))
		if err != nil {
			return fmt.Errorf("volumes.%s: %w", v.Name, err)
		}
		d.volumes[v.Name] = volume.Name
	}
	return nil
}

func volumeName(stack stacks.Stack, v stacks.Volume) string {
	return stacks.Project + "-" + v.Name + "-" + stack.Name
}
