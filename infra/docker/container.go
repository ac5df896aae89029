package docker

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const noNewPrivileges = "no-new-privileges:true"

// replacedBy lists the arguments whose change the provider reports as an update in place but never applies
// (terraform-provider-docker#988 for the health check; init, tmpfs and the CPU quota alike): they replace the container.
var replacedBy = []string{"healthcheck", "init", "tmpfs", "cpuQuota", "cpuPeriod"}

// cpuPeriod is the kernel's period of CPU accounting in microseconds; a quota of one period is one core.
const cpuPeriod = 100_000

// minCPU is the kernel's least quota, a millisecond in each period.
const minCPU stacks.MilliCPU = 10

// containerArgs are the arguments of one container of the service.
func (d *deployment) containerArgs(p plan, img madeImage, files *docker.Container) *docker.ContainerArgs {
	labels := d.stackLabels()
	labels[stacks.LabelService] = p.Name
	labels[LabelPIDs] = strconv.Itoa(p.Resources.PIDs)

	args := &docker.ContainerArgs{
		Image:    img.use,
		Envs:     pulumi.ToStringArray(p.env),
		Labels:   containerLabels(labels),
		User:     pulumi.String(p.user()),
		ReadOnly: pulumi.Bool(p.Security.WritableRoot == ""),
		Capabilities: &docker.ContainerCapabilitiesArgs{
			Drops: pulumi.ToStringArray([]string{"ALL"}),
			Adds:  pulumi.ToStringArray(p.capabilities),
		},
		SecurityOpts: pulumi.ToStringArray([]string{noNewPrivileges}),
		Privileged:   pulumi.Bool(false),
		Init:         pulumi.Bool(true),

		Memory: pulumi.Int(p.memoryMiB),
		// Equal to memory means no swap. Unset, Docker computes twice the memory, which would show as a change.
		MemorySwap: pulumi.Int(p.memoryMiB),
		// Not cpus: Docker refuses a number above the machine's cores, and a limit that a small machine cannot reach is none.
		CpuPeriod: pulumi.Int(cpuPeriod),
		CpuQuota:  pulumi.Int(int(p.Resources.CPU) * cpuPeriod / 1000),

		Restart: pulumi.String("unless-stopped"),
		// Without a grace the provider kills; with it, `docker stop` first lets streams drain.
		DestroyGraceSeconds: pulumi.Int(seconds(p.StopGrace)),
		StopTimeout:         pulumi.Int(seconds(p.StopGrace)),
		LogDriver:           pulumi.String("json-file"),
		LogOpts: pulumi.StringMap{
			"max-size": pulumi.String(strconv.FormatInt(int64(p.Log.MaxSize), 10)), // bytes
			"max-file": pulumi.String(strconv.Itoa(p.Log.MaxFiles)),
		},

		Healthcheck: &docker.ContainerHealthcheckArgs{
			Tests:         pulumi.ToStringArray(append([]string{"CMD"}, p.Health.Command...)),
			Interval:      pulumi.String(p.Health.Interval.String()),
			Timeout:       pulumi.String(p.Health.Timeout.String()),
			StartPeriod:   pulumi.String(p.Health.StartPeriod.String()),
			StartInterval: pulumi.String("0s"),
			Retries:       pulumi.Int(p.Health.Retries),
		},
		// The gate waits for health, once for all containers.
		Wait:    pulumi.Bool(false),
		MustRun: pulumi.Bool(true),

		// The provider makes the container on the default bridge and moves it to its networks before it starts.
		NetworkMode: pulumi.String("bridge"),
	}
	if len(p.Entrypoint) > 0 {
		args.Entrypoints = pulumi.ToStringArray(p.Entrypoint)
	}
	if len(p.Command) > 0 {
		args.Command = pulumi.ToStringArray(p.Command)
	}
	if p.gpu.gpus != "" {
		args.Gpus = pulumi.String(p.gpu.gpus)
	}
	if p.gpu.runtime != "" {
		args.Runtime = pulumi.String(p.gpu.runtime)
	}
	if files != nil {
		args.Volumes = docker.ContainerVolumeArray{docker.ContainerVolumeArgs{
			FromContainer: files.ID().ToStringOutput().ToStringPtrOutput(),
			ReadOnly:      pulumi.Bool(true),
		}}
	}
	if len(p.tmpfs) > 0 {
		args.Tmpfs = pulumi.ToStringMap(p.tmpfs)
	}
	var networks docker.ContainerNetworksAdvancedArray
	for _, n := range p.Networks {
		networks = append(networks, docker.ContainerNetworksAdvancedArgs{
			Name:    d.networks[n],
			Aliases: pulumi.ToStringArray([]string{p.Name}),
		})
	}
	args.NetworksAdvanced = networks
	var mounts docker.ContainerMountArray
	for _, m := range p.mounts {
		mount := docker.ContainerMountArgs{
			Type:     pulumi.String(string(m.Kind)),
			Source:   pulumi.String(m.Source),
			Target:   pulumi.String(m.Target),
			ReadOnly: pulumi.Bool(m.ReadOnly),
		}
		if m.Kind == stacks.MountVolume {
			mount.Source = d.volumes[m.Source].ToStringPtrOutput()
		}
		mounts = append(mounts, mount)
	}
	args.Mounts = mounts
	var ports docker.ContainerPortArray
	for _, port := range p.published {
		ports = append(ports, docker.ContainerPortArgs{
			Internal: pulumi.Int(port.Container),
			External: pulumi.Int(port.Host),
			Ip:       pulumi.String(port.Address),
			Protocol: pulumi.String("tcp"),
		})
	}
	args.Ports = ports
	return args
}

