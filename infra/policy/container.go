package policy

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// keepable are the capabilities that a container may keep, with a reason: those of the Pod Security
// Standard "restricted".
var keepable = []string{"NET_BIND_SERVICE"}

// movingTags are tags that mean another image tomorrow.
var movingTags = []string{
	"latest", "main", "master", "edge", "nightly", "stable", "dev", "current",
}

// engineSockets let whoever can write to them be root on the machine.
var engineSockets = []string{
	"docker.sock", "containerd.sock", "crio.sock", "podman.sock", "cri-dockerd.sock",
}

var containerRules = []Rule{{
	ID:     "privileged",
	Reason: "a privileged container is root on the machine",
	Fix:    "give the one right that it needs, if any, and drop privileged",
	check:  containers(func(c container) []string { return when(c.Privileged, "is privileged") }),
}, {
	ID:     "non-root",
	Reason: "a break-out from a root process is root on the machine",
	Fix:    "set security.uid and security.gid of the service to a user of its own",
	check: containers(func(c container) []string {
		uid, gid, _ := strings.Cut(c.User, ":")
		root := []string{"", "0", "root"}
		return when(slices.Contains(root, uid) || slices.Contains(root, gid),
			"runs as %s", cmp.Or(c.User, "whomever the image says"))
	}),
}, {
	ID: "read-only-root",
	Reason: "what cannot write to its image cannot be changed by an intruder, " +
		"and keeps no data that an update loses",
	Fix: "leave security.writableRoot empty and mount a volume or a tmpfs where the program writes",
	check: containers(func(c container) []string {
		return when(!c.ReadOnlyRoot, "has a writable root file system")
	}),
}, {
	ID:     "capabilities",
	Reason: "each capability is a part of root's power that the services do not need",
	Fix:    "keep none in security.keepCapabilities, or NET_BIND_SERVICE with its reason",
	check: containers(func(c container) []string {
		dropped := slices.Contains(c.DroppedCapabilities, "ALL")
		out := when(!dropped, "does not drop all capabilities")
		for _, name := range c.AddedCapabilities {
			reason := ""
			if svc := c.in.Stack.Service(c.workload.Service); svc != nil {
				reason = strings.TrimSpace(svc.Security.KeepCapabilities[name])
			}

			if !slices.Contains(keepable, name) {
				out = append(out, "keeps the capability "+name)
			} else if reason == "" {
				out = append(out, "keeps the capability "+name+" without a reason")
			}
		}

		return out
	}),
}, {
	ID: "no-new-privileges",
	Reason: "a program with the set-user-ID bit or file capabilities would give a process " +
		"more rights than it was started with",
	Fix: "set no-new-privileges (allowPrivilegeEscalation: false)",
	check: containers(func(c container) []string {
		return when(c.NewPrivileges, "may gain privileges")
	}),
}, {
	ID:     "confined",
	Reason: "seccomp, AppArmor and SELinux keep a process from most of the kernel's attack surface",
	Fix:    "keep the target's default profiles",
	check: containers(func(c container) []string {
		return when(len(c.Unconfined) > 0, "runs without %s", strings.Join(c.Unconfined, " and "))
	}),
}, {
	ID:     "host-namespace",
	Reason: "who shares a namespace of the machine sees its processes, its network or its memory",
	Fix:    "remove the host mode: networks, volumes and ports of the stack do what it was for",
	check: workloads(func(_ Input, w workload.Workload) []string {
		return when(len(w.HostNamespaces) > 0,
			"shares the machine's %s namespace", strings.Join(w.HostNamespaces, " and "))
	}),
}, {
	ID:     "host-device",
	Reason: "a device of the machine goes around every other fence",
	Fix:    "ask for accelerators with gpu, and for storage with volumes",
	check: containers(func(c container) []string {
		return when(len(c.Devices) > 0, "uses %s of the machine", strings.Join(c.Devices, " and "))
	}),
}, {
	ID:     "engine-socket",
	Reason: "who reaches the engine's socket starts any container as root",
	Fix:    "do without: codexctl talks to the engine from outside",
	check: mounts(func(_ Input, m workload.Mount) []string {
		return when(isSocket(m), "mounts %s", m.Source)
	}),
}, {
	ID: "host-path",
	Reason: "a path of the machine beyond the checkout is not the stack's to read, " +
		"and is not there on the next machine",
	Fix: "use a volume, or a folder of the repository",
	check: mounts(func(in Input, m workload.Mount) []string {
		_, inside := relative(in.Root, m.Source)
		return when(m.Kind == workload.HostPath && !isSocket(m) && !inside && !ofBackups(in, m.Source),
			"mounts %s", m.Source)
	}),
}, {
	ID: "source-mount",
	Reason: "the checkout is what people edit and commit: a container must not change it, " +
		"and only development needs all of it",
	Fix: "mount it read-only; in a stack that is not for development, " +
		"mount only the folder that the service needs",
	check: mounts(func(in Input, m workload.Mount) []string {
		name, inside := relative(in.Root, m.Source)
		if m.Kind != workload.HostPath || isSocket(m) || !inside {
			return nil
		}
		return slices.Concat(
			when(!m.ReadOnly, "can write to %s of the checkout", name),
			when(name == "." && !in.Stack.Development, "mounts the whole checkout"))
	}),
}, {
	ID:     "limits",
	Reason: "one service without a bound takes the machine from all others",
	Fix:    "set cpu, memory and, on an engine, pids in the service's resources",
	check: containers(func(c container) []string {
		engine := c.in.Target == stacks.Docker // a cluster's nodes set the rest for all pods
		return slices.Concat(
			when(c.CPU <= 0, "has no CPU limit"),
			when(c.Memory <= 0, "has no memory limit"),
			when(engine && c.PIDs <= 0, "has no limit of processes"),
			when(engine && c.Memory > 0 && c.Swap, "may swap beyond its memory limit"))
	}),
}, {
	ID:     "bounded-log",
	Reason: "a log without a bound fills the machine's disk, which stops every container",
	Fix:    "set log.maxSize and log.maxFiles of the service",
	check: containers(func(c container) []string {
		return when(!c.LogBounded, "writes a log without a bound")
	}),
}, {
	ID:     "health-check",
	Reason: "what has no health check is replaced too early and repaired too late",
	Fix:    "set health.command and health.livePath of the service",
	check: containers(func(c container) []string {
		ends := c.workload.Kind == "Job" || c.Init
		return when(!ends && (len(c.Health) == 0 || c.Health[0] == "NONE"), "has no health check")
	}),
}, {
	ID:     "pinned-image",
	Reason: "an image that moves under its tag changes the stack without a plan that shows it",
	Fix: "name a tag of one release, or a digest, of what runs and of what it is built from; " +
		stacks.LockFile + " has the digests",
	check: containers(func(c container) []string {
		image := "of a name that the plan does not know"
		if c.Image != "" {
			image = strconv.Quote(c.Image)
		}
		out := when(!pinned(c.Image), "runs the image %s, which can change", image)
		for _, ref := range c.moving() {
			out = append(out, fmt.Sprintf("is built from the image %q, which can change", ref))
		}
		return out
	}),
}, {
	ID:     "debug",
	Reason: "profiling endpoints and debug logs show what people write, and a debugger runs anything",
	Fix:    "remove codexcontinue:debug from the stack's settings, and debuggers from its overlay",
	check: containers(func(c container) []string {
		return when(!c.in.Stack.Development && c.Env["DEBUG"] == "true",
			"runs with DEBUG=true in a stack that is not for development")
	}),
}}

