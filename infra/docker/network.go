package docker

import (
	"fmt"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addNetworks makes the stack's bridge networks.
func (d *deployment) addNetworks() error {
	for _, n := range d.stack.Networks {
		c := d.Project.Networks[n.Name]
		args := &docker.NetworkArgs{
			Name:     pulumi.String(c.Name),
			Driver:   pulumi.String(c.Driver),
			Internal: pulumi.Bool(c.Internal),
			Labels:   docker.NetworkLabelArray(pairs(c.Labels, networkLabel)),
		}
		if len(c.DriverOpts) > 0 {
			args.Options = pulumi.ToStringMap(c.DriverOpts)
		}

		network, err := docker.NewNetwork(d.ctx, n.Name, args)
		if err != nil {
			return fmt.Errorf("networks.%s: %w", n.Name, err)
		}

		d.networks[n.Name] = network.Name
	}

	return nil
}
