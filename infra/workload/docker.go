package workload

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Resource types of pulumi-docker.
const (
	dockerContainer   = "docker:index/container:Container"
	dockerImage       = "docker:index/image:Image"
	dockerRemoteImage = "docker:index/remoteImage:RemoteImage"
	dockerNetwork     = "docker:index/network:Network"
	dockerVolume      = "docker:index/volume:Volume"
)

func (v *View) readDocker(resources []plan.Resource) error {
	images := map[string]reference{} // by the component that they belong to
	internal := map[string]bool{}
	volumes := map[string]string{}  // the stack's name by the engine's
	carried := map[string][]Mount{} // what the carrier of a service's files holds
	for _, r := range resources {
		in := fields(r.Inputs)
		switch r.Type {
		case dockerImage:
			images[r.Parent] = reference{in.text("imageName"), true}
		case dockerRemoteImage:
			images[r.Parent] = reference{in.text("name"), false}
		case dockerNetwork:
			internal[in.text("name")] = in.flag("internal")
			v.Networks = append(v.Networks, Network{Name: in.text("name"), Internal: in.flag("internal")})
		case dockerVolume:
			volumes[in.text("name")] = r.Name
			v.Volumes = append(v.Volumes, Volume{Resource: r.Name, Name: r.Name, Retained: r.Options != nil && r.Options.RetainOnDelete})
		case dockerContainer:
			if of := label(in, docker.LabelFilesOf); of != "" {
				kind := Files
				if isSecret(r.Inputs["uploads"]) {
					kind = Secrets
				}
				for _, dir := range in.list("volumes") {
					carried[of] = append(carried[of], Mount{Kind: kind, Target: dir.text("containerPath")})
				}
			}
		}
	}
	serviceOf := map[string]string{} // by "type name" of the container
	for _, r := range resources {
		if service := label(fields(r.Inputs), stacks.LabelService); r.Type == dockerContainer {
			serviceOf[r.Type+" "+r.Name] = service
		}
	}
	for _, r := range resources {
		if r.Type != dockerContainer {
			continue
		}
		in := fields(r.Inputs)
		service := label(in, stacks.LabelService)
		if service == "" && label(in, docker.LabelFilesOf) != "" {
			continue // never started
		}
		w := Workload{Service: service, Kind: "Container", Name: r.Name, Replicas: 1, Fenced: true}
		w.StopsFirst = r.Options != nil && r.Options.DeleteBeforeReplace != nil && *r.Options.DeleteBeforeReplace
		for _, n := range in.list("networksAdvanced") {
			name := n.text("name")
			w.Networks = append(w.Networks, name)
			if !internal[name] {
				w.WaysOut = append(w.WaysOut, "network "+name)
			}
		}
		mode := in.text("networkMode")
		w.HostNamespaces = hostNamespaces(in, mode)
		switch {
		case mode == "host":
			w.WaysOut = []string{"the machine's network"}
		case len(w.Networks) == 0 && mode != "none":
			w.WaysOut, w.Fenced = []string{"the engine's default network"}, false
		}
		c := dockerContainerOf(in, images[r.Parent])
		c.Mounts = dockerMounts(in, volumes, carried[service])
		w.Containers = []Container{c}
		w.Calls = calls(r, c, serviceOf)
		v.Workloads = append(v.Workloads, w)
		for _, port := range in.list("ports") {
			ip := net.ParseIP(port.text("ip"))
			v.Exposed = append(v.Exposed, Exposure{Service: service, How: "port", Address: port.text("ip"),
				Port: int(port.number("external")), Loopback: ip != nil && ip.IsLoopback()})
		}
	}
	return nil
}

// reference is an image of the stack.
type reference struct {
	ref   string
	built bool
}

