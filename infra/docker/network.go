package docker

import (
	"fmt"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addNetworks makes the stack's bridge networks under fixed names: people and tools attach to them by name.
func (d *deployment) addNetworks() error {
	for _, n := range d.stack.Networks {
		physical := n.Name + "-" + d.stack.Name
		network, err := docker.NewNetwork(d.ctx, n.Name, &docker.NetworkArgs{
			Name:     pulumi.String(physical),
			Driver:   pulumi.String("bridge"),
			Internal: pulumi.Bool(n.Internal),
			Labels:   networkLabels(d.stackLabels()),
		})
		if err != nil {
			return fmt.Errorf("networks.%s: %w", n.Name, err)
		}
		d.networks[n.Name] = network.Name
	}
	return nil
}
