package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/client/pkg/versions"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// minimumAPI is the API of engine 20.10, the first whose BuildKit and health checks do what
// the program relies on.
const minimumAPI = "1.41"

func engineVersion(ctx context.Context, p *Patient) []Finding {
	if p.Engine == nil {
		what, fix := split(p.PlatformErr)
		return found(Fail, cmp.Or(fix, "start Docker"), "%s", strings.TrimPrefix(what, "engine: "))
	}

	v, err := p.Engine.Version(ctx)
	if err != nil {
		return cannot(err)
	}

	if versions.LessThan(v.Version, engine.MinimumVersion) ||
		versions.LessThan(v.APIVersion, minimumAPI) {
		return found(Fail, "update Docker to "+engine.MinimumVersion+" or newer",
			"version %s (API %s) at %s", v.Version, v.APIVersion, p.Engine.Host.URL)
	}

	if v.Os != "linux" {
		return found(Fail, "switch the engine to Linux containers", "it runs %s containers", v.Os)
	}

	return found(OK, "", "version %s (API %s) at %s, by %s", v.Version, v.APIVersion,
		p.Engine.Host.URL, p.Engine.Host.Source)
}

func settings(_ context.Context, p *Patient) []Finding {
	if p.StackErr == nil {
		return found(OK, "",
			"stack %s, %d services, model %s", p.Name, len(p.Stack.Services), p.Stack.Model.Name)
	}

	var out []Finding
	for line := range strings.Lines(p.StackErr.Error()) {
		out = append(out,
			found(Fail, "correct Pulumi."+p.Name+".yaml", "%s", strings.TrimRight(line, "\n"))...)
	}

	return out
}

func state(_ context.Context, p *Patient) []Finding {
	if p.SecretsErr != nil {
		return found(Fail, "", "%v", p.SecretsErr)
	}
	return found(OK, "", "%s", p.State)
}

func ports(ctx context.Context, p *Patient) []Finding {
	if p.TakenErr != nil {
		return cannot(p.TakenErr)
	}

	var out []Finding
	for _, t := range p.Taken {
		by := t.By
		if by == "" {
			by = "something else"
		}
		number := strconv.Itoa(t.Port)
		if t.Protocol == "udp" {
			number += " (UDP)"
		}
		out = append(out,
			found(Fail, t.Todo, "%s of %s: %s is taken by %s", t.Address, t.Service, number, by)...)
	}

	info, err := p.Engine.Info(ctx)
	if err != nil {
		return append(out, cannot(err)...)
	}
	if slices.Contains(info.SecurityOptions, "name=rootless") {
		out = append(out, rootlessPorts(p.Stack, firstPort())...)
	}

	if len(out) > 0 {
		return out
	}

	n := 0
	for _, s := range p.Stack.Services {
		for _, port := range s.Ports {
			if port.Host != 0 {
				n++
			}
		}
	}

	return found(OK, "", "%d published, free or held by this stack", n)
}

// firstPort returns the first port that every user may have.
func firstPort() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 1024
	}

	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 1024
	}
	return n
}

// rootlessPorts finds those that an engine of a user may not publish, as they come before first.
func rootlessPorts(s stacks.Stack, first int) []Finding {
	var low []int
	for _, svc := range s.Services {
		for _, port := range svc.Ports {
			if port.Host != 0 && port.Host < first && !slices.Contains(low, port.Host) {
				low = append(low, port.Host)
			}
		}
	}

	if len(low) == 0 {
		return nil
	}

	slices.Sort(low)
	return found(Fail, fmt.Sprintf("sudo sysctl net.ipv4.ip_unprivileged_port_start=%d (a file in "+
		"/etc/sysctl.d keeps it), or choose another port with codexcontinue:edge.port", low[0]),
		"the engine is rootless, and may publish no port below %d: %s", first,
		strings.Trim(fmt.Sprint(low), "[]"))
}

// spare is the memory that the machine's own work needs in addition to the stack.
const spare = stacks.GiB

