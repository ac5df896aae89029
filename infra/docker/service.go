package docker

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// cpuPeriod is the kernel's period of CPU accounting in microseconds; a quota of
// one period is one core.
const cpuPeriod = 100_000

// service renders the service, and reports every part of it that Docker cannot express.
func (r *Rendering) service(root fs.FS, svc stacks.Service) (types.ServiceConfig, error) {
	var errs []error
	collect := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("services.%s.%w", svc.Name, err))
		}
	}

	for _, err := range refuseService(r.stack, svc) {
		collect(err)
	}

	labels := r.labels()
	labels[stacks.LabelService] = svc.Name
	c := types.ServiceConfig{
		Restart: types.RestartPolicyUnlessStopped,
		ContainerSpec: types.ContainerSpec{
			Entrypoint:  svc.Entrypoint,
			Command:     svc.Command,
			User:        fmt.Sprintf("%d:%d", svc.Security.UID, svc.Security.GID),
			ReadOnly:    svc.Security.WritableRoot == "",
			CapDrop:     []string{"ALL"},
			CapAdd:      capabilities(svc.Security.KeepCapabilities),
			SecurityOpt: []string{noNewPrivileges},
			Init:        new(true),

			MemLimit: types.UnitBytes(svc.Resources.Memory),
			// Equal to memory means no swap. Unset, Docker computes twice the memory.
			MemSwapLimit: types.UnitBytes(svc.Resources.Memory),
			// Not cpus: Docker refuses a number above the machine's cores, and a limit that a small
			// machine cannot reach is none.
			CPUPeriod: cpuPeriod,
			CPUQuota:  int64(svc.Resources.CPU) * cpuPeriod / 1000,
			PidsLimit: int64(svc.Resources.PIDs),

			StopGracePeriod: new(types.Duration(svc.StopGrace)),
			Labels:          labels,
			Logging: &types.LoggingConfig{Driver: "json-file", Options: types.Options{
				"max-size": strconv.FormatInt(int64(svc.Log.MaxSize), 10), // bytes
				"max-file": strconv.Itoa(svc.Log.MaxFiles),
			}},
			Networks: map[string]*types.ServiceNetworkConfig{},
		},
		WorkloadSpec: types.WorkloadSpec{
			Ports:     published(svc.Ports),
			DependsOn: types.DependsOnConfig{},
			HealthCheck: &types.HealthCheckConfig{
				Test:        slices.Concat([]string{"CMD"}, svc.Health.Command),
				Interval:    new(types.Duration(svc.Health.Interval)),
				Timeout:     new(types.Duration(svc.Health.Timeout)),
				StartPeriod: new(types.Duration(svc.Health.StartPeriod)),
				Retries:     new(uint64(svc.Health.Retries)),
			},
		},
	}

	var err error
	c.Image, c.Build, err = r.image(root, svc.Image)
	collect(err)
	devices, err := gpuDevices(svc.GPU)
	collect(err)
	if svc.Replicas > 1 || len(devices) > 0 {
		c.Deploy = &types.DeployConfig{}
	}
	if svc.Replicas > 1 {
		c.Deploy.Replicas = &svc.Replicas
	}
	if len(devices) > 0 {
		c.Deploy.Resources.Reservations = &types.Resource{Devices: devices}
	}

	c.Environment, err = environment(svc, devices)
	collect(err)
	c.Volumes, c.Tmpfs, err = mounts(svc.Mounts)
	collect(err)
	for _, f := range modelFiles(svc, r.model) {
		c.Configs = append(c.Configs, types.ServiceConfigObjConfig{
			Source: modelFileID(f.ModelFile), Target: f.target,
		})
	}

	for _, name := range svc.Networks {
		c.Networks[name] = nil // the service's name is its only alias
	}
	if _, wayOut := r.stack.WayOut(svc); !wayOut {
		c.DNS = []string{NoResolver}
	}

	for _, f := range svc.Files {
		if id := fileID(svc.Name, f); f.Secret != "" {
			c.Secrets = append(c.Secrets, types.ServiceSecretConfig{Source: id, Target: f.Path})
		} else {
			c.Configs = append(c.Configs, types.ServiceConfigObjConfig{Source: id, Target: f.Path})
		}
	}

	for _, dep := range svc.DependsOn {
		c.DependsOn[dep] = types.ServiceDependency{
			Condition: types.ServiceConditionHealthy,
			Required:  true,
		}
	}

	return c, errors.Join(errs...)
}

