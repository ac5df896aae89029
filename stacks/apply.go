package stacks

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	neturl "net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

// applySettings changes the stack as the settings ask, but for the model and the domain.
func (s *Stack) applySettings(v Settings) error {
	var errs []error
	if v.Secrets[RedisPasswordKey] && !s.hasPassword() {
		s.requirePassword()
	}
	errs = append(errs, s.applyEdge(v), s.chooseInternalTLS(v), s.applyBackup(v))

	for _, secret := range s.Secrets {
		if v.Secrets[secret.ConfigKey] || v.AssumeSecrets {
			continue
		}

		set := fmt.Sprintf("pulumi config set --secret -s %s %s:%s", s.Name, Project,
			secret.ConfigKey)
		if secret.ConfigKey == InternalAuthorityKey {
			set = "codexctl certificates new " + s.Name
		}
		errs = append(errs, fmt.Errorf("%s:%s: is not set, and this stack needs it: %s", Project,
			secret.ConfigKey, set))
	}

	if v.Domain != "" {
		s.Domain = v.Domain
	}
	if v.Model.Name != "" {
		s.Model.Name = v.Model.Name
	}
	if v.Model.Modelfile != "" {
		s.Model.Modelfile = v.Model.Modelfile
	}
	if v.Model.Parallel != 0 {
		s.parallel(v.Model.Parallel)
	}

	edit(s, func(c contract.Environment) {
		if v.Debug != nil {
			c.Shared().Debug = *v.Debug
		}
		if v.LogLevel != "" {
			c.Shared().LogLevel = v.LogLevel
		}
	})

	edit(s, func(c *backendenv.Config) {
		if v.ConversationTTL != nil {
			c.ConversationTTL = *v.ConversationTTL
		}
		edit(s, func(page *frontendenv.Config) { page.ConversationTTL = c.ConversationTTL })
	})

	s.applyLimits(v.Limits)
	if o := s.Service(Ollama); o != nil {
		if v.GPU != nil {
			o.GPU = v.GPU
		}
	} else if v.GPU != nil {
		errs = append(errs, fmt.Errorf("%s:gpu: this stack has no %s", Project, Ollama))
	}

	errs = append(errs, s.applyRedis(v.Redis), s.applyVolumes(v.Volumes, v.Target))
	s.nameRedisUsers()
	errs = append(errs, s.applyResolver(v.Target))
	s.Registry = v.Registry
	errs = append(errs, s.applyPlatforms(v))
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
			errs = append(errs,
				fmt.Errorf("%s:services.%s: this stack has no such service (it has %s)", Project,
					name, strings.Join(s.serviceNames(), ", ")))
			continue
		}

		if v.Target == Kubernetes && v.Services[name].PIDs != 0 {
			errs = append(errs,
				fmt.Errorf("%s:services.%s.pids: the kubernetes target cannot express it: the "+
					"kubelet of each node has one limit for all pods (podPidsLimit); remove the key",
					Project, name))
		}

		svc.apply(v.Services[name])
		errs = append(errs, s.applySecrets(svc, v.Services[name].Secrets))
	}

	if v.Target == Docker {
		errs = append(errs, s.refuseOpen(), v.refusePods())
	}

	errs = append(errs, s.applySignIn(v), s.applySession(v.Session), s.applyModels(v.Limits.Models),
		s.applyKnowledge(v.Knowledge), s.applyAudit(v.Audit))
	s.nameEdge(v.Target)
	// What the egress proxy relays is TLS already, and Caddy has no certificate for a proxy.
	errs = append(errs, s.applyInternalTLS(), s.applyEgress(v.Egress), s.applyRollback(v.Rollback))
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
	if v.Autoscale != nil {
		s.autoscale(*v.Autoscale)
	}
}

// autoscale lets the number of replicas follow the load. It begins with what the stack runs without
// it, which is also the least unless the settings name one: who turns it on has no fewer.
func (s *Service) autoscale(a Autoscale) {
	if a.Min == 0 {
		a.Min = min(s.Replicas, a.Max)
	}
	s.Replicas = max(a.Min, min(s.Replicas, a.Max))
	s.Autoscale = &a
}

// fsync sets in redis.conf when Redis writes to the disk.
func (s *Stack) fsync(when string) error {
	r := s.Service(Redis)
	if r == nil {
		return fmt.Errorf("%s:redis.fsync: the stack has no Redis of its own", Project)
	}

	for i := range r.Files {
		if r.Files[i].Path == redisConfig {
			r.Files[i].Content = strings.Replace(r.Files[i].Content, "\nappendfsync everysec\n",
				"\nappendfsync "+when+"\n", 1)
		}
	}

	return nil
}

// applyRedis puts a Redis that somebody else runs in the place of the stack's own, or sets when the
// latter writes to the disk.
func (s *Stack) applyRedis(v *RedisSettings) error {
	if v == nil {
		return nil
	}
	if v.Fsync != "" {
		return s.fsync(v.Fsync)
	}

	at := Project + ":redis"
	u, err := neturl.Parse(v.URL)
	if err != nil || u.Port() == "" {
		return fmt.Errorf("%s.url: is no URL with a host and a port: write it like "+
			"redis://redis.example.com:6379/0, or rediss:// for TLS",
			at)
	}

	addresses := slices.Concat(v.Sentinels, v.Cluster)
	if len(addresses) == 0 {
		addresses = []string{u.Host}
	}

	s.Remove(Redis)
	if s.Service(Backend) == nil {
		return fmt.Errorf("%s: the stack has no backend that would use it", at)
	}

	outside, err := outsideRedis(v, u.Port(), addresses)
	for i := range s.Services {
		svc := &s.Services[i]
		user, ok := svc.Contract.(contract.RedisUser)
		if !ok {
			continue
		}

		svc.Outside = append(svc.Outside, outside...)

		r := user.RedisVariables()
		r.RedisURL, r.RedisSentinels = v.URL, v.Sentinels
		r.RedisMaster, r.RedisCluster = v.Master, v.Cluster
		if v.CA != "" {
			svc.Files = append(svc.Files, File{Path: redisCA, Content: v.CA})
			r.RedisCAFile = redisCA
		}
	}

	return err
}

