package docker

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const noNewPrivileges = "no-new-privileges:true"

// replacedBy lists the arguments whose change the provider reports as an update in place but never
// applies (terraform-provider-docker#988 for the health check; init, tmpfs and the CPU quota
// alike): they replace the container.
var replacedBy = []string{"healthcheck", "init", "tmpfs", "cpuQuota", "cpuPeriod"}

// containerArgs translates the service for the provider: the arguments of each of its containers.
func (d *deployment) containerArgs(
	name string, img madeImage, files *docker.Container,
) (*docker.ContainerArgs, error) {
	c := d.Project.Services[name]
	gpus := nvidia(devices(c))
	variables := c.Environment.ToMapping()
	maps.Copy(variables, gpus)
	labels := maps.Clone(c.Labels)
	labels[LabelPIDs] = strconv.FormatInt(c.PidsLimit, 10)
	// A limit in whole seconds is never shorter than asked for.
	grace := pulumi.Int(int(math.Ceil(time.Duration(*c.StopGracePeriod).Seconds())))
	args := &docker.ContainerArgs{
		Image:    img.use,
		Envs:     pulumi.ToStringArray(variables.Values()),
		Labels:   docker.ContainerLabelArray(pairs(labels, containerLabel)),
		User:     pulumi.String(c.User),
		ReadOnly: pulumi.Bool(c.ReadOnly),
		Capabilities: &docker.ContainerCapabilitiesArgs{
			Drops: pulumi.ToStringArray(c.CapDrop),
			Adds:  pulumi.ToStringArray(readBack(c.CapAdd)),
		},
		SecurityOpts: pulumi.ToStringArray(c.SecurityOpt),
		Privileged:   pulumi.Bool(c.Privileged),
		Init:         pulumi.BoolPtrFromPtr(c.Init),

		Memory:     pulumi.Int(int(c.MemLimit / types.UnitBytes(stacks.MiB))),
		MemorySwap: pulumi.Int(int(c.MemSwapLimit / types.UnitBytes(stacks.MiB))),
		CpuPeriod:  pulumi.Int(int(c.CPUPeriod)),
		CpuQuota:   pulumi.Int(int(c.CPUQuota)),

		Restart: pulumi.String(c.Restart),
		// Without a grace the provider kills; with it, `docker stop` first lets streams drain.
		DestroyGraceSeconds: grace,
		StopTimeout:         grace,
		LogDriver:           pulumi.String(c.Logging.Driver),
		LogOpts:             pulumi.ToStringMap(c.Logging.Options),

		Healthcheck: &docker.ContainerHealthcheckArgs{
			Tests:         pulumi.ToStringArray(c.HealthCheck.Test),
			Interval:      pulumi.String(c.HealthCheck.Interval.String()),
			Timeout:       pulumi.String(c.HealthCheck.Timeout.String()),
			StartPeriod:   pulumi.String(c.HealthCheck.StartPeriod.String()),
			StartInterval: pulumi.String("0s"),
			Retries:       pulumi.Int(int(*c.HealthCheck.Retries)),
		},
		// The gate waits for health, once for all containers.
		Wait:    pulumi.Bool(false),
		MustRun: pulumi.Bool(true),

		// The provider makes the container on the default bridge and moves it to its
		// networks before it starts.
		NetworkMode: pulumi.String("bridge"),
	}
	if len(c.Entrypoint) > 0 {
		args.Entrypoints = pulumi.ToStringArray(c.Entrypoint)
	}
	if len(c.Command) > 0 {
		args.Command = pulumi.ToStringArray(c.Command)
	}

	switch {
	case len(gpus) > 0:
		args.Runtime = pulumi.String("nvidia")
	case len(devices(c)) > 0:
		args.Gpus = pulumi.String("all")
	}

	if files != nil {
		args.Volumes = docker.ContainerVolumeArray{docker.ContainerVolumeArgs{
			FromContainer: files.ID().ToStringOutput().ToStringPtrOutput(),
			ReadOnly:      pulumi.Bool(true),
		}}
	}

	if len(c.Tmpfs) > 0 {
		tmpfs := pulumi.StringMap{}
		for _, t := range c.Tmpfs {
			target, options, _ := strings.Cut(t, ":")
			tmpfs[target] = pulumi.String(options)
		}
		args.Tmpfs = tmpfs
	}

	var networks docker.ContainerNetworksAdvancedArray
	for _, n := range d.stack.Service(name).Networks { // a project has no order of them
		networks = append(networks, docker.ContainerNetworksAdvancedArgs{
			Name:    d.networks[n],
			Aliases: pulumi.ToStringArray([]string{name}), // as compose has it
		})
	}

	args.NetworksAdvanced = networks
	if len(c.DNS) > 0 {
		args.Dns = pulumi.ToStringArray(c.DNS)
	}

	var mounts docker.ContainerMountArray
	for _, m := range c.Volumes {
		mount := docker.ContainerMountArgs{
			Type:     pulumi.String(m.Type),
			Target:   pulumi.String(m.Target),
			ReadOnly: pulumi.Bool(m.ReadOnly),
		}
		switch {
		case m.Type == types.VolumeTypeVolume:
			mount.Source = d.volumes[m.Source].ToStringPtrOutput()
		case filepath.IsAbs(m.Source):
			mount.Source = pulumi.String(m.Source)
		default:
			mount.Source = pulumi.String(filepath.Join(d.root, m.Source))
		}

		mounts = append(mounts, mount)
	}

	args.Mounts = mounts
	var ports docker.ContainerPortArray
	for _, p := range c.Ports {
		host, err := strconv.Atoi(p.Published)
		if err != nil {
			return nil, fmt.Errorf("ports: %w", err)
		}

		ports = append(ports, docker.ContainerPortArgs{
			Internal: pulumi.Int(int(p.Target)),
			External: pulumi.Int(host),
			Ip:       pulumi.String(p.HostIP),
			Protocol: pulumi.String(p.Protocol),
		})
	}

	args.Ports = ports
	return args, nil
}

// readBack returns the capabilities in the form with CAP_, in which the engine reads them back.
func readBack(names []string) []string {
	out := []string{}
	for _, name := range names {
		out = append(out, "CAP_"+name)
	}
	return out
}
