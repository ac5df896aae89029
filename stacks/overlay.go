package stacks

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

// Checkout is the copy of the repository that a stack is provisioned from.
type Checkout struct {
	FS fs.FS

	// UID and GID own it; what dev's containers write belongs to them. 0
	// stands for root or unknown.
	UID, GID int

	// Mountable reports whether containers can mount it. It is set for those of this machine's
	// engine; whoever brings a copy to those of a cluster sets it.
	Mountable bool

	// Unlocked leaves LockFile aside: upstream images have their tags alone.
	Unlocked bool
}

// overlays are the shipped stacks: a function that changes the base. A new domain is a file with
// such a function and a line here.
var overlays = map[string]func(*Stack, Checkout){
	"dev":        dev,
	"prod":       prod,
	"healthcare": healthcare,
	"legal":      legalDomain,
}

// Overlays lists the names of the shipped stacks, sorted.
func Overlays() []string { return slices.Sorted(maps.Keys(overlays)) }

// Load returns the stack of that name: the base, its overlay, then the settings. It is an error if
// the settings name what the stack does not have; Validate checks the rest.
func Load(name string, v Settings, c Checkout) (Stack, error) {
	overlay := v.Overlay
	if overlay == "" {
		overlay = name
	}

	apply, ok := overlays[overlay]
	if !ok {
		if v.Overlay != "" {
			return Stack{}, fmt.Errorf("%s:overlay: %q is none of %s", Project, overlay,
				strings.Join(Overlays(), ", "))
		}
		return Stack{}, fmt.Errorf("stack %q has no overlay: set one with `pulumi config set -s "+
			"%s %s:overlay dev` (valid: %s)",
			name, name, Project, strings.Join(Overlays(), ", "))
	}

	stack := base(name)
	if v.Knowledge != nil {
		stack.addKnowledge(*v.Knowledge)
	}

	c.Mountable = c.Mountable || v.Target != Kubernetes
	apply(&stack, c)
	err := errors.Join(stack.applySettings(v), stack.applyModel(c.FS, v.Model),
		stack.applyDomain(c.FS, v.DomainTitle, v.Learning), stack.finishRedis())
	if err != nil {
		return Stack{}, err
	}

	if err := stack.renderEdge(); err != nil {
		return Stack{}, err
	}

	if c.Unlocked {
		return stack, nil
	}
	lock, err := ReadLock(c.FS)
	if err != nil {
		return Stack{}, err
	}
	return stack, stack.pin(lock)
}

// Service returns the service of that name, or nil.
func (s *Stack) Service(name string) *Service {
	for i := range s.Services {
		if s.Services[i].Name == name {
			return &s.Services[i]
		}
	}
	return nil
}

// Volume returns the volume of that name, and reports whether there is one.
func (s *Stack) Volume(name string) (Volume, bool) {
	i := slices.IndexFunc(s.Volumes, func(v Volume) bool { return v.Name == name })
	if i < 0 {
		return Volume{}, false
	}
	return s.Volumes[i], true
}

// SecretKeys returns the keys of the config that hold secrets, by the secrets' names.
func (s *Stack) SecretKeys() map[string]string {
	keys := map[string]string{}
	for _, x := range s.Secrets {
		if x.Existing == nil && x.External == nil {
			keys[x.Name] = x.ConfigKey
		}
	}
	return keys
}

// writesAlone reports whether the service writes to a volume that takes one writer.
func (s *Stack) writesAlone(svc Service) bool {
	return slices.ContainsFunc(svc.Mounts, func(m Mount) bool {
		v, _ := s.Volume(m.Source)
		return m.Kind == MountVolume && !m.ReadOnly && v.SingleWriter
	})
}

// WayOut returns the first network of the service that has a way out, and reports whether there is
// one.
func (s *Stack) WayOut(svc Service) (Network, bool) {
	for _, n := range s.Networks {
		if !n.Internal && !n.Inbound && slices.Contains(svc.Networks, n.Name) {
			return n, true
		}
	}
	return Network{}, false
}

// Remove removes services from the stack, with the volumes that no other service mounts. The others
// no longer wait for them nor call them.
func (s *Stack) Remove(names ...string) {
	gone := func(n string) bool { return slices.Contains(names, n) }
	s.Services = slices.DeleteFunc(s.Services, func(x Service) bool { return gone(x.Name) })
	for i := range s.Services {
		s.Services[i].DependsOn = slices.DeleteFunc(s.Services[i].DependsOn, gone)
		s.Services[i].Calls = slices.DeleteFunc(s.Services[i].Calls, gone)
	}

	s.Volumes = slices.DeleteFunc(s.Volumes, func(v Volume) bool {
		return !slices.ContainsFunc(s.Services, func(x Service) bool {
			return slices.ContainsFunc(x.Mounts, func(m Mount) bool {
				return m.Kind == MountVolume && m.Source == v.Name
			})
		})
	})
}

// edit calls change with the environment of each service that has it as an E: a service's own
// Config, what every service has (contract.Environment), or what the users of Redis have.
func edit[E contract.Environment](s *Stack, change func(E)) {
	for i := range s.Services {
		if c, ok := s.Services[i].Contract.(E); ok {
			change(c)
		}
	}
}

// parallel sets how many answers each replica of Ollama writes at once, and ml sends it. Each takes
// a KV cache in memory (docs/scaling.md has the arithmetic).
func (s *Stack) parallel(n int) {
	if o := s.Service(Ollama); o != nil {
		o.Env[parallelVariable] = strconv.Itoa(n)
	}
	edit(s, func(c *mlenv.Config) { c.MaxParallel = n })
}
