package workload_test

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

// onEngine reads the project's one service.
func onEngine(c types.ServiceConfig) []workload.Workload {
	p := &types.Project{
		Name:     "codexcontinue-dev",
		Services: types.Services{"redis": c},
		Networks: types.Networks{
			"open": {Name: "open-dev"},
			"closed": {Name: "closed-dev", Internal: true, DriverOpts: types.Options{
				docker.NoAddress: "true",
			}},
			"ajar": {Name: "ajar-dev", Internal: true},
			"inbound": {Name: "inbound-dev", DriverOpts: types.Options{
				docker.SourceAddress: docker.Nowhere,
			}},
		},
	}
	r := &docker.Rendering{Project: p, StopsFirst: []string{"redis"}}
	return workload.FromProject(r, "/root").Workloads
}

// TestContainerOfAnEngine reads what a compose project can say of a container.
func TestContainerOfAnEngine(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*types.ServiceConfig)
		want   func(*workload.Container)
	}{
		"nothing": {func(*types.ServiceConfig) {}, func(*workload.Container) {}},
		"built here": {
			func(c *types.ServiceConfig) { c.Build = &types.BuildConfig{} },
			func(c *workload.Container) { c.Built = true },
		},
		"a command": {
			func(c *types.ServiceConfig) {
				c.Entrypoint = types.ShellCommand{"a"}
				c.Command = types.ShellCommand{"b", stacks.SecretToken, "x" + stacks.SecretHashToken}
			},
			func(c *workload.Container) {
				c.Command = []string{"a", "b", plan.Secret, plan.Secret}
			},
		},
		"variables": {
			func(c *types.ServiceConfig) {
				c.Environment = types.NewMappingWithEquals([]string{"B=2", "A=" + stacks.SecretToken})
				c.Labels = types.Labels{"d": "4", "c": "3"}
			},
			func(c *workload.Container) {
				c.Env = map[string]string{"A": plan.Secret, "B": "2"}
				c.Labels = map[string]string{"c": "3", "d": "4"}
			},
		},
		"limits": {
			func(c *types.ServiceConfig) { c.MemLimit, c.MemSwapLimit, c.PidsLimit, c.CPUS = 7, 7, 5, 1.5 },
			func(c *workload.Container) { c.Memory, c.PIDs, c.CPU = 7, 5, 1500 },
		},
		"a share of a period": {
			func(c *types.ServiceConfig) { c.CPUQuota, c.CPUPeriod = 50_000, 200_000 },
			func(c *workload.Container) { c.CPU = 250 },
		},
		"swap": {
			func(c *types.ServiceConfig) { c.MemLimit, c.MemSwapLimit = 7, 8 },
			func(c *workload.Container) { c.Memory, c.Swap = 7, true },
		},
		"a health check": {
			func(c *types.ServiceConfig) {
				c.HealthCheck = &types.HealthCheckConfig{Test: []string{"CMD", "ok"}}
			},
			func(c *workload.Container) { c.Health = []string{"CMD", "ok"} },
		},
		"no health check": {
			func(c *types.ServiceConfig) {
				c.HealthCheck = &types.HealthCheckConfig{Test: []string{"CMD"}, Disable: true}
			},
			func(*workload.Container) {},
		},
		"no new privileges": {
			func(c *types.ServiceConfig) { c.SecurityOpt = []string{"no-new-privileges"} },
			func(c *workload.Container) { c.NewPrivileges = false },
		},
		"no new privileges, spelt out": {
			func(c *types.ServiceConfig) { c.SecurityOpt = []string{"no-new-privileges=true"} },
			func(c *workload.Container) { c.NewPrivileges = false },
		},
		"new privileges": {
			func(c *types.ServiceConfig) { c.SecurityOpt = []string{"no-new-privileges:false"} },
			func(*workload.Container) {},
		},
		"unconfined": {
			func(c *types.ServiceConfig) {
				c.SecurityOpt = []string{"seccomp:unconfined", "apparmor=unconfined", "label:disable"}
			},
			func(c *workload.Container) { c.Unconfined = []string{"seccomp", "apparmor", "selinux"} },
		},
		"confined in another way": {
			func(c *types.ServiceConfig) {
				c.SecurityOpt = []string{"seccomp:own.json", "label:level:s0", "apparmor:disable"}
			},
			func(*workload.Container) {},
		},
		"capabilities": {
			func(c *types.ServiceConfig) {
				c.CapDrop, c.CapAdd = []string{"all"}, []string{"cap_sys_admin", "CHOWN"}
			},
			func(c *workload.Container) {
				c.DroppedCapabilities, c.AddedCapabilities = []string{"ALL"}, []string{"CHOWN", "SYS_ADMIN"}
			},
		},
		"a device": {
			func(c *types.ServiceConfig) { c.Devices = []types.DeviceMapping{{Source: "/dev/kvm"}} },
			func(c *workload.Container) { c.Devices = []string{"/dev/kvm"} },
		},
		"chosen GPUs": {
			func(c *types.ServiceConfig) {
				c.Deploy = reserved(types.DeviceRequest{IDs: []string{"0", "2"}})
			},
			func(c *workload.Container) { c.GPU = "0,2" },
		},
		"all GPUs": {
			func(c *types.ServiceConfig) { c.Deploy = reserved(types.DeviceRequest{Count: stacks.AllGPUs}) },
			func(c *workload.Container) { c.GPU = "all" },
		},
		"deployed without reservations": {
			func(c *types.ServiceConfig) { c.Deploy = &types.DeployConfig{} },
			func(*workload.Container) {},
		},
		"a log in memory": {
			func(c *types.ServiceConfig) { c.Logging = &types.LoggingConfig{Driver: "none"} },
			func(c *workload.Container) { c.LogBounded = true },
		},
		"a log that turns": {
			func(c *types.ServiceConfig) { c.Logging = &types.LoggingConfig{Driver: "local"} },
			func(c *workload.Container) { c.LogBounded = true },
		},
		"a log with a bound": {
			func(c *types.ServiceConfig) {
				c.Logging = &types.LoggingConfig{Driver: "json-file", Options: types.Options{"max-size": "1m"}}
			},
			func(c *workload.Container) { c.LogBounded = true },
		},
		"a log without a bound": {
			func(c *types.ServiceConfig) { c.Logging = &types.LoggingConfig{Driver: "json-file"} },
			func(*workload.Container) {},
		},
		"volumes": {
			func(c *types.ServiceConfig) {
				c.Volumes = []types.ServiceVolumeConfig{
					{Type: "bind", Source: "services/x", Target: "/a", ReadOnly: true},
					{Type: "bind", Source: "/etc", Target: "/b"},
					{Type: "volume", Source: "data", Target: "/c"},
				}
				c.Tmpfs = types.StringList{"/tmp:size=1m", "/run"}
			},
			func(c *workload.Container) {
				c.Mounts = []workload.Mount{
					{Kind: workload.HostPath, Source: "/root/services/x", Path: "/a", ReadOnly: true},
					{Kind: workload.HostPath, Source: "/etc", Path: "/b"},
					{Kind: workload.Storage, Source: "data", Path: "/c"},
					{Kind: workload.Memory, Path: "/run"}, {Kind: workload.Memory, Path: "/tmp"},
				}
			},
		},
		"files": {
			func(c *types.ServiceConfig) {
				c.Configs = []types.ServiceConfigObjConfig{{Target: "/etc/a/x"}, {Target: "/etc/a/y"}}
			},
			func(c *workload.Container) {
				c.Mounts = []workload.Mount{{Kind: workload.Files, Path: "/etc/a", ReadOnly: true}}
			},
		},
		"files, one of them a secret": {
			func(c *types.ServiceConfig) {
				c.Configs = []types.ServiceConfigObjConfig{{Target: "/etc/a/x"}}
				c.Secrets = []types.ServiceSecretConfig{{Target: "/run/secrets/x"}}
			},
			func(c *workload.Container) {
				c.Mounts = []workload.Mount{{Kind: workload.Secrets, Path: "/etc/a", ReadOnly: true},
					{Kind: workload.Secrets, Path: "/run/secrets", ReadOnly: true}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var service types.ServiceConfig
			service.Image = "redis:8"
			tc.change(&service)
			want := workload.Container{
				Image: "redis:8", NewPrivileges: true,
				Env: map[string]string{}, Labels: map[string]string{},
			}
			tc.want(&want)
			if d := cmp.Diff(want, onEngine(service)[0].Containers[0]); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func reserved(d types.DeviceRequest) *types.DeployConfig {
	return &types.DeployConfig{Resources: types.Resources{
		Reservations: &types.Resource{Devices: []types.DeviceRequest{d}},
	}}
}

// TestServiceOfAnEngine reads what a compose project can say of a service beside its container.
func TestServiceOfAnEngine(t *testing.T) {
	type service = types.ServiceConfig
	none := map[string]*types.ServiceNetworkConfig(nil)
	on := func(names ...string) map[string]*types.ServiceNetworkConfig {
		out := map[string]*types.ServiceNetworkConfig{}
		for _, name := range names {
			out[name] = nil
		}
		return out
	}
	for name, tc := range map[string]struct {
		networks map[string]*types.ServiceNetworkConfig
		change   func(*service)
		want     workload.Workload
	}{
		"on no network": {
			none, func(c *service) { c.NetworkMode = "none" },
			workload.Workload{Fenced: true},
		},
		"on the engine's own network": {
			none, func(*service) {},
			workload.Workload{WaysOut: []string{"the engine's default network"}},
		},
		"on the machine's network": {
			none, func(c *service) { c.NetworkMode = "host" },
			workload.Workload{
				Fenced: true, WaysOut: []string{"the machine's network"}, HostNamespaces: []string{"network"},
			},
		},
		"in the machine's namespaces": {
			on("closed"), func(c *service) {
				c.Pid, c.Ipc, c.UserNSMode, c.Cgroup = "host", "host", "host", "host"
			},
			workload.Workload{
				Fenced: true, Networks: []string{"closed-dev"},
				HostNamespaces: []string{"pid", "ipc", "user", "cgroup"},
			},
		},
		"on two networks": {
			on("open", "closed"), func(*service) {},
			workload.Workload{
				Fenced: true, Networks: []string{"closed-dev", "open-dev"},
				WaysOut: []string{"network open-dev"},
			},
		},
		"on the network where its port is published": {
			on("inbound", "closed"), func(*service) {},
			workload.Workload{
				Fenced: true, Networks: []string{"closed-dev", "inbound-dev"},
				Machine: []string{"inbound-dev"},
			},
		},
		"on a network where the machine has an address": {
			on("ajar"), func(*service) {},
			workload.Workload{
				Fenced: true, Networks: []string{"ajar-dev"}, Machine: []string{"ajar-dev"},
			},
		},
		"with a resolver": {
			on("closed"), func(c *service) { c.DNS = nil },
			workload.Workload{
				Fenced: true, Networks: []string{"closed-dev"},
				WaysOut: []string{"the engine's resolver"},
			},
		},
		"calls whom it names": {
			on("closed"), func(c *service) {
				c.DependsOn = types.DependsOnConfig{"ml": {}, "ollama": {}}
				c.Environment = types.NewMappingWithEquals([]string{
					"A=http://ml:5000", "B=http://ml:5001/x", "C=http://elsewhere", "D=http://a b%zz",
				})
			},
			workload.Workload{Fenced: true, Networks: []string{"closed-dev"}, Calls: []string{"ml"}},
		},
		"calls whom it waits for": {
			on("closed"), func(c *service) { c.DependsOn = types.DependsOnConfig{"ml": {}, "ollama": {}} },
			workload.Workload{
				Fenced: true, Networks: []string{"closed-dev"}, Calls: []string{"ml", "ollama"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c service
			c.Networks = tc.networks
			c.DNS = []string{docker.NoResolver}
			tc.change(&c)
			got, want := onEngine(c)[0], tc.want
			want.Service, want.Kind, want.Name = "redis", "Container", "codexcontinue-dev-redis"
			want.Replicas, want.StopsFirst, want.Containers = 1, true, got.Containers
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestProjectOfAnEngine reads what belongs to no single container.
func TestProjectOfAnEngine(t *testing.T) {
	two := 2
	var first, second types.ServiceConfig
	first.NetworkMode, second.NetworkMode, second.Scale = "none", "none", &two
	first.Ports = []types.ServicePortConfig{
		{Published: "9"}, {Published: "8", HostIP: "127.0.0.1"}, {Published: "7", HostIP: "10.0.0.1"},
		{HostIP: "::1"},
	}
	p := &types.Project{
		Name: "codexcontinue-dev", Services: types.Services{"b": second, "a": first},
		Networks: types.Networks{"y": {Name: "y-dev"}, "x": {Name: "x-dev", Internal: true}},
		Volumes:  types.Volumes{"kept": {}, "gone": {}},
	}
	got := workload.FromProject(&docker.Rendering{Project: p, Retained: []string{"kept"}}, "/root")

	of := func(service, name string) workload.Workload {
		return workload.Workload{
			Service: service, Kind: "Container", Name: "codexcontinue-dev-" + name,
			Replicas: 1, Fenced: true,
			Containers: []workload.Container{{
				NewPrivileges: true, Env: map[string]string{}, Labels: map[string]string{},
			}},
		}
	}
	want := workload.View{
		Stack: "dev", Target: stacks.Docker,
		Workloads: []workload.Workload{of("a", "a"), of("b", "b"), of("b", "b-2")},
		Networks:  []workload.Network{{Name: "x-dev", Internal: true}, {Name: "y-dev"}},
		Volumes: []workload.Volume{
			{Name: "gone"}, {Name: "kept", Retained: true},
		},
		Exposed: []workload.Exposure{
			{Service: "a", How: "port", Address: "::1", Loopback: true},
			{Service: "a", How: "port", Address: "10.0.0.1", Port: 7},
			{Service: "a", How: "port", Address: "127.0.0.1", Port: 8, Loopback: true},
			{Service: "a", How: "port", Port: 9},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if groups := got.Services(); len(groups) != 2 || len(groups[0]) != 1 || len(groups[1]) != 2 {
		t.Errorf("grouped by service: %+v", groups)
	}
	for i, text := range []string{"::1", "10.0.0.1:7", "127.0.0.1:8", "any address:9"} {
		if s := got.Exposed[i].String(); s != text {
			t.Errorf("%+v reads %q, want %q", got.Exposed[i], s, text)
		}
	}
}
