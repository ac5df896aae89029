package policy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// keepable are the capabilities that a container may keep, with a reason: those of the Pod Security Standard
// "restricted".
var keepable = []string{"NET_BIND_SERVICE"}

// movingTags are tags that mean another image tomorrow.
var movingTags = []string{"latest", "main", "master", "edge", "nightly", "stable", "dev", "current"}

// engineSockets let whoever can write to them be root on the machine.
var engineSockets = []string{"docker.sock", "containerd.sock", "crio.sock", "podman.sock", "cri-dockerd.sock"}

var containerRules = []Rule{{
	ID:     "privileged",
	Reason: "a privileged container is root on the machine",
	Fix:    "give the one right that it needs, if any, and drop privileged",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(c.Privileged, "is privileged")
	}),
}, {
	ID:     "non-root",
	Reason: "a break-out from a root process is root on the machine",
	Fix:    "set security.uid and security.gid of the service to a user of its own",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		uid, gid, both := strings.Cut(c.User, ":")
		return when(!both || uid == "" || uid == "0" || uid == "root" || gid == "" || gid == "0" || gid == "root", "runs as %s", orImage(c.User))
	}),
}, {
	ID:     "read-only-root",
	Reason: "what cannot write to its image cannot be changed by an intruder, and keeps no data that an update loses",
	Fix:    "leave security.writableRoot empty and mount a volume or a tmpfs where the program writes",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(!c.ReadOnlyRoot, "has a writable root file system")
	}),
}, {
	ID:     "capabilities",
	Reason: "each capability is a part of root's power that the services do not need",
	Fix:    "keep none in security.keepCapabilities, or NET_BIND_SERVICE with its reason",
	check: containers(func(p Plan, w workload.Workload, c workload.Container) []string {
		out := when(!slices.Contains(c.DroppedCapabilities, "ALL"), "does not drop all capabilities")
		for _, name := range c.AddedCapabilities {
			reason := ""
			if svc := p.Stack.Service(w.Service); svc != nil {
				reason = svc.Security.KeepCapabilities[name]
			}
			out = append(out, when(!slices.Contains(keepable, name), "keeps the capability %s", name)...)
			out = append(out, when(slices.Contains(keepable, name) && strings.TrimSpace(reason) == "", "keeps the capability %s without a reason", name)...)
		}
		return out
	}),
}, {
	ID:     "no-new-privileges",
	Reason: "a program with the set-user-ID bit or file capabilities would give a process more rights than it was started with",
	Fix:    "set no-new-privileges (allowPrivilegeEscalation: false)",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(c.NewPrivileges, "may gain privileges")
	}),
}, {
	ID:     "confined",
	Reason: "seccomp, AppArmor and SELinux keep a process from most of the kernel's attack surface",
	Fix:    "keep the target's default profiles",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(len(c.Unconfined) > 0, "runs without %s", strings.Join(c.Unconfined, " and "))
	}),
}, {
	ID:     "host-namespace",
	Reason: "who shares a namespace of the machine sees its processes, its network or its memory",
	Fix:    "remove the host mode: networks, volumes and ports of the stack do what it was for",
	check: workloads(func(_ Plan, w workload.Workload) []string {
		return when(len(w.HostNamespaces) > 0, "shares the machine's %s namespace", strings.Join(w.HostNamespaces, " and "))
	}),
}, {
	ID:     "host-device",
	Reason: "a device of the machine goes around every other fence",
	Fix:    "ask for accelerators with gpu, and for storage with volumes",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(len(c.Devices) > 0, "uses %s of the machine", strings.Join(c.Devices, " and "))
	}),
}, {
	ID:     "engine-socket",
	Reason: "who reaches the engine's socket starts any container as root",
	Fix:    "do without: codexctl talks to the engine from outside",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		var out []string
		for _, m := range c.Mounts {
			out = append(out, when(isSocket(m), "mounts %s", m.Source)...)
		}
		return out
	}),
}, {
	ID:     "host-path",
	Reason: "a path of the machine beyond the checkout is not the stack's to read, and is not there on the next machine",
	Fix:    "use a volume, or a folder of the repository",
	check: containers(func(p Plan, _ workload.Workload, c workload.Container) []string {
		var out []string
		for _, m := range c.Mounts {
			out = append(out, when(m.Kind == workload.HostPath && !isSocket(m) && !inside(p.Root, m.Source), "mounts %s", m.Source)...)
		}
		return out
	}),
}, {
	ID:     "source-mount",
	Reason: "the checkout is what people edit and commit: a container must not change it, and only development needs all of it",
	Fix:    "mount it read-only; in a stack that is not for development, mount only the folder that the service needs",
	check: containers(func(p Plan, _ workload.Workload, c workload.Container) []string {
		var out []string
		for _, m := range c.Mounts {
			if m.Kind != workload.HostPath || isSocket(m) || !inside(p.Root, m.Source) {
				continue
			}
			name := relative(p.Root, m.Source)
			out = append(out, when(!m.ReadOnly, "can write to %s of the checkout", name)...)
			out = append(out, when(name == "." && !p.Stack.Development, "mounts the whole checkout")...)
		}
		return out
	}),
}, {
	ID:     "limits",
	Reason: "one service without a bound takes the machine from all others",
	Fix:    "set cpu, memory and, on an engine, pids in the service's resources",
	check: containers(func(p Plan, _ workload.Workload, c workload.Container) []string {
		out := slices.Concat(when(c.CPU <= 0, "has no CPU limit"), when(c.Memory <= 0, "has no memory limit"))
		if p.Target == stacks.Docker { // a cluster's nodes set these for all pods
			out = slices.Concat(out, when(c.PIDs <= 0, "has no limit of processes"), when(c.Memory > 0 && c.Swap, "may swap beyond its memory limit"))
		}
		return out
	}),
}, {
	ID:     "bounded-log",
	Reason: "a log without a bound fills the machine's disk, which stops every container",
	Fix:    "set log.maxSize and log.maxFiles of the service",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(!c.LogBounded, "writes a log without a bound")
	}),
}, {
	ID:     "health-check",
	Reason: "what has no health check is replaced too early and repaired too late",
	Fix:    "set health.command and health.livePath of the service",
	check: containers(func(_ Plan, w workload.Workload, c workload.Container) []string {
		return when(w.Kind != "Job" && !c.Init && (len(c.Health) == 0 || c.Health[0] == "NONE"), "has no health check")
	}),
}, {
	ID:     "pinned-image",
	Reason: "an image that moves under its tag changes the stack without a plan that shows it",
	Fix:    "name a tag of one release, or a digest",
	check: containers(func(_ Plan, _ workload.Workload, c workload.Container) []string {
		return when(!pinned(c.Image), "runs the image %s, which can change", orUnknown(c.Image))
	}),
}, {
	ID:     "debug",
	Reason: "profiling endpoints and debug logs show what people write, and a debugger runs anything",
	Fix:    "remove codexcontinue:debug from the stack's settings, and debuggers from its overlay",
	check: containers(func(p Plan, _ workload.Workload, c workload.Container) []string {
		return when(!p.Stack.Development && c.Env["DEBUG"] == "true", "runs with DEBUG=true in a stack that is not for development")
	}),
}}

