package stacks

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

var (
	// referenceRule wants a tag or a digest on an image reference; the path before it is
	// the registry's business.
	referenceRule = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9./_:-]*` +
		`(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})$`)

	// capabilityRule is capabilities(7) without the prefix CAP_, as Docker and Kubernetes write it.
	capabilityRule = regexp.MustCompile(`^[A-Z]+(_[A-Z]+)*$`)

	// variableRule is what POSIX calls the name of an environment variable.
	variableRule = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
)

func (s Stack) validateService(p *problems, svc Service) {
	at := "services." + svc.Name
	validateImage(p, at+".image", svc.Image)
	if svc.Replicas < 1 {
		p.add(at+".replicas", "must be 1 or more, got %d", svc.Replicas)
	}
	if n := svc.MaxReplicas(); svc.Name == Backup && n > 1 {
		p.add(at+".replicas", "must be 1, got %d: each would make all backups, and they would take the "+
			"places of earlier ones", n)
	}
	if svc.Resources.CPU < 10 {
		p.add(at+".resources.cpu", "must be 10m or more, got %s", svc.Resources.CPU)
	}

	if svc.Resources.Memory < 6*MiB {
		p.add(at+".resources.memory",
			"must be 6Mi or more, which is the least Docker accepts, got %s", svc.Resources.Memory)
	}

	if svc.Resources.PIDs < 1 {
		p.add(at+".resources.pids", "must be 1 or more, got %d", svc.Resources.PIDs)
	}

	if a := svc.Autoscale; a != nil && (a.Min < 1 || a.Max < a.Min || a.CPU < 1 || a.CPU > 100) {
		p.add(at+".autoscale",
			"needs 1 <= min <= max and cpu from 1 to 100 percent, got min %d, max %d, cpu %d",
			a.Min, a.Max, a.CPU)
	}

	if g := svc.GPU; g != nil && ((g.Count == 0) == (len(g.Devices) == 0) || g.Count < AllGPUs) {
		p.add(at+".gpu", "set either count or devices")
	}
	if svc.StartTimeout <= 0 {
		p.add(at+".startTimeout", "must be positive, got %s", svc.StartTimeout)
	}
	if svc.StopGrace <= 0 {
		p.add(at+".stopGrace", "must be positive, got %s", svc.StopGrace)
	}

	if svc.Log.MaxSize <= 0 || svc.Log.MaxFiles < 1 {
		p.add(at+".log", "must be bounded: maxSize %s, maxFiles %d",
			svc.Log.MaxSize, svc.Log.MaxFiles)
	}

	validateSecurity(p, at+".security", svc.Security)
	validateHealth(p, at+".health", svc)
	s.validateReferences(p, at, svc)
	s.validatePorts(p, at, svc)
	s.validateMounts(p, at, svc)
	s.validateFiles(p, at, svc)
	s.validateContract(p, at, svc)
}

func validateImage(p *problems, at string, image Image) {
	switch ref, b := image.Ref, image.Build; {
	case ref == "" && b == nil:
		p.add(at, "set a reference or a build")
	case ref != "" && b != nil:
		p.add(at, "set a reference or a build, not both")
	case b == nil && (!referenceRule.MatchString(ref) || strings.HasSuffix(ref, ":latest")):
		p.add(at+".ref", "%q is not pinned: give it a tag other than latest, or a digest", ref)
	case b != nil:
		if b.Repository == "" || b.Target == "" {
			p.add(at+".build", "repository and target are both needed")
		}

		for name, v := range map[string]string{"context": b.Context, "dockerfile": b.Dockerfile} {
			if !inside(v) {
				p.add(at+".build."+name, "%q must be a path inside the repository", v)
			}
		}
	}
}

func validateSecurity(p *problems, at string, sec Security) {
	if sec.UID <= 0 || sec.GID <= 0 {
		p.add(at, "must run as a user and a group other than root, got %d:%d", sec.UID, sec.GID)
	}

	for name, reason := range sec.KeepCapabilities {
		if !capabilityRule.MatchString(name) || name == "ALL" || strings.HasPrefix(name, "CAP_") {
			p.add(at+".keepCapabilities."+name,
				"is no single capability: write it like NET_BIND_SERVICE")
		}
		if reason == "" {
			p.add(at+".keepCapabilities."+name, "needs its reason")
		}
	}
}

func validateHealth(p *problems, at string, svc Service) {
	h := svc.Health
	if len(h.Command) == 0 || h.Interval <= 0 || h.Timeout <= 0 || h.Retries < 1 ||
		h.StartPeriod < 0 {
		p.add(at, "needs a command, an interval, a timeout and retries")
	}

	for name, v := range map[string]string{"livePath": h.LivePath, "readyPath": h.ReadyPath} {
		if v != "" && (!path.IsAbs(v) || len(svc.Ports) == 0) {
			p.add(at+"."+name, "%q must be a path like /ready on the first port", v)
		}
	}
}

func (s Stack) validateReferences(p *problems, at string, svc Service) {
	if len(svc.Networks) == 0 {
		p.add(at+".networks", "is empty: nothing could reach the service")
	}

	for i, n := range svc.Networks {
		if !slices.ContainsFunc(s.Networks, func(x Network) bool { return x.Name == n }) {
			p.add(at+".networks", "there is no network %q", n)
		}
		if slices.Contains(svc.Networks[:i], n) {
			p.add(at+".networks", "%q is there twice", n)
		}
	}

	for i, c := range svc.Calls {
		callee := s.Service(c)
		switch {
		case callee == nil:
			p.add(at+".calls", "there is no service %q", c)
		case len(callee.Ports) == 0:
			p.add(at+".calls", "%s listens on no port", c)
		case !slices.ContainsFunc(svc.Networks, func(n string) bool {
			return slices.Contains(callee.Networks, n)
		}):
			p.add(at+".calls", "no network has both %s and %s", svc.Name, c)
		}

		if slices.Contains(svc.Calls[:i], c) {
			p.add(at+".calls", "%q is there twice", c)
		}
	}

	for _, o := range svc.Outside {
		if o.Port < 1 || o.Port > 65535 || o.Reason == "" {
			p.add(at+".outside", "needs a port from 1 to 65535 and a reason, got %q %d %q",
				o.Host, o.Port, o.Reason)
		}
	}

	for i, d := range svc.DependsOn {
		if slices.Contains(svc.DependsOn[:i], d) {
			p.add(at+".dependsOn", "%q is there twice", d)
		}
	}
}

// validatePorts holds a service to its own rules of publishing: only the edge may be reached from
// outside the machine, and outside development it is the only one that is published at all.
func (s Stack) validatePorts(p *problems, at string, svc Service) {
	seen := map[string]bool{}
	for _, port := range svc.Ports {
		here := at + ".ports." + port.Name
		if !nameRule.MatchString(port.Name) {
			p.add(at+".ports", "%q is no name of lower-case letters, digits and dashes", port.Name)
		}
		if port.Container < 1 || port.Container > 65535 {
			p.add(here+".container", "must be from 1 to 65535, got %d", port.Container)
		}
		listens := fmt.Sprint(port.Container, port.Protocol())
		if seen[listens] {
			p.add(here+".container", "%d is there twice", port.Container)
		}

		seen[listens] = true
		if port.Host == 0 {
			continue
		}
		if port.Host < 1 || port.Host > 65535 {
			p.add(here+".host", "must be from 1 to 65535, got %d", port.Host)
		}

		address, err := netip.ParseAddr(port.Address)
		switch {
		case err != nil:
			p.add(here+".address", "%q is no IP address", port.Address)
		case svc.Name != Edge && !s.Development:
			p.add(here+".host", "only the edge publishes a port outside development, got %d",
				port.Host)
		case svc.Name != Edge && !address.IsLoopback():
			p.add(here+".address", "only the edge is published beyond the machine, got %s",
				port.Address)
		}
	}
}

// otherWriter returns the first service beside svc that writes to the volume, or "".
func (s Stack) otherWriter(svc Service, v Volume) string {
	for _, other := range s.Services {
		if other.Name != svc.Name && slices.ContainsFunc(other.Mounts, func(m Mount) bool {
			return m.Kind == MountVolume && m.Source == v.Name && !m.ReadOnly
		}) {
			return other.Name
		}
	}

	return ""
}

func (s Stack) validateMounts(p *problems, at string, svc Service) {
	seen := map[string]bool{}
	for _, m := range svc.Mounts {
		here := at + ".mounts." + m.Target
		if !cleanAbsolute(m.Target) {
			p.add(here, "the target must be a clean absolute path below /")
		}
		if seen[m.Target] {
			p.add(here, "is there twice")
		}

		seen[m.Target] = true
		switch m.Kind {
		case MountVolume:
			v, ok := s.Volume(m.Source)
			if !ok {
				p.add(here, "there is no volume %q", m.Source)
				continue
			}

			switch {
			case svc.Autoscale != nil && v.PerReplica:
				p.add(at+".autoscale",
					"a new replica would come up with an empty volume %s: share it "+
						"(%s:volumes.%s.shared) or set replicas",
					m.Source, Project, m.Source)
			case v.SingleWriter && svc.MaxReplicas() > 1, svc.Autoscale != nil && !m.ReadOnly,
				svc.Replicas > 1 && !m.ReadOnly && !v.PerReplica:
				p.add(at+".replicas",
					"%d containers cannot write to the volume %s, whose data belong to one",
					svc.MaxReplicas(), m.Source)
			}

			if other := s.otherWriter(svc, v); v.SingleWriter && !m.ReadOnly && other != "" {
				p.add(here, "the volume %s takes one writer, and %s writes to it", m.Source, other)
			}
			if v.Shared && !m.ReadOnly {
				p.add(here, "must be read-only: the volume %s is shared", m.Source)
			}
		case MountBind:
			if !inside(m.Source) {
				p.add(here, "%q must be a path inside the repository", m.Source)
			}
			if !m.ReadOnly {
				p.add(here, "must be read-only: a container does not write to the repository")
			}
		case MountModel:
			if m.Source != "" {
				p.add(here, "the files of the model have no source, got %q", m.Source)
			}
			if !m.ReadOnly {
				p.add(here, "must be read-only: the files of the model are the plan's")
			}
		case MountHost:
			if svc.Name != Backup || !cleanAbsolute(m.Source) {
				p.add(here, "%q must be an absolute path, and is for backups alone", m.Source)
			}
		case MountTmpfs:
			if m.Source != "" {
				p.add(here, "a tmpfs has no source, got %q", m.Source)
			}

			if m.Size <= 0 || m.Size > svc.Resources.Memory {
				p.add(here,
					"a tmpfs counts against the memory of %s: its size must be positive and "+
						"below, got %s",
					svc.Resources.Memory, m.Size)
			}
		default:
			p.add(here, "unknown kind %q", m.Kind)
		}
	}
}

func (s Stack) validateFiles(p *problems, at string, svc Service) {
	seen := map[string]bool{}
	for _, f := range svc.Files {
		here := at + ".files." + f.Path
		if !cleanAbsolute(f.Path) || path.Dir(f.Path) == "/" {
			p.add(here, "must be a clean absolute path in a directory of its own")
		}
		if seen[f.Path] {
			p.add(here, "is there twice")
		}

		seen[f.Path] = true
		for _, m := range svc.Mounts {
			if dir := path.Dir(f.Path); m.Target == dir || strings.HasPrefix(m.Target, dir+"/") {
				p.add(here, "its directory holds the mount %s", m.Target)
			}
		}

		hasToken := HasSecret(f.Content)
		switch {
		case f.Secret == "" && hasToken:
			p.add(here, "holds a token of a secret and names no secret")
		case f.Secret != "" && f.Content != "" && !hasToken:
			p.add(here,
				"names the secret %q and has no place for it: put %s or %s into the content",
				f.Secret, SecretToken, SecretHashToken)
		case f.Secret == "" && f.Content == "":
			p.add(here, "is empty: set a content or a secret")
		}

		if f.Secret != "" && !slices.ContainsFunc(s.Secrets, func(x Secret) bool {
			return x.Name == f.Secret
		}) {
			p.add(here, "there is no secret %q", f.Secret)
		}
	}
}

// MaxReplicas returns the greatest number of replicas.
func (s Service) MaxReplicas() int {
	if s.Autoscale != nil {
		return s.Autoscale.Max
	}
	return s.Replicas
}

// validateContract checks the environment as the service itself will, and that the
// container outlives its work.
func (s Stack) validateContract(p *problems, at string, svc Service) {
	for name := range svc.Env {
		if !variableRule.MatchString(name) {
			p.add(at+".env."+name,
				"is no name of a variable: use upper-case letters, digits and underscores")
		}
	}

	if svc.Contract == nil {
		return
	}

	vars, err := contract.Render(svc.Contract)
	for _, e := range leaves(err) {
		p.add(at+".contract", "%v", e)
	}

	for name := range vars {
		if _, both := svc.Env[name]; both {
			p.add(at+".env."+name, "is the contract's: set it there")
		}
	}

	drain, answer := svc.Contract.Shared().DrainTimeout, svc.Contract.LongestAnswer()
	if svc.StopGrace <= drain {
		p.add(at+".stopGrace",
			"%s must be longer than the drain timeout of %s, or a draining container is killed",
			svc.StopGrace, drain)
	}

	if !s.Development && drain < answer {
		p.add(at+".contract", "DRAIN_TIMEOUT: %s must not be shorter than the generation timeout "+
			"of %s, or an update cuts answers", drain, answer)
	}
}

// leaves returns the single errors that err joins.
func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}

	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, leaves(e)...)
	}

	return out
}

// inside reports whether a path relative to the project's root stays in it.
func inside(name string) bool {
	clean := path.Clean(name)
	return name != "" && !path.IsAbs(name) && clean != ".." && !strings.HasPrefix(clean, "../")
}

func cleanAbsolute(name string) bool {
	return path.IsAbs(name) && path.Clean(name) == name && name != "/"
}