// image returns the reference to pull, or the repository with the digest of the build's inputs as
// its tag, and how to build it unless a bundle brought it. An image that was kept is used as it is.
func (r *Rendering) image(root fs.FS, img stacks.Image) (string, *types.BuildConfig, error) {
	b := img.Build
	switch {
	case b == nil:
		ref, _, err := image.Upstream(root, img.Ref)
		return ref, nil, err
	case img.Kept != "":
		return img.Kept, nil, nil
	}

	ref, err := image.Ref(root, *b, r.stack.Platform())
	if err != nil {
		return "", nil, err
	}
	if brought, err := image.IsBrought(root, ref); err != nil || brought {
		return ref, nil, err
	}

	folder := path.Clean(b.Context)
	dockerfile, err := filepath.Rel(folder, path.Clean(b.Dockerfile))
	if err != nil {
		return "", nil, fmt.Errorf("image.build.dockerfile: %w", err)
	}

	return ref, &types.BuildConfig{
		Context: folder, Dockerfile: filepath.ToSlash(dockerfile), Target: b.Target,
		Args: types.Mapping(b.Args).ToMappingWithEquals(),
	}, nil
}

// environment returns the service's environment. A variable that asks for GPUs must
// not be among its own.
func environment(
	svc stacks.Service, devices []types.DeviceRequest,
) (types.MappingWithEquals, error) {
	gpus := nvidia(devices)
	vars, err := svc.Environment(gpus)
	if err != nil {
		return nil, err
	}

	for name := range gpus {
		delete(vars, name)
	}

	return types.Mapping(vars).ToMappingWithEquals(), nil
}

// mounts splits the mounts but those of the model's files: binds and volumes, and tmpfs with its
// options.
func mounts(
	all []stacks.Mount,
) (disk []types.ServiceVolumeConfig, tmpfs types.StringList, err error) {
	for _, m := range all {
		on := types.ServiceVolumeConfig{
			Type:     string(m.Kind),
			Source:   m.Source,
			Target:   m.Target,
			ReadOnly: m.ReadOnly,
		}

		switch m.Kind {
		case stacks.MountModel:
		case stacks.MountVolume:
			disk = append(disk, on)
		case stacks.MountBind:
			if !filepath.IsLocal(m.Source) {
				return nil, nil, fmt.Errorf("mounts.%s: %q is not below the project's root",
					m.Target, m.Source)
			}
			on.Source = "./" + path.Clean(m.Source)
			disk = append(disk, on)
		case stacks.MountHost:
			on.Type = types.VolumeTypeBind
			disk = append(disk, on)
		case stacks.MountTmpfs:
			access, exec := "rw", "noexec"
			if m.ReadOnly {
				access = "ro"
			}
			if m.Exec {
				exec = "exec"
			}

			tmpfs = append(tmpfs,
				fmt.Sprintf("%s:%s,%s,nosuid,nodev,size=%d,mode=1777", m.Target, access, exec,
					m.Size))
		default:
			return nil, nil, fmt.Errorf("mounts.%s: docker knows no mount of kind %q", m.Target,
				m.Kind)
		}
	}

	slices.SortFunc(disk, func(a, b types.ServiceVolumeConfig) int {
		return cmp.Compare(a.Target, b.Target)
	})
	slices.Sort(tmpfs)
	return disk, tmpfs, nil
}

// capabilities returns the names of the kept ones, without CAP_.
func capabilities(kept map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		out = append(out, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	}
	return out
}

// published returns the ports with a host port, in the order in which the provider reads them back.
func published(ports []stacks.Port) []types.ServicePortConfig {
	var out []types.ServicePortConfig
	for _, p := range ports {
		if p.Host == 0 {
			continue
		}

		out = append(out, types.ServicePortConfig{
			Mode: "ingress", Protocol: p.Protocol(), HostIP: cmp.Or(p.Address, "127.0.0.1"),
			Published: strconv.Itoa(p.Host), Target: uint32(p.Container),
		})
		if p.Name == stacks.HTTPS || p.Name == stacks.HTTP3 {
			out[len(out)-1].AppProtocol = stacks.HTTPS
		}
	}

	slices.SortFunc(out, func(a, b types.ServicePortConfig) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}