// pinned says that the reference has a digest, or a tag that does not move by its nature.
func pinned(ref string) bool {
	name, digest, _ := strings.Cut(ref, "@")
	if digest != "" {
		return true
	}
	i := strings.LastIndex(name, ":")
	if i < 0 || i < strings.LastIndex(name, "/") {
		return false
	}
	return name[i+1:] != "" && !slices.Contains(movingTags, name[i+1:])
}

func isSocket(m workload.Mount) bool {
	return m.Kind == workload.HostPath && (slices.Contains(engineSockets, filepath.Base(m.Source)) || m.Source == "/run" || m.Source == "/var/run")
}

// inside says whether the path is the root or below it.
func inside(root, path string) bool { return relative(root, path) != path }

// relative is the path from the root, or the path itself when it is not below.
func relative(root, path string) string {
	rest, ok := strings.CutPrefix(path, root)
	switch rest := strings.TrimPrefix(rest, "/"); {
	case !ok || len(path) > len(root) && path[len(root)] != '/' || rest != "" && !filepath.IsLocal(rest):
		return path
	default:
		return filepath.Clean(rest)
	}
}

func orImage(user string) string {
	if user == "" {
		return "whomever the image says"
	}
	return user
}

func orUnknown(image string) string {
	if image == "" {
		return "of a name that the plan does not know"
	}
	return fmt.Sprintf("%q", image)
}