// series is a tag of a series of releases, such as 8, v2.11 or 1.26-bookworm, which means the next one
// of them when that is there. A longer number is a date, or what an image is built from.
var series = regexp.MustCompile(`^v?\d{1,4}(\.\d{1,4})?(-[a-z][a-z0-9.-]*)?$`)

// pinned reports whether the reference has a digest, or a tag that does not move by its nature.
func pinned(ref string) bool {
	name, digest, _ := strings.Cut(ref, "@")
	if digest != "" {
		return true
	}
	_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	return tag != "" && !slices.Contains(movingTags, tag) && !series.MatchString(tag)
}

// moving returns the images that the container's is built from and that can change: without a digest,
// without the ID of one that was loaded by hand, and with a tag that moves.
func (c container) moving() []string {
	svc := c.in.Stack.Service(c.workload.Service)
	if svc == nil || svc.Image.Build == nil || !c.Built {
		return nil
	}
	return slices.DeleteFunc(svc.Image.Build.Bases(), func(ref string) bool {
		return pinned(ref) || svc.Image.Build.BaseIDs[ref] != ""
	})
}

// ofBackups reports whether the path is the directory that the stack's settings name for backups.
func ofBackups(in Input, path string) bool {
	svc := in.Stack.Service(stacks.Backup)
	return svc != nil && slices.ContainsFunc(svc.Mounts, func(m stacks.Mount) bool {
		return m.Kind == stacks.MountHost && m.Source == path
	})
}

// isSocket reports whether an engine's socket is mounted, or the folder of all of them.
func isSocket(m workload.Mount) bool {
	sockets := slices.Contains(engineSockets, filepath.Base(m.Source)) ||
		m.Source == "/run" || m.Source == "/var/run"
	return m.Kind == workload.HostPath && sockets
}

// relative returns the path from the root, and reports whether it is the root or below it.
func relative(root, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, root)
	rest, below := strings.CutPrefix(rest, "/")
	if !ok || !below && rest != "" || rest != "" && !filepath.IsLocal(rest) {
		return "", false
	}
	return filepath.Clean(rest), true
}
