package workload

import (
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// FromProject reads a stack that is rendered for an engine. root is the name of the project's
// folder in the paths of the view.
func FromProject(r *docker.Rendering, root string) View {
	p := r.Project
	v := View{Stack: strings.TrimPrefix(p.Name, stacks.Project+"-"), Target: stacks.Docker}
	for _, n := range p.Networks {
		v.Networks = append(v.Networks,
			Network{Name: n.Name, Internal: n.Internal, Inbound: inbound(n)})
	}

	for name := range p.Volumes {
		v.Volumes = append(v.Volumes, Volume{
			Name:     name,
			Retained: slices.Contains(r.Retained, name),
		})
	}

	for service, c := range p.Services {
		w := Workload{
			Service: service, Kind: "Container", Replicas: 1, Fenced: true,
			StopsFirst:     slices.Contains(r.StopsFirst, service),
			HostNamespaces: hostNamespaces(c),
			Calls:          calls(c, p.Services),
			Containers:     []Container{containerOf(c, root)},
		}

		for name := range c.Networks {
			n := p.Networks[name]
			w.Networks = append(w.Networks, n.Name)
			switch {
			case !n.Internal && !inbound(n):
				w.WaysOut = append(w.WaysOut, "network "+n.Name)
			case n.DriverOpts[docker.NoAddress] != "true":
				w.Machine = append(w.Machine, n.Name)
			}
		}

		if len(w.Networks) > 0 && len(w.WaysOut) == 0 &&
			!slices.Equal(c.DNS, []string{docker.NoResolver}) {
			w.WaysOut = []string{"the engine's resolver"}
		}

		slices.Sort(w.Machine)
		slices.Sort(w.Networks)
		slices.Sort(w.WaysOut)
		switch {
		case c.NetworkMode == "host":
			w.WaysOut = []string{"the machine's network"}
		case len(w.Networks) == 0 && c.NetworkMode != "none":
			w.WaysOut, w.Fenced = []string{"the engine's default network"}, false
		}

		for i := range c.GetScale() {
			w.Name = r.ContainerName(service, i)
			v.Workloads = append(v.Workloads, w)
		}

		for _, port := range c.Ports {
			ip := net.ParseIP(port.HostIP)
			number, _ := strconv.Atoi(port.Published) // 0 is a port that the engine chooses
			v.Exposed = append(v.Exposed, Exposure{
				Service: service, How: "port", Address: port.HostIP, Port: number,
				Loopback: ip != nil && ip.IsLoopback(), TLS: port.AppProtocol == stacks.HTTPS,
			})
		}
	}

	v.sort()
	// HTTP/3 has the number of the port where people begin.
	v.Exposed = slices.Compact(v.Exposed)
	return v
}

// inbound reports whether a network lets nothing out that is not an answer.
func inbound(n types.NetworkConfig) bool {
	return n.DriverOpts[docker.SourceAddress] == docker.Nowhere
}

func containerOf(c types.ServiceConfig, root string) Container {
	out := Container{
		Image:               c.Image,
		Built:               c.Build != nil,
		Env:                 map[string]string{},
		Labels:              map[string]string{},
		User:                c.User,
		ReadOnlyRoot:        c.ReadOnly,
		Privileged:          c.Privileged,
		NewPrivileges:       true,
		DroppedCapabilities: capabilities(c.CapDrop),
		AddedCapabilities:   capabilities(c.CapAdd),
		Memory:              stacks.Bytes(c.MemLimit),
		Swap:                c.MemSwapLimit != c.MemLimit,
		PIDs:                int(c.PidsLimit),
		CPU:                 stacks.MilliCPU(1000 * c.CPUS),
		Mounts:              mounts(c, root),
	}
	if c.CPUPeriod > 0 {
		out.CPU = stacks.MilliCPU(1000 * c.CPUQuota / c.CPUPeriod)
	}

	for _, s := range slices.Concat(c.Entrypoint, c.Command) {
		out.Command = append(out.Command, hidden(s))
	}

	if h := c.HealthCheck; h != nil && !h.Disable {
		for _, s := range h.Test {
			out.Health = append(out.Health, hidden(s))
		}
	}

	for _, o := range c.SecurityOpt {
		key, value, _ := strings.Cut(strings.Replace(o, "=", ":", 1), ":")
		switch {
		case key == "no-new-privileges" && value != "false":
			out.NewPrivileges = false
		case value == "unconfined":
			out.Unconfined = append(out.Unconfined, key)
		case key == "label" && value == "disable":
			out.Unconfined = append(out.Unconfined, "selinux")
		}
	}

	for name, value := range c.Environment.ToMapping() {
		out.Env[name] = hidden(value)
	}

	for name, value := range c.Labels {
		out.Labels[name] = hidden(value)
	}

	for _, d := range c.Devices {
		out.Devices = append(out.Devices, d.Source)
	}

	if c.Deploy != nil && c.Deploy.Resources.Reservations != nil {
		for _, d := range c.Deploy.Resources.Reservations.Devices {
			out.GPU = strings.Join(d.IDs, ",")
			if d.Count == stacks.AllGPUs {
				out.GPU = "all"
			}
		}
	}

	if l := c.Logging; l != nil {
		out.LogBounded = l.Driver == "none" || l.Driver == "local" || l.Options["max-size"] != ""
	}

	return out
}

// calls returns the services that the container connects to: those whose names are hosts in its
// environment. Where none is, its addresses stand in a file, and it calls all that it waits for.
func calls(c types.ServiceConfig, all types.Services) []string {
	var named []string
	for _, value := range c.Environment.ToMapping() {
		u, err := url.Parse(value)
		if err != nil {
			continue
		}
		_, waits := c.DependsOn[u.Hostname()]
		if _, there := all[u.Hostname()]; there || waits {
			named = append(named, u.Hostname())
		}
	}

	if len(named) == 0 {
		return slices.Sorted(maps.Keys(c.DependsOn))
	}

	slices.Sort(named)
	return slices.Compact(named)
}

// mounts returns the container's, with the folders of its files. These are secrets as soon as one
// of the files is: one carrier has them all.
func mounts(c types.ServiceConfig, root string) []Mount {
	var out []Mount
	for _, m := range c.Volumes {
		source := m.Source
		if m.Type == types.VolumeTypeBind && !path.IsAbs(source) {
			source = path.Join(root, source)
		}
		out = append(out, Mount{MountKind(m.Type), source, m.Target, m.ReadOnly})
	}

	kind, folders := Files, map[string]bool{}
	for _, f := range c.Configs {
		folders[path.Dir(f.Target)] = true
	}

	for _, f := range c.Secrets {
		folders[path.Dir(f.Target)], kind = true, Secrets
	}

	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		out = append(out, Mount{Kind: kind, Path: folder, ReadOnly: true})
	}

	for _, t := range slices.Sorted(slices.Values(c.Tmpfs)) {
		folder, _, _ := strings.Cut(t, ":")
		out = append(out, Mount{Kind: Memory, Path: folder})
	}

	return out
}

func hostNamespaces(c types.ServiceConfig) []string {
	var out []string
	for _, n := range []struct{ name, value string }{
		{"network", c.NetworkMode}, {"pid", c.Pid}, {"ipc", c.Ipc}, {"user", c.UserNSMode},
		{"cgroup", c.Cgroup},
	} {
		if n.value == "host" {
			out = append(out, n.name)
		}
	}

	return out
}

// hidden returns the text, or plan.Secret where a secret stands in it.
func hidden(s string) string {
	if stacks.HasSecret(s) {
		return plan.Secret
	}
	return s
}

// capabilities returns the names as Linux has them, without CAP_.
func capabilities[S ~string](names []S) []string {
	var out []string
	for _, c := range names {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	slices.Sort(out)
	return out
}