func dockerContainerOf(in fields, img reference) Container {
	c := Container{
		Image: img.ref, Built: img.built,
		Command: slices.Concat(texts(in["entrypoints"]), texts(in["command"])),
		User:    in.text("user"), ReadOnlyRoot: in.flag("readOnly"), Privileged: in.flag("privileged"),
		NewPrivileges: true, GPU: in.text("gpus"),
		Memory: stacks.Bytes(in.number("memory")) * stacks.MiB,
		Swap:   in.number("memorySwap") != in.number("memory"),
		Health: texts(in.object("healthcheck")["tests"]),
	}
	if c.Image == "" || in.text("image") != plan.Computed && in.text("image") != "" {
		c.Image = in.text("image") // a reference; an image ID is known later only
	}
	if period := in.number("cpuPeriod"); period > 0 {
		c.CPU = stacks.MilliCPU(1000 * in.number("cpuQuota") / period)
	} else if cpus, err := strconv.ParseFloat(in.text("cpus"), 64); err == nil {
		c.CPU = stacks.MilliCPU(1000 * cpus)
	}
	caps := in.object("capabilities")
	c.DroppedCapabilities, c.AddedCapabilities = capabilities(caps["drops"]), capabilities(caps["adds"])
	for _, o := range texts(in["securityOpts"]) {
		key, value, _ := strings.Cut(strings.Replace(o.Value, "=", ":", 1), ":")
		switch {
		case key == "no-new-privileges" && value != "false":
			c.NewPrivileges = false
		case value == "unconfined":
			c.Unconfined = append(c.Unconfined, key)
		case key == "label" && value == "disable":
			c.Unconfined = append(c.Unconfined, "selinux")
		}
	}
	for _, e := range texts(in["envs"]) {
		name, value, _ := strings.Cut(e.Value, "=")
		c.Env = append(c.Env, Variable{name, Text{value, e.Secret}})
	}
	if runtime := in.text("runtime"); c.GPU == "" && runtime == "nvidia" {
		c.GPU = c.Value("NVIDIA_VISIBLE_DEVICES")
	}
	for _, pair := range in.list("labels") {
		c.Labels = append(c.Labels, Variable{pair.text("label"), Text{pair.text("value"), isSecret(pair["value"])}})
	}
	c.PIDs, _ = strconv.Atoi(label(in, docker.LabelPIDs)) // the hook sets what the label says
	for _, d := range in.list("devices") {
		c.Devices = append(c.Devices, d.text("hostPath"))
	}
	c.LogBounded = in.text("logDriver") == "none" || in.text("logDriver") == "local" || in.object("logOpts").text("max-size") != ""
	return c
}

// calls are the services that the container connects to. It waits for what it cannot start without; of those, it calls the
// ones whose names are hosts in its environment. Where none is, its addresses stand in a file, and it calls all of them.
func calls(r plan.Resource, c Container, serviceOf map[string]string) []string {
	var waits, named []string
	if r.Options != nil {
		for _, dep := range r.Options.DependsOn {
			if of := serviceOf[dep]; of != "" && !slices.Contains(waits, of) {
				waits = append(waits, of)
			}
		}
	}
	for _, v := range c.Env {
		u, err := url.Parse(v.Value)
		if err == nil && slices.Contains(waits, u.Hostname()) && !slices.Contains(named, u.Hostname()) {
			named = append(named, u.Hostname())
		}
	}
	if len(named) == 0 {
		named = waits
	}
	slices.Sort(named)
	return named
}

func dockerMounts(in fields, volumes map[string]string, carried []Mount) []Mount {
	var out []Mount
	for _, m := range in.list("mounts") {
		mount := Mount{Kind: MountKind(m.text("type")), Source: m.text("source"), Target: m.text("target"), ReadOnly: m.flag("readOnly")}
		if name, ok := volumes[mount.Source]; ok && mount.Kind == Storage {
			mount.Source = name
		}
		out = append(out, mount)
	}
	for _, m := range in.list("volumes") {
		switch {
		case m["fromContainer"] != nil:
			for _, f := range carried {
				f.ReadOnly = m.flag("readOnly")
				out = append(out, f)
			}
		case m.text("hostPath") != "":
			out = append(out, Mount{Kind: HostPath, Source: m.text("hostPath"), Target: m.text("containerPath"), ReadOnly: m.flag("readOnly")})
		default:
			source := m.text("volumeName")
			if name, ok := volumes[source]; ok {
				source = name
			}
			out = append(out, Mount{Kind: Storage, Source: source, Target: m.text("containerPath"), ReadOnly: m.flag("readOnly")})
		}
	}
	for _, target := range in.object("tmpfs").keys() {
		out = append(out, Mount{Kind: Memory, Target: target})
	}
	return out
}

func hostNamespaces(in fields, networkMode string) []string {
	var out []string
	for _, n := range []struct{ name, value string }{
		{"network", networkMode}, {"pid", in.text("pidMode")}, {"ipc", in.text("ipcMode")}, {"user", in.text("usernsMode")}, {"cgroup", in.text("cgroupnsMode")},
	} {
		if n.value == "host" {
			out = append(out, n.name)
		}
	}
	return out
}

func label(in fields, name string) string {
	for _, pair := range in.list("labels") {
		if pair.text("label") == name {
			return pair.text("value")
		}
	}
	return ""
}

func capabilities(v any) []string {
	var out []string
	for _, c := range texts(v) {
		out = append(out, strings.TrimPrefix(strings.ToUpper(c.Value), "CAP_"))
	}
	slices.Sort(out)
	return out
}
