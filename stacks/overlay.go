package stacks

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Checkout is the copy of the repository that a stack is provisioned from.
type Checkout struct {
	FS fs.FS
	// UID and GID own it; what dev's containers write belongs to them. 0 stands for root or unknown.
	UID, GID int
}

// overlays are the shipped stacks: a function that changes the base. A new domain is a file with such a function and
// a line here.
var overlays = map[string]func(*Stack, Checkout){
	"dev":        dev,
	"prod":       prod,
	"healthcare": healthcare,
}

// Overlays lists the names of the shipped stacks, sorted.
func Overlays() []string { return slices.Sorted(maps.Keys(overlays)) }

// Load makes the stack of that name: the base, its overlay, then the settings. It reports what the settings name that
// the stack has not; Validate checks the rest.
func Load(name string, s Settings, c Checkout) (Stack, error) {
	overlay := s.Overlay
	if overlay == "" {
		overlay = name
	}
	apply, ok := overlays[overlay]
	if !ok {
		if s.Overlay != "" {
			return Stack{}, fmt.Errorf("%s:overlay: %q is none of %s", Project, overlay, strings.Join(Overlays(), ", "))
		}
		return Stack{}, fmt.Errorf("stack %q has no overlay: set one with `pulumi config set -s %s %s:overlay dev` (valid: %s)",
			name, name, Project, strings.Join(Overlays(), ", "))
	}
	stack := base(name)
	apply(&stack, c)
	err := errors.Join(stack.applySettings(s), stack.applyModel(c.FS, s.Model.Base))
	if err != nil {
		return Stack{}, err
	}
	stack.boundRedis()
	return stack, nil
}

// Service returns the service of that name, nil when the stack has none.
func (s *Stack) Service(name string) *Service {
	for i := range s.Services {
		if s.Services[i].Name == name {
			return &s.Services[i]
		}
	}
	return nil
}

// Remove takes services out of the stack, and out of what others wait for.
func (s *Stack) Remove(names ...string) {
	gone := func(n string) bool { return slices.Contains(names, n) }
	s.Services = slices.DeleteFunc(s.Services, func(x Service) bool { return gone(x.Name) })
	for i := range s.Services {
		s.Services[i].DependsOn = slices.DeleteFunc(s.Services[i].DependsOn, gone)
	}
}

// contracts calls the functions on the typed environment of each service that has it.
func (s *Stack) contracts(common func(*contract.Common), frontend func(*contract.Frontend), backend func(*contract.Backend), ml func(*contract.ML)) {
	for i := range s.Services {
		switch c := s.Services[i].Contract.(type) {
		case contract.Frontend:
			common(&c.Common)
			frontend(&c)
			s.Services[i].Contract = c
		case contract.Backend:
			common(&c.Common)
			backend(&c)
			s.Services[i].Contract = c
		case contract.ML:
			common(&c.Common)
			ml(&c)
			s.Services[i].Contract = c
		}
	}
}

// rename gives the stack's model another name and Modelfile.
func (s *Stack) rename(model, modelfile string) { s.Model.Name, s.Model.Modelfile = model, modelfile }

// requirePassword makes Redis ask for the password that the config holds, and backend give it. Redis gets the hash
// only: a password of any characters fits, and none can be read from the container of Redis.
func (s *Stack) requirePassword() {
	s.Secrets = append(s.Secrets, Secret{Name: RedisPassword, ConfigKey: RedisPasswordKey})
	file := path.Join(secretsDir, RedisPassword)
	if r := s.Service(Redis); r != nil {
		include := path.Join(secretsDir, "redis-auth.conf")
		r.Files = append(r.Files, File{Path: include, Content: "user default reset on #" + SecretHashToken + " ~* &* +@all\n", Secret: RedisPassword})
		for i := range r.Files {
			if r.Files[i].Path == "/etc/redis/redis.conf" {
				r.Files[i].Content += "include " + include + "\n"
			}
		}
	}
	if b := s.Service(Backend); b != nil {
		b.Files = append(b.Files, File{Path: file, Secret: RedisPassword})
		if c, ok := b.Contract.(contract.Backend); ok {
			c.RedisPasswordFile = file
			b.Contract = c
		}
	}
}

