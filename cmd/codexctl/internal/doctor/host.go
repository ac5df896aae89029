package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/system"
)

// engineHost is what the recommendations of the CIS Docker Benchmark 1.6.0 about the host (section 1)
// and the engine (section 2) are held against.
type engineHost struct {
	info system.Info

	// bridge are the options of the engine's default network.
	bridge map[string]string

	// local is set if the engine runs on this machine, over a socket; what follows is known then.
	local bool

	// members are those of the group that owns the socket, daemon the settings of daemon.json that an
	// engine does not report, and separate is set if its data has a file system of its own.
	group    string
	members  []string
	daemon   daemonFile
	separate bool

	// audited are the paths of the machine that audit rules are to watch, rules what they watch; nil
	// if they cannot be read.
	audited []auditedPath
	rules   []auditRule
}

// daemonFile is the part of the engine's configuration file that is read.
type daemonFile struct {
	LogLevel        string         `json:"log-level"`
	IPTables        *bool          `json:"iptables"`
	UserlandProxy   *bool          `json:"userland-proxy"`
	DefaultUlimits  map[string]any `json:"default-ulimits"`
	NoNewPrivileges bool           `json:"no-new-privileges"`
	SeccompProfile  string         `json:"seccomp-profile"`
	CgroupParent    string         `json:"cgroup-parent"`
	StorageOptions  []string       `json:"storage-opts"`
}

const (
	daemonJSON    = "/etc/docker/daemon.json"
	restartEngine = ", and restart the engine" // which reads the file then
)

// hardening checks the host and the engine of a stack that is not for development. A recommendation
// that is not followed is the operator's to weigh: nothing of a stack depends on it.
func hardening(ctx context.Context, p *Patient) []Finding {
	if p.Stack.Development {
		return found(Skip, "", "is for stacks that are not for development")
	}

	info, err := p.Engine.Info(ctx)
	if err != nil {
		return cannot(err)
	}
	bridge, err := p.Engine.BridgeOptions(ctx)
	if err != nil {
		return cannot(err)
	}

	h := engineHost{info: info, bridge: bridge}
	if socket, ok := strings.CutPrefix(p.Engine.Host.URL, "unix://"); ok {
		h.readMachine(socket)
	}
	return h.findings()
}

// recommendation is one of the benchmark's.
type recommendation struct {
	number string

	// kept reports whether the host follows it, and known whether that can be told from here.
	kept, known bool

	// what is so if it is not kept, and fix what to do.
	what, fix string
}

// findings returns one for each recommendation that is not followed, and one that counts the others.
func (h engineHost) findings() []Finding {
	var out []Finding
	kept, unknown := 0, []string{}

	if h.local && h.rules != nil {
		missing, warning := unwatched(h.audited, h.rules)
		out, kept = append(out, warning...), len(h.audited)-len(missing)
	} else {
		unknown = append(unknown, "1.1.3 to 1.1.18")
	}

	for _, r := range h.recommendations() {
		switch {
		case !r.known:
			unknown = append(unknown, r.number)
		case r.kept:
			kept++
		default:
			out = append(out, found(Warn, r.fix, "CIS Docker %s: %s", r.number, r.what)...)
		}
	}

	text := fmt.Sprintf("%d recommendations of CIS Docker 1 and 2 are followed", kept)
	if len(unknown) > 0 {
		text += "; not to be seen from here: " + strings.Join(unknown, ", ")
	}
	return append(out, found(OK, "", "%s", text)...)
}