// seconds rounds up: a limit in whole seconds is never shorter than asked for.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// memoryMiB converts to the provider's unit.
func memoryMiB(b stacks.Bytes) (int, error) {
	if b <= 0 || b%stacks.MiB != 0 {
		return 0, fmt.Errorf("resources.memory: %d bytes is not a whole number of MiB, the unit of the docker provider", b)
	}
	return int(b / stacks.MiB), nil
}

// planMounts splits the mounts: binds and volumes with absolute sources, and tmpfs with its options.
func planMounts(mounts []stacks.Mount, root string) (disk []stacks.Mount, tmpfs map[string]string, err error) {
	tmpfs = map[string]string{}
	for _, m := range mounts {
		switch m.Kind {
		case stacks.MountVolume:
			disk = append(disk, m)
		case stacks.MountBind:
			if !filepath.IsLocal(m.Source) {
				return nil, nil, fmt.Errorf("mounts.%s: %q is not below the project's root", m.Target, m.Source)
			}
			m.Source = filepath.Join(root, m.Source)
			disk = append(disk, m)
		case stacks.MountTmpfs:
			access, exec := "rw", "noexec"
			if m.ReadOnly {
				access = "ro"
			}
			if m.Exec {
				exec = "exec"
			}
			tmpfs[m.Target] = fmt.Sprintf("%s,%s,nosuid,nodev,size=%d,mode=1777", access, exec, m.Size)
		default:
			return nil, nil, fmt.Errorf("mounts.%s: docker knows no mount of kind %q", m.Target, m.Kind)
		}
	}
	slices.SortFunc(disk, func(a, b stacks.Mount) int { return cmp.Compare(a.Target, b.Target) })
	return disk, tmpfs, nil
}

// capabilities are the kept ones, in the form with CAP_ in which the engine reads them back.
func capabilities(kept map[string]string) []string {
	out := []string{}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		out = append(out, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	}
	return out
}

// publishedPorts are the ports with a host port, in the order in which the provider reads them back.
func publishedPorts(ports []stacks.Port) []stacks.Port {
	var out []stacks.Port
	for _, p := range ports {
		if p.Host == 0 {
			continue
		}
		if p.Address == "" {
			p.Address = "127.0.0.1"
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b stacks.Port) int { return cmp.Compare(a.Container, b.Container) })
	return out
}