// boundRedis writes Redis' own bound of memory from the container's.
func (s *Stack) boundRedis() {
	r := s.Service(Redis)
	if r == nil {
		return
	}
	for i := range r.Files {
		r.Files[i].Content = strings.ReplaceAll(r.Files[i].Content, "${maxmemory}", fmt.Sprint(int64(r.Resources.Memory)/4*3))
	}
}

func (s *Stack) applySettings(v Settings) error {
	var errs []error
	if v.Secrets[RedisPasswordKey] && len(s.Secrets) == 0 {
		s.requirePassword()
	}
	for _, secret := range s.Secrets {
		if !v.Secrets[secret.ConfigKey] {
			errs = append(errs, fmt.Errorf("%s:%s: is not set, and this stack needs it: pulumi config set --secret -s %s %s:%s",
				Project, secret.ConfigKey, s.Name, Project, secret.ConfigKey))
		}
	}
	if v.Model.Name != "" {
		s.Model.Name = v.Model.Name
	}
	if v.Model.Modelfile != "" {
		s.Model.Modelfile = v.Model.Modelfile
	}
	s.contracts(
		func(c *contract.Common) {
			if v.Debug != nil {
				c.Debug = *v.Debug
			}
			if v.LogLevel != "" {
				c.LogLevel = v.LogLevel
			}
		},
		func(c *contract.Frontend) {
			if v.Domain != "" {
				c.Domain = v.Domain
			}
			if v.DomainTitle != "" {
				c.DomainTitle = v.DomainTitle
			}
		},
		func(c *contract.Backend) {
			if v.ConversationTTL != nil {
				c.ConversationTTL = *v.ConversationTTL
			}
		},
		func(*contract.ML) {})
	if o := s.Service(Ollama); o != nil && v.GPU != nil {
		o.GPU = v.GPU
	}
	if e := s.Service(Edge); e != nil {
		if v.Edge.Port != 0 {
			e.Ports[0].Host = v.Edge.Port
		}
		if v.Edge.Address != "" {
			e.Ports[0].Address = v.Edge.Address
		}
	}
	for i := range s.Services {
		for j := range s.Services[i].Ports {
			if p := &s.Services[i].Ports[j]; p.Host != 0 {
				p.Host += v.PortOffset
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Services)) {
		svc := s.Service(name)
		if svc == nil {
			var names []string
			for _, x := range s.Services {
				names = append(names, x.Name)
			}
			errs = append(errs, fmt.Errorf("%s:services.%s: this stack has no such service (it has %s)", Project, name, strings.Join(names, ", ")))
			continue
		}
		svc.apply(v.Services[name])
	}
	return errors.Join(errs...)
}

func (s *Service) apply(v ServiceSettings) {
	if v.Replicas != nil {
		s.Replicas = *v.Replicas
	}
	if v.CPU != 0 {
		s.Resources.CPU = v.CPU
	}
	if v.Memory != 0 {
		s.Resources.Memory = v.Memory
	}
	if v.PIDs != 0 {
		s.Resources.PIDs = v.PIDs
	}
}

// applyModel digests the model's inputs and tells the services its name: a changed prompt is a changed plan.
func (s *Stack) applyModel(fsys fs.FS, base string) error {
	s.Model.Base = base
	m, err := modelfiles.Load(fsys, s.Model.Modelfile, base)
	if err != nil {
		return fmt.Errorf("%s:model.modelfile: %w", Project, err)
	}
	s.Model.Digest = m.Digest
	inside, ok := strings.CutPrefix(s.Model.Modelfile, "modelfiles/")
	if !ok {
		return fmt.Errorf("%s:model.modelfile: %q does not lie in modelfiles/, which is what ml can read", Project, s.Model.Modelfile)
	}
	s.contracts(func(*contract.Common) {}, func(*contract.Frontend) {},
		func(c *contract.Backend) { c.DefaultModel = s.Model.Name },
		func(c *contract.ML) {
			c.DefaultModel, c.BaseModel = s.Model.Name, base
			c.ModelfilePath, c.ModelfileDigest = path.Join(modelfilesDir, inside), m.Digest
		})
	return nil
}