// outsideRedis returns what the users of an external Redis connect to.
func outsideRedis(v *RedisSettings, port string, addresses []string) ([]Outside, error) {
	at := Project + ":redis"
	var out []Outside
	var errs []error
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		n, numErr := strconv.Atoi(port)
		if err != nil || numErr != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port", at, a))
			continue
		}

		out = append(out, Outside{
			Host:   host,
			Port:   n,
			Reason: "the Redis that keeps the conversations",
		})
	}

	for _, o := range slices.Clone(out) {
		// The nodes of a Cluster name each other by addresses that need not be
		// those of the settings.
		node := Outside{Port: o.Port, Reason: "the nodes that a Redis Cluster names"}
		if len(v.Cluster) > 0 && !slices.Contains(out, node) {
			out = append(out, node)
		}
	}

	if len(v.Sentinels) > 0 {
		// The Sentinels name the master, whose address the stack cannot know;
		// its port is the URL's.
		n, _ := strconv.Atoi(port)
		out = append(out, Outside{Port: n, Reason: "the Redis master that the Sentinels name"})
	}

	return out, errors.Join(errs...)
}

func (s *Stack) applyVolumes(v map[string]VolumeSettings, on Target) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(v)) {
		i := slices.IndexFunc(s.Volumes, func(x Volume) bool { return x.Name == name })
		if i < 0 && name == GoCache && s.Development && on == Kubernetes {
			continue // of commands in a development container, see Checkout.Mountable
		}
		if i < 0 {
			var names []string
			for _, x := range s.Volumes {
				names = append(names, x.Name)
			}

			errs = append(errs,
				fmt.Errorf("%s:volumes.%s: this stack has no such volume (it has %s)", Project,
					name, strings.Join(names, ", ")))
			continue
		}

		volume, set := &s.Volumes[i], v[name]
		if set.Size != 0 {
			if on != Kubernetes {
				errs = append(errs,
					fmt.Errorf("%s:volumes.%s.size: the docker target cannot express it: an "+
						"engine's local driver reserves nothing, and a volume may fill the disk "+
						"that it is on; remove the key",
						Project, name))
			}

			volume.Size = set.Size
		}

		if set.Class != "" {
			volume.Class = set.Class
		}
		if set.Shared == nil || !*set.Shared {
			continue
		}

		if !volume.PerReplica {
			errs = append(errs,
				fmt.Errorf("%s:volumes.%s.shared: the volume's data belong to one container "+
					"alone; only %s can be shared",
					Project, name, OllamaData))
			continue
		}

		volume.Shared, volume.PerReplica = true, false
		for j := range s.Services {
			for k := range s.Services[j].Mounts {
				m, env := &s.Services[j].Mounts[k], s.Services[j].Env
				if m.Kind != MountVolume || m.Source != name {
					continue
				}

				m.ReadOnly = true
				if home := env["HOME"]; home == m.Target || strings.HasPrefix(home, m.Target+"/") {
					env["HOME"] = "/tmp" // Ollama keeps a key of its own there
				}
			}
		}
	}

	return errors.Join(errs...)
}

// applyModel digests the model's inputs and its evals, and gives the services its name and
// digests, so that a changed prompt is a changed plan.
func (s *Stack) applyModel(fsys fs.FS, v ModelSettings) error {
	s.Model.Base = v.Base
	m, err := modelfiles.Load(fsys, s.Model.Modelfile, v.Base)
	if err != nil {
		return fmt.Errorf("%s:model.modelfile: %w", Project, err)
	}

	s.Model.Digest, s.Model.Weights = m.Digest, m.Sums
	inside, ok := strings.CutPrefix(s.Model.Modelfile, "modelfiles/")
	if !ok {
		return fmt.Errorf("%s:model.modelfile: %q does not lie in modelfiles/, "+
			"which is what ml can read", Project, s.Model.Modelfile)
	}

	if err := s.applyEvals(fsys, v.Evals); err != nil {
		return err
	}

	edit(s, func(c *backendenv.Config) { c.DefaultModel = s.Model.Name })
	server := s.Service(Ollama)
	edit(s, func(c *mlenv.Config) {
		c.NoDownload = server != nil && len(server.Outside) == 0
		c.DefaultModel, c.BaseModel = s.Model.Name, v.Base
		c.ModelfilePath, c.ModelfileDigest = path.Join(modelfilesDir, inside), m.Digest
		c.EvalsDigest = s.Model.Evals
	})

	return nil
}

// applyEvals digests the evals beside the Modelfile, if there are any and a version has to pass
// them: where nothing else is said, in development it need not.
func (s *Stack) applyEvals(fsys fs.FS, asked *bool) error {
	e, err := modelfiles.LoadEvals(fsys, s.Model.Modelfile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && asked != nil && *asked:
		return fmt.Errorf("%s:model.evals: there is no %s beside %s", Project,
			modelfiles.EvalsFile, s.Model.Modelfile)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}

	if asked == nil && !s.Development || asked != nil && *asked {
		s.Model.Evals = e.Digest
	}

	return nil
}
