package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// onEngine returns the stack as it is rendered for an engine, and then altered unless alter is nil.
func onEngine(t *testing.T, stack stacks.Stack, alter func(*docker.Rendering)) workload.View {
	t.Helper()
	r, err := docker.Render(os.DirFS(projectRoot(t)), stack)
	if err != nil {
		t.Fatal(err)
	}
	if alter != nil {
		alter(r)
	}

	return workload.FromProject(r, projectRoot(t))
}

var badOnDocker = map[string]bad{
	"a published ml": {change: service("ml", func(s *stacks.Service) {
		s.Ports[0].Host = 5000
		s.Ports[0].Address = "0.0.0.0"
	}), subject: "ml", want: "public-port"},
	"a published redis": {change: service("redis", func(s *stacks.Service) {
		s.Ports[0].Host = 6379
	}), subject: "redis", want: "public-port"},
	"dev open to the network": {from: "dev",
		change: service("ollama", func(s *stacks.Service) {
			s.Ports[0].Address = "0.0.0.0"
		}), subject: "ollama", want: "public-port"},
	"an edge open in clear text": {change: openInClearText, subject: "edge", want: "edge-tls"},
	"open to whoever comes":      {change: openToAll, subject: "edge", want: "sign-in"},
	"open behind a gateway": {change: func(s *stacks.Stack) {
		s.TrustedProxies = []string{"10.0.0.0/8"}
	}, subject: "edge", want: "sign-in"},
	"a gate that asks nobody": {from: "healthcare",
		change: service("gate", func(s *stacks.Service) {
			s.Networks = append(s.Networks, stacks.MainNetwork)
		}), subject: "gate", want: "isolation"},
	"privileged": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.Privileged = true }, want: "privileged"},
	"root": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.User = "0:0" }, want: "non-root"},
	"root's group": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.User = "65532:0" }, want: "non-root"},
	"the image's user": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.User = "" }, want: "non-root"},
	"a writable root": {change: service("ollama", func(s *stacks.Service) {
		s.Security.WritableRoot = "it was easier"
	}), subject: "ollama", want: "read-only-root"},
	"a dangerous capability": {change: service("ml", func(s *stacks.Service) {
		s.Security.KeepCapabilities = map[string]string{"SYS_ADMIN": "for mounts"}
	}), subject: "ml", want: "capabilities"},
	"a capability for no reason": {change: service("edge", func(s *stacks.Service) {
		s.Security.KeepCapabilities["NET_BIND_SERVICE"] = " "
	}), subject: "edge", want: "capabilities"},
	"capabilities not dropped": {service: "redis", alter: func(c *types.ServiceConfig) {
		c.CapDrop = []string{"NET_RAW"}
	}, want: "capabilities"},
	"privileges to gain": {service: "backend",
		alter: func(c *types.ServiceConfig) { c.SecurityOpt = nil }, want: "no-new-privileges"},
	"no seccomp": {service: "backend", alter: func(c *types.ServiceConfig) {
		c.SecurityOpt = append(c.SecurityOpt, "seccomp=unconfined")
	}, want: "confined"},
	"no SELinux": {service: "backend", alter: func(c *types.ServiceConfig) {
		c.SecurityOpt = append(c.SecurityOpt, "label:disable")
	}, want: "confined"},
	"the machine's network": {service: "backend", alter: func(c *types.ServiceConfig) {
		c.NetworkMode, c.Networks = "host", nil
	}, want: "host-namespace"},
	"the machine's processes": {service: "backend",
		alter: func(c *types.ServiceConfig) { c.Pid = "host" }, want: "host-namespace"},
	"the machine's memory": {service: "backend",
		alter: func(c *types.ServiceConfig) { c.Ipc = "host" }, want: "host-namespace"},
	"a device": {service: "ollama", alter: func(c *types.ServiceConfig) {
		c.Devices = []types.DeviceMapping{{Source: "/dev/mem"}}
	}, want: "host-device"},
	"the engine's socket": {service: "backend", alter: bind("/var/run/docker.sock", true),
		want: "engine-socket"},
	"the folder of the sockets": {
		service: "backend",
		alter:   bind("/var/run", true),
		want:    "engine-socket",
	},
	"a folder of the machine": {service: "backend", alter: bind("/etc", true), want: "host-path"},
	"the checkout's neighbour": {service: "backend", alter: func(c *types.ServiceConfig) {
		root, _ := filepath.Abs("../..")
		bind(root+"-secret", true)(c)
	}, want: "host-path"},
	"above the checkout": {service: "backend", alter: func(c *types.ServiceConfig) {
		root, _ := filepath.Abs("../..")
		bind(root+"/../x", true)(c)
	}, want: "host-path"},
	"another writable checkout": {change: service("ml", func(s *stacks.Service) {
		s.Mounts[0] = stacks.Mount{Kind: stacks.MountBind, Source: "modelfiles", Target: "/src"}
	}), subject: "ml", want: "source-mount"},
	"the sources in production": {change: service("ml", func(s *stacks.Service) {
		s.Mounts[0] = stacks.Mount{
			Kind: stacks.MountBind, Source: ".", Target: "/src", ReadOnly: true,
		}
	}), subject: "ml", want: "source-mount"},
	"no memory limit": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.MemLimit, c.MemSwapLimit = 0, 0 }, want: "limits"},
	"swap": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.MemSwapLimit = -1 }, want: "limits"},
	"no CPU limit": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.CPUQuota = 0 }, want: "limits"},
	"no limit of processes": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.PidsLimit = 0 }, want: "limits"},
	"an endless log": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.Logging.Options = nil }, want: "bounded-log"},
	"no health check": {service: "ml",
		alter: func(c *types.ServiceConfig) { c.HealthCheck = nil }, want: "health-check"},
	"a health check switched off": {service: "ml", alter: func(c *types.ServiceConfig) {
		c.HealthCheck.Test = []string{"NONE"}
	}, want: "health-check"},
	"latest": {change: service("redis", func(s *stacks.Service) {
		s.Image.Ref = "redis:latest"
	}), subject: "redis", want: "pinned-image"},
	"a series": {change: service("redis", func(s *stacks.Service) {
		s.Image.Ref = "redis:8.2-bookworm"
	}), subject: "redis", want: "pinned-image"},
	"a base of a series": {change: service("ml", func(s *stacks.Service) {
		s.Image.Build.Args["GO_IMAGE"] = "golang:1.26-bookworm"
	}), subject: "ml", want: "pinned-image"},
	"no tag": {change: service("redis", func(s *stacks.Service) {
		s.Image.Ref = "registry.example.com:5000/redis"
	}), subject: "redis", want: "pinned-image"},
	"debugged production": {change: service("backend", func(s *stacks.Service) {
		s.Contract.Shared().Debug = true
	}), subject: "backend", want: "debug"},
	"a password in the environment": {change: service("redis", func(s *stacks.Service) {
		s.Env = map[string]string{"REDIS_PASSWORD": "x"}
	}), subject: "redis", want: "secret-in-environment"},
	"a key in the environment": {change: service("ollama", func(s *stacks.Service) {
		s.Env["HF_API_KEY"] = "x"
	}), subject: "ollama", want: "secret-in-environment"},
	"a password in a URL": {change: service("ollama", func(s *stacks.Service) {
		s.Env["HTTPS_PROXY"] = "http://me:x@proxy:3128"
	}), subject: "ollama", want: "secret-in-environment"},
	"a secret in the environment": {service: "ml", alter: func(c *types.ServiceConfig) {
		c.Environment["KEY"] = new(stacks.SecretToken)
	}, want: "secret-in-environment"},
	"a hash of a secret": {service: "ml", alter: func(c *types.ServiceConfig) {
		c.Environment["USER"] = new("#" + stacks.SecretHashToken)
	}, want: "secret-in-environment"},
	"a secret argument": {service: "redis", alter: func(c *types.ServiceConfig) {
		c.Command = append(c.Command, "--requirepass",
			stacks.SecretToken)
	}, want: "secret-in-arguments"},
	"a secret health check": {service: "redis", alter: func(c *types.ServiceConfig) {
		c.HealthCheck.Test = append(c.HealthCheck.Test,
			stacks.SecretToken)
	}, want: "secret-in-arguments"},
	"a redis for everyone": {change: service("redis", func(s *stacks.Service) {
		s.Files = slices.DeleteFunc(s.Files, func(f stacks.File) bool { return f.Secret != "" })
	}), subject: "redis", want: "redis-password"},
	"healthcare on an open network": {
		from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Networks = []string{"codexcontinue-private", stacks.MainNetwork}
		}),
		subject: "backend",
		want:    "isolation",
	},
	"healthcare without its fence": {from: "healthcare", change: func(s *stacks.Stack) {
		for i := range s.Networks {
			s.Networks[i].Internal = false
		}
	}, subject: "*", want: "isolation"},
	"healthcare's names to anyone": {from: "healthcare", service: "ml",
		alter: func(c *types.ServiceConfig) { c.DNS = nil }, want: "isolation"},
	"healthcare beside the machine": {from: "healthcare", alterAll: func(r *docker.Rendering) {
		n := r.Project.Networks["codexcontinue-private"]
		n.DriverOpts = nil
		r.Project.Networks["codexcontinue-private"] = n
	}, subject: "*", want: "isolation"},
	"healthcare's edge on an open network": {from: "healthcare", change: func(s *stacks.Stack) {
		s.Networks[0].Inbound = false
	}, subject: "edge", want: "isolation"},
	"healthcare's safeguards on prod": {change: func(s *stacks.Stack) {
		s.Service("ollama").Env["OLLAMA_NO_CLOUD"] = "1"
		gate := s.Service("gate").Contract.(*gateenv.Config)
		gate.SignIn, gate.SessionIdle = gateenv.Accounts, 15*time.Minute
		backend := s.Service("backend").Contract.(*backendenv.Config)
		backend.ConversationTTL = time.Hour
		gate.Audit, backend.Audit = true, true
		s.Safeguarded = true
		for i := range s.Services {
			if c := s.Services[i].Contract; c != nil {
				c.Shared().TLS = contract.TLS{
					TLSCertificateFile: "/c.pem", TLSAuthoritiesFile: "/a.pem",
				}
			}
		}
		s.Service("ollama").Env["TLS_CERTIFICATE_FILE"] = "/c.pem"
		redis := s.Service("redis")
		redis.Health.Command = append(redis.Health.Command, "--tls")
	}, subject: "*", want: "isolation"},
	"healthcare in the clear": {from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Contract.Shared().TLS = contract.TLS{}
		}), subject: "backend", want: "internal-tls"},
	"healthcare's Redis in the clear": {from: "healthcare",
		change: service("redis", func(s *stacks.Service) {
			s.Health.Command = slices.DeleteFunc(slices.Clone(s.Health.Command),
				func(w string) bool { return w == "--tls" })
		}), subject: "redis", want: "internal-tls"},
	"healthcare with the cloud": {from: "healthcare",
		change: service("ollama", func(s *stacks.Service) {
			delete(s.Env, "OLLAMA_NO_CLOUD")
		}), subject: "ollama", want: "cloud-models"},
	"healthcare without evals": {
		from: "healthcare",
		change: service("ml", func(s *stacks.Service) {
			s.Contract.(*mlenv.Config).EvalsDigest = ""
		}),
		subject: "ml",
		want:    "evals",
	},
	"healthcare's answers rated": {
		from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Contract.(*backendenv.Config).Ratings = true
		}),
		subject: "backend",
		want:    "ratings",
	},
	"healthcare for whoever comes": {
		from: "healthcare",
		change: service("gate", func(s *stacks.Service) {
			s.Contract.(*gateenv.Config).SignIn = gateenv.None
		}),
		subject: "gate",
		want:    "safeguards",
	},
	"healthcare on a screen that is left": {
		from: "healthcare",
		change: service("gate", func(s *stacks.Service) {
			s.Contract.(*gateenv.Config).SessionIdle = 16 * time.Minute
		}),
		subject: "gate",
		want:    "safeguards",
	},
	"healthcare signed in for ever": {
		from: "healthcare",
		change: service("gate", func(s *stacks.Service) {
			s.Contract.(*gateenv.Config).SessionLife = 169 * time.Hour
		}),
		subject: "gate",
		want:    "safeguards",
	},
	"healthcare for ever": {
		from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Contract.(*backendenv.Config).ConversationTTL = 367 * 24 * time.Hour
		}),
		subject: "backend",
		want:    "safeguards",
	},
	"healthcare that forgets who did what": {
		from: "healthcare",
		change: service("redis", func(s *stacks.Service) {
			s.Command[len(s.Command)-1] = "86400"
		}),
		subject: "redis",
		want:    "safeguards",
	},
	"healthcare without a record": {
		from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Contract.(*backendenv.Config).Auditing = contract.Auditing{}
		}),
		subject: "backend",
		want:    "safeguards",
	},
	"a volume that goes": {alterAll: func(r *docker.Rendering) {
		r.Retained = []string{stacks.OllamaData}
	}, subject: "redis-data", want: "retained-volume"},
	"two at one volume": {service: "redis", alterAll: func(r *docker.Rendering) {
		r.StopsFirst = nil
	}, subject: "redis", want: "single-writer"},
	"a second writer": {service: "backend", alter: func(c *types.ServiceConfig) {
		c.Volumes = []types.ServiceVolumeConfig{{
			Type:   "volume",
			Source: stacks.RedisData,
			Target: "/data",
		}}
	}, subject: "*", want: "single-writer"},
	"a second owner": {service: "backend", alter: func(c *types.ServiceConfig) {
		c.Volumes = []types.ServiceVolumeConfig{{
			Type: "volume", Source: stacks.OllamaData, Target: "/data",
		}}
	}, subject: "ollama", want: "volume-owner"},
	"a cache of two users": {from: "dev", service: "ml", alter: func(c *types.ServiceConfig) {
		c.User = "7:7"
	}, want: "volume-owner"},
	"one backend": {change: service("backend", func(s *stacks.Service) { s.Replicas = 1 }),
		subject: "backend", want: "replicas"},
	"the default network": {service: "ml", alter: func(c *types.ServiceConfig) { c.Networks = nil },
		want: "fenced"},
}

func bind(source string, readOnly bool) func(*types.ServiceConfig) {
	return func(c *types.ServiceConfig) {
		c.Volumes = []types.ServiceVolumeConfig{{Type: "bind", Source: source, Target: "/mnt",
			ReadOnly: readOnly}}
	}
}