func (h engineHost) recommendations() []recommendation {
	rootless := h.option("rootless")
	set := func(line string) string { return "set " + line + " in " + daemonJSON + restartEngine }
	return []recommendation{{
		"1.1.1", h.separate, h.local,
		"the engine's data shares a file system with the system",
		"mount a partition at " + h.info.DockerRootDir + ", so that containers cannot fill the system's disk",
	}, {
		"1.1.2", len(h.members) <= 1 || rootless, h.local,
		fmt.Sprintf("%d users of the group %s are root on this machine by the engine's socket: %s",
			len(h.members), h.group, strings.Join(h.members, ", ")),
		"remove those who need not be: sudo gpasswd -d USER " + h.group,
	}, {
		number: "1.2.1", // whether the host is hardened, for which there are benchmarks of their own
	}, {
		// Whether the engine is up to date: nothing here knows its newest release.
		number: "1.2.2 (the engine is " + cmp.Or(h.info.ServerVersion, "of an unknown version") + ")",
	}, {
		"2.1", rootless, true, "the engine runs as root",
		"consider rootless Docker: https://docs.docker.com/engine/security/rootless",
	}, {
		"2.2", h.bridge["com.docker.network.bridge.enable_icc"] == "false", true,
		"containers on the default network reach each other; a stack's are on networks of its own",
		set(`"icc": false`),
	}, {
		"2.3", slices.Contains([]string{"", "info"}, h.daemon.LogLevel), h.local,
		"the engine logs at the level " + h.daemon.LogLevel, set(`"log-level": "info"`),
	}, {
		"2.4", h.daemon.IPTables == nil || *h.daemon.IPTables, h.local,
		"the engine may not change iptables, which keep networks apart", `remove "iptables" from ` +
			daemonJSON + restartEngine,
	}, {
		"2.5", len(h.insecure()) == 0, true,
		"the engine trusts registries without TLS: " + strings.Join(h.insecure(), ", "),
		`remove them from "insecure-registries" in ` + daemonJSON + restartEngine,
	}, {
		"2.6", h.info.Driver != "aufs", true, "the storage driver aufs is no longer maintained",
		set(`"storage-driver": "overlay2"`),
	}, {
		"2.7", !h.openAPI(), true, "the engine's API is open to the network without TLS: whoever reaches " +
			"it is root", "remove the tcp address from \"hosts\", or set tlsverify with certificates: " +
			"https://docs.docker.com/engine/security/protect-access",
	}, {
		"2.8", len(h.daemon.DefaultUlimits) > 0, h.local, "containers have no default ulimits",
		set(`"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 65536, "Soft": 65536}}`),
	}, {
		"2.9", h.option("userns") || rootless, true, "root of a container is root of the machine; no " +
			"container of a stack runs as root", set(`"userns-remap": "default"`),
	}, {
		"2.10", h.daemon.CgroupParent == "", h.local,
		"containers are in the cgroup " + h.daemon.CgroupParent + ", which may bound them otherwise",
		`remove "cgroup-parent" from ` + daemonJSON + restartEngine,
	}, {
		// Only devicemapper has such a size.
		"2.11", !slices.ContainsFunc(h.daemon.StorageOptions, func(option string) bool {
			return strings.HasPrefix(option, "dm.basesize=")
		}), h.local || h.info.Driver != "devicemapper",
		"the base device's size is changed, which is the most that a container can write",
		`remove dm.basesize from "storage-opts" in ` + daemonJSON + restartEngine,
	}, {
		"2.12", len(h.info.Plugins.Authorization) > 0 || rootless, true,
		"no plugin says which commands a client may send", "install an authorization plugin where " +
			"several people use the socket: https://docs.docker.com/engine/extend/plugins_authorization",
	}, {
		"2.13", !slices.Contains([]string{"json-file", "local", "none"}, h.info.LoggingDriver), true,
		"the engine's default logs stay on the machine; a stack's do as well, with a bound",
		"collect them with an agent that reads " + h.info.DockerRootDir + "/containers",
	}, {
		"2.14", h.option("no-new-privileges") || h.daemon.NoNewPrivileges,
		h.local || h.option("no-new-privileges"),
		"containers of others may gain privileges; those of a stack may not",
		set(`"no-new-privileges": true`),
	}, {
		"2.15", h.info.LiveRestoreEnabled || h.info.Swarm.LocalNodeState == "active", true,
		"containers stop with the engine, as when it is updated", set(`"live-restore": true`),
	}, {
		"2.16", h.daemon.UserlandProxy != nil && !*h.daemon.UserlandProxy, h.local,
		"a process relays each published port", set(`"userland-proxy": false`),
	}, {
		"2.17", h.option("seccomp") && h.daemon.SeccompProfile != "unconfined", true,
		"containers run without a seccomp profile", `remove "seccomp-profile" from ` + daemonJSON +
			restartEngine,
	}, {
		"2.18", !h.info.ExperimentalBuild, true, "the engine's experimental features are on",
		`remove "experimental" from ` + daemonJSON + restartEngine,
	}}
}

// option reports whether the engine names the security option.
func (h engineHost) option(name string) bool {
	return slices.ContainsFunc(h.info.SecurityOptions, func(s string) bool {
		return s == "name="+name || strings.HasPrefix(s, "name="+name+",")
	})
}

// insecure returns the registries, beyond this machine's own, that need not speak TLS.
func (h engineHost) insecure() []string {
	var out []string
	if h.info.RegistryConfig == nil {
		return nil
	}
	for _, n := range h.info.RegistryConfig.InsecureRegistryCIDRs {
		if !n.Addr().IsLoopback() {
			out = append(out, n.String())
		}
	}
	for name, index := range h.info.RegistryConfig.IndexConfigs {
		if index != nil && !index.Secure {
			out = append(out, name)
		}
	}

	slices.Sort(out)
	return out
}

// openAPI reports whether the engine itself warns that it answers whoever asks.
func (h engineHost) openAPI() bool {
	return slices.ContainsFunc(h.info.Warnings, func(w string) bool {
		return strings.Contains(w, "API is accessible on") && strings.Contains(w, "without encryption")
	})
}

// readMachine reads what an engine does not report, where it is this machine's. What this user may
// not read stays unknown, or as the engine has it by default.
func (h *engineHost) readMachine(socket string) {
	at, err := os.Stat(h.info.DockerRootDir)
	above, errAbove := os.Stat(filepath.Dir(h.info.DockerRootDir))
	if err != nil || errAbove != nil {
		return // in a machine of its own, as Docker Desktop's
	}
	text, err := os.ReadFile(daemonJSON)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil && json.Unmarshal(text, &h.daemon) != nil {
		return
	}

	h.local = true
	a, okA := at.Sys().(*syscall.Stat_t)
	b, okB := above.Sys().(*syscall.Stat_t)
	h.separate = okA && okB && a.Dev != b.Dev

	if info, err := os.Stat(socket); err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			h.readGroup(strconv.FormatUint(uint64(owner.Gid), 10))
		}
	}
	h.audited = auditedPaths(h.info.DockerRootDir)
	h.rules = resolved(auditRules(os.DirFS(auditFolder)))
}

// readGroup reads who is in the group.
func (h *engineHost) readGroup(id string) {
	h.group = id
	if g, err := user.LookupGroupId(id); err == nil {
		h.group = g.Name
	}
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		return
	}
	h.members = membersOf(string(text), id)
}

// membersOf returns the members of the group with the number in the text of /etc/group.
func membersOf(text, id string) []string {
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		if len(parts) == 4 && parts[2] == id && parts[3] != "" {
			return strings.Split(parts[3], ",")
		}
	}
	return nil
}