func memory(ctx context.Context, p *Patient) []Finding {
	info, err := p.Engine.Info(ctx)
	if err != nil {
		return cannot(err)
	}

	var sum, greatest stacks.Bytes
	name := ""
	for _, s := range p.Stack.Services {
		sum += s.Resources.Memory * stacks.Bytes(s.Replicas)
		if s.Resources.Memory > greatest {
			greatest, name = s.Resources.Memory, s.Name
		}
	}

	const fix = "lower codexcontinue:services: {SERVICE: {memory: ...}}, " +
		"or give the engine's machine more"
	have, limits := stacks.Bytes(info.MemTotal), console.Size(int64(sum))
	machine := console.Size(info.MemTotal)
	switch {
	case greatest > have:
		return found(Fail, fix, "%s may use %s, the machine has %s", name,
			console.Size(int64(greatest)), machine)
	case sum+spare > have:
		return found(Warn, fix,
			"the limits add up to %s, the machine has %s: it is fine as long as "+
				"not all are used up", limits, machine)
	}

	return found(OK, "", "the limits add up to %s of %s", limits, machine)
}

// The free disk space, in bytes, below which images, build caches and a model of several gigabytes
// may not, or do not, find room.
const (
	lowDisk     = 20 << 30
	minimumDisk = 5 << 30
)

func disk(ctx context.Context, p *Patient) []Finding {
	info, err := p.Engine.Info(ctx)
	if err != nil {
		return cannot(err)
	}

	free, err := freeBytes(info.DockerRootDir)
	if errors.Is(err, fs.ErrNotExist) || !p.Engine.Host.Local() {
		return found(Skip, "", "the engine keeps its data on another machine (%s)",
			info.DockerRootDir)
	}

	if err != nil {
		return cannot(err)
	}

	fix := "`docker system df` shows what takes it; `docker builder prune` and `docker image " +
		"prune` free it"
	switch {
	case free < minimumDisk:
		return found(Fail, fix, "%s free at %s: not enough for the images",
			console.Size(free), info.DockerRootDir)
	case free < lowDisk:
		return found(Warn, fix, "%s free at %s: may be too little for a larger model",
			console.Size(free), info.DockerRootDir)
	}

	return found(OK, "", "%s free at %s", console.Size(free), info.DockerRootDir)
}

func gpu(ctx context.Context, p *Patient) []Finding {
	wanted := ""
	for _, s := range p.Stack.Services {
		if s.GPU != nil {
			wanted = s.Name
		}
	}

	if wanted == "" {
		return found(OK, "", "the stack asks for none")
	}

	info, err := p.Engine.Info(ctx)
	if err != nil {
		return cannot(err)
	}

	if _, nvidia := info.Runtimes["nvidia"]; !nvidia && len(info.CDISpecDirs) == 0 {
		return found(Fail,
			"install the NVIDIA container toolkit and run `nvidia-ctk runtime configure "+
				"--runtime=docker`, then restart Docker; or take codexcontinue:gpu out of the settings",
			"%s asks for a GPU, but the engine has neither the nvidia runtime nor CDI devices",
			wanted)
	}

	return found(OK, "", "%s asks for a GPU and the engine has a runtime for it", wanted)
}

// sources checks that the files mounted into dev's containers can be read there: the containers run
// as the owner of the project's root.
func sources(_ context.Context, p *Patient) []Finding {
	mounted := map[string]bool{}
	for _, s := range p.Stack.Services {
		for _, m := range s.Mounts {
			if m.Kind == stacks.MountBind {
				mounted[filepath.Join(p.Root, m.Source)] = true
			}
		}
	}

	if len(mounted) == 0 {
		return found(OK, "", "none are mounted: they are in the images")
	}

	owner, ok := ownerOf(p.Root)
	if !ok {
		return found(Skip, "", "this system has no owners of files")
	}

	if owner == 0 {
		return found(Warn, "",
			"%s belongs to root: the services run as another user, who can read it only as long "+
				"as everybody may",
			p.Root)
	}

	foreign, first := 0, ""
	err := filepath.WalkDir(p.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".state" || d.Name() == "out") {
			return filepath.SkipDir
		}

		if uid, ok := ownerOf(path); ok && uid != owner {
			if foreign++; first == "" {
				first = path
			}
		}

		return nil
	})
	if err != nil {
		return found(Warn, "make it readable for the owner of the project", "%v", err)
	}

	if foreign > 0 {
		return found(Warn, "sudo chown -R --reference="+p.Root+" "+p.Root,
			"%d files do not belong to the owner of the project, such as %s", foreign, first)
	}

	return found(OK, "", "mounted, and all of them belong to the user that the services run as")
}

func ownerOf(path string) (uid uint32, ok bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}

	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}

	return stat.Uid, true
}

func freeBytes(path string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
