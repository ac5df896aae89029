package stacks

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// nameRule is what every target accepts as a name: a DNS label (RFC 1123) of at most 40 characters, which leaves room for
// what the targets put around it.
var nameRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// problems collects what is wrong, each with its path.
type problems struct{ errs []error }

func (p *problems) add(path, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// Validate reports every problem of the stack at once, each as "<path>: what is wrong". A stack that passes can be
// provisioned as far as the description tells; a target may still refuse what it cannot express.
func (s Stack) Validate() error {
	p := &problems{}
	if !nameRule.MatchString(s.Name) {
		p.add("name", "%q is no DNS label of at most 40 characters: use lower-case letters, digits and dashes", s.Name)
	}
	names(p, "networks", s.Networks, func(n Network) string { return n.Name })
	names(p, "volumes", s.Volumes, func(v Volume) string { return v.Name })
	names(p, "secrets", s.Secrets, func(x Secret) string { return x.Name })
	names(p, "services", s.Services, func(x Service) string { return x.Name })
	for _, v := range s.Volumes {
		if v.Size <= 0 {
			p.add("volumes."+v.Name+".size", "must be positive, got %d", v.Size)
		}
	}
	if len(s.Services) == 0 {
		p.add("services", "the stack has none")
	}
	for _, svc := range s.Services {
		s.validateService(p, svc)
	}
	s.validateHostPorts(p)
	s.validateOrder(p)
	if s.Model.Name == "" || !nameRule.MatchString(s.Model.Name) {
		p.add("model.name", "%q is no name of lower-case letters, digits and dashes; the tag is given by its digest", s.Model.Name)
	}
	if s.Model.Digest == "" {
		p.add("model.digest", "is empty: the stack was not made by Load")
	}
	return errors.Join(p.errs...)
}

func names[T any](p *problems, kind string, list []T, name func(T) string) {
	seen := map[string]bool{}
	for _, x := range list {
		n := name(x)
		if !nameRule.MatchString(n) {
			p.add(kind, "%q is no DNS label: use lower-case letters, digits and dashes", n)
		}
		if seen[n] {
			p.add(kind+"."+n, "is there twice")
		}
		seen[n] = true
	}
}

// referenceRule wants a tag or a digest on an image reference; the path before it is the registry's business.
var referenceRule = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9./_:-]*(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})$`)

func (s Stack) validateService(p *problems, svc Service) {
	at := "services." + svc.Name
	switch ref, b := svc.Image.Ref, svc.Image.Build; {
	case ref == "" && b == nil:
		p.add(at+".image", "set a reference or a build")
	case ref != "" && b != nil:
		p.add(at+".image", "set a reference or a build, not both")
	case b == nil && (!referenceRule.MatchString(ref) || strings.HasSuffix(ref, ":latest")):
		p.add(at+".image.ref", "%q is not pinned: give it a tag other than latest, or a digest", ref)
	case b != nil && (b.Repository == "" || b.Context == "" || b.Dockerfile == "" || b.Target == ""):
		p.add(at+".image.build", "repository, context, dockerfile and target are all needed")
	}
	if svc.Replicas < 1 {
		p.add(at+".replicas", "must be 1 or more, got %d", svc.Replicas)
	}
	if svc.Resources.CPU < 10 {
		p.add(at+".resources.cpu", "must be 10m or more, got %s", svc.Resources.CPU)
	}
	if svc.Resources.Memory < 6*MiB {
		p.add(at+".resources.memory", "must be 6Mi or more, which is the least Docker accepts, got %s", svc.Resources.Memory)
	}
	if svc.Resources.PIDs < 1 {
		p.add(at+".resources.pids", "must be 1 or more, got %d", svc.Resources.PIDs)
	}
	if svc.Security.UID <= 0 || svc.Security.GID <= 0 {
		p.add(at+".security", "must run as a user and a group other than root, got %d:%d", svc.Security.UID, svc.Security.GID)
	}
	for name, reason := range svc.Security.KeepCapabilities {
		if reason == "" {
			p.add(at+".security.keepCapabilities."+name, "needs its reason")
		}
	}
	if g := svc.GPU; g != nil && (g.Count == 0) == (len(g.Devices) == 0) {
		p.add(at+".gpu", "set either count or devices")
	}
	if svc.StartTimeout <= 0 {
		p.add(at+".startTimeout", "must be positive, got %s", svc.StartTimeout)
	}
	if svc.Log.MaxSize <= 0 || svc.Log.MaxFiles < 1 {
		p.add(at+".log", "must be bounded: maxSize %s, maxFiles %d", svc.Log.MaxSize, svc.Log.MaxFiles)
	}
	if h := svc.Health; len(h.Command) == 0 || h.Interval <= 0 || h.Timeout <= 0 || h.Retries < 1 || h.StartPeriod < 0 {
		p.add(at+".health", "needs a command, an interval, a timeout and retries")
	}
	s.references(p, at, svc)
	validatePorts(p, at, svc)
	s.validateMounts(p, at, svc)
	validateContract(p, at, svc)
}

func (s Stack) references(p *problems, at string, svc Service) {
	if len(svc.Networks) == 0 {
		p.add(at+".networks", "is empty: nothing could reach the service")
	}
	for _, n := range svc.Networks {
		if !slices.ContainsFunc(s.Networks, func(x Network) bool { return x.Name == n }) {
			p.add(at+".networks", "there is no network %q", n)
		}
	}
	for _, d := range svc.DependsOn {
		if s.Service(d) == nil {
			p.add(at+".dependsOn", "there is no service %q", d)
		}
	}
	for _, f := range svc.Files {
		if f.Secret != "" && !slices.ContainsFunc(s.Secrets, func(x Secret) bool { return x.Name == f.Secret }) {
			p.add(at+".files."+f.Path, "there is no secret %q", f.Secret)
		}
		if f.Secret == "" && strings.Contains(f.Content, SecretToken) {
			p.add(at+".files."+f.Path, "holds %s and names no secret", SecretToken)
		}
	}
}

func validatePorts(p *problems, at string, svc Service) {
	seen := map[int]bool{}
	for _, port := range svc.Ports {
		here := at + ".ports." + port.Name
		if port.Container < 1 || port.Container > 65535 {
			p.add(here+".container", "must be from 1 to 65535, got %d", port.Container)
		}
		if seen[port.Container] {
			p.add(here+".container", "%d is there twice", port.Container)
		}
		seen[port.Container] = true
		if port.Host == 0 {
			continue
		}
		if port.Host < 1 || port.Host > 65535 {
			p.add(here+".host", "must be from 1 to 65535, got %d", port.Host)
		}
		if _, err := netip.ParseAddr(port.Address); err != nil {
			p.add(here+".address", "%q is no IP address", port.Address)
		}
		if svc.Replicas > 1 {
			p.add(at+".replicas", "%d containers cannot share the published port %d", svc.Replicas, port.Host)
		}
	}
}

// validateHostPorts refuses two services on one port of the machine.
func (s Stack) validateHostPorts(p *problems) {
	owner := map[int]string{}
	for _, svc := range s.Services {
		for _, port := range svc.Ports {
			if port.Host == 0 {
				continue
			}
			if first, taken := owner[port.Host]; taken {
				p.add("services."+svc.Name+".ports."+port.Name+".host", "%d is %s's already", port.Host, first)
			}
			owner[port.Host] = svc.Name
		}
	}
}

func (s Stack) validateMounts(p *problems, at string, svc Service) {
	seen := map[string]bool{}
	for _, m := range svc.Mounts {
		here := at + ".mounts." + m.Target
		if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" {
			p.add(here, "the target must be a clean absolute path below /")
		}
		if seen[m.Target] {
			p.add(here, "is there twice")
		}
		seen[m.Target] = true
		switch m.Kind {
		case MountVolume:
			if !slices.ContainsFunc(s.Volumes, func(v Volume) bool { return v.Name == m.Source }) {
				p.add(here, "there is no volume %q", m.Source)
			}
		case MountBind:
			if path.IsAbs(m.Source) || m.Source == ".." || strings.HasPrefix(path.Clean(m.Source), "../") {
				p.add(here, "%q must be a path inside the repository", m.Source)
			}
		case MountTmpfs:
			if m.Size <= 0 || m.Size > svc.Resources.Memory {
				p.add(here, "a tmpfs counts against the memory of %s: its size must be positive and below, got %s", svc.Resources.Memory, m.Size)
			}
		default:
			p.add(here, "unknown kind %q", m.Kind)
		}
	}
	for _, f := range svc.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || path.Dir(f.Path) == "/" {
			p.add(at+".files."+f.Path, "must be a clean absolute path in a directory of its own")
		}
		for target := range seen {
			if dir := path.Dir(f.Path); target == dir || strings.HasPrefix(target, dir+"/") {
				p.add(at+".files."+f.Path, "its directory holds the mount %s", target)
			}
		}
	}
}

func validateContract(p *problems, at string, svc Service) {
	var err error
	var common contract.Common
	switch c := svc.Contract.(type) {
	case nil:
		return
	case contract.Frontend:
		common, err = c.Common, c.Validate()
	case contract.Backend:
		common, err = c.Common, c.Validate()
	case contract.ML:
		common, err = c.Common, c.Validate()
	default:
		p.add(at+".contract", "%T is no environment contract", c)
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			p.add(at+".contract", "%v", e)
		}
	} else if err != nil {
		p.add(at+".contract", "%v", err)
	}
	if svc.StopGrace <= common.DrainTimeout {
		p.add(at+".stopGrace", "%s must be longer than the drain timeout of %s, or a draining container is killed", svc.StopGrace, common.DrainTimeout)
	}
}

// validateOrder refuses services that wait for each other in a circle.
func (s Stack) validateOrder(p *problems) {
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name string, trail []string)
	visit = func(name string, trail []string) {
		svc := s.Service(name)
		if svc == nil || state[name] == 2 {
			return
		}
		if state[name] == 1 {
			p.add("services."+name+".dependsOn", "the services wait for each other in a circle: %s", strings.Join(append(trail, name), " -> "))
			return
		}
		state[name] = 1
		for _, d := range svc.DependsOn {
			visit(d, append(trail, name))
		}
		state[name] = 2
	}
	for _, svc := range s.Services {
		visit(svc.Name, nil)
	}
}
