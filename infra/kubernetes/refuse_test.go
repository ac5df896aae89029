package kubernetes_test

import (
	"os"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// on applies f to the named service.
func on(name string, f func(*stacks.Service)) func(*stacks.Stack, *kubernetes.Options) {
	return func(s *stacks.Stack, _ *kubernetes.Options) { f(s.Service(name)) }
}

// more adds a service of that name.
func more(name string) func(*stacks.Stack, *kubernetes.Options) {
	return func(s *stacks.Stack, _ *kubernetes.Options) {
		svc := *s.Service("web")
		svc.Name, svc.DependsOn, svc.Calls = name, nil, nil
		s.Services = append(s.Services, svc)
	}
}

func TestWhatAClusterCannotExpress(t *testing.T) {
	const cannot = ": the kubernetes target cannot express it: "
	mount := func(m stacks.Mount) func(*stacks.Stack, *kubernetes.Options) {
		return on("web", func(s *stacks.Service) { s.Mounts = []stacks.Mount{m} })
	}
	for name, tc := range map[string]struct {
		change func(*stacks.Stack, *kubernetes.Options)
		want   string
	}{
		"all GPUs": {on("ollama", func(s *stacks.Service) {
			s.GPU = &stacks.GPU{Count: stacks.AllGPUs}
		}), "services.ollama.gpu.count" + cannot + "a pod asks for a number of devices"},
		"named GPUs": {on("ollama", func(s *stacks.Service) {
			s.GPU = &stacks.GPU{Devices: []string{"0"}}
		}), "services.ollama.gpu.devices" + cannot + "the cluster's device plugin chooses"},
		"no GPU": {on("ollama", func(s *stacks.Service) {
			s.GPU = &stacks.GPU{}
		}), "services.ollama.gpu: asks for no device"},
		"published service": {on("web", func(s *stacks.Service) {
			s.Ports[0].Host, s.Ports[0].Address = 8000, "127.0.0.1"
		}), "services.web.ports.http.host" + cannot + "only the edge is published"},
		"single address": {on("edge", func(s *stacks.Service) {
			s.Ports[0].Address = "192.0.2.1"
		}), "services.edge.ports.http.address" + cannot + `a cluster has no address "192.0.2.1"`},
		"long port name": {on("web", func(s *stacks.Service) {
			s.Ports[0].Name = "a-very-long-name"
		}), "services.web.ports.a-very-long-name.name" + cannot},
		"port name of digits": {on("web", func(s *stacks.Service) {
			s.Ports[0].Name = "8000"
		}), "services.web.ports.8000.name" + cannot},
		"capability": {on("web", func(s *stacks.Service) {
			s.Security.KeepCapabilities = map[string]string{"SYS_PTRACE": "debugging"}
		}), "services.web.security.keepCapabilities.SYS_PTRACE" + cannot},
		"checkout": {mount(stacks.Mount{Kind: stacks.MountBind, Source: ".", Target: "/src", ReadOnly: true}),
			"services.web.mounts./src" + cannot + "pods do not see the checkout"},
		"unknown volume": {mount(stacks.Mount{Kind: stacks.MountVolume, Source: "gone", Target: "/x"}),
			`services.web.mounts./x: there is no volume "gone"`},
		"unknown mount": {mount(stacks.Mount{Kind: "nfs", Target: "/x"}),
			"services.web.mounts./x" + cannot + `there is no mount of kind "nfs"`},
		"one volume of two": {mount(stacks.Mount{Kind: stacks.MountVolume, Source: "data", Target: "/x"}),
			"volumes.data" + cannot + "web and store mount it"},
		"volume of replicas": {on("store", func(s *stacks.Service) {
			s.Replicas = 2
		}), "services.store.replicas" + cannot + "each of 2 pods would have a claim data of its own"},
		"volume of a scaled": {on("store", func(s *stacks.Service) {
			s.Autoscale = &stacks.Autoscale{Min: 1, Max: 3}
		}), "services.store.replicas" + cannot + "each of 3 pods"},
		"writer of many readers": {func(s *stacks.Stack, _ *kubernetes.Options) {
			s.Volumes[1].SingleWriter = true
		},
			"volumes.models: it has a single writer, and is shared"},
		"no size": {func(s *stacks.Stack, _ *kubernetes.Options) {
			s.Volumes[0].Size = 0
		}, "volumes.data.size" + cannot},
		"way out by name": {on("store", func(s *stacks.Service) {
			s.Outside = []stacks.Outside{{Host: "a.example", Port: 443, Reason: "updates"}}
		}), "services.store.outside" + cannot +
			"the service is on internal networks only, and a.example port 443 (updates) is no single address"},
		"way out anywhere": {on("store", func(s *stacks.Service) {
			s.Outside = []stacks.Outside{{Port: 443, Reason: "updates"}}
		}),
			"services.store.outside" + cannot + "the service is on internal networks only, and any host, port 443"},
		"no home": {on("ollama", func(s *stacks.Service) {
			s.Mounts = s.Mounts[:1]
		}), "services.ollama.env.HOME" + cannot + "it lies on the volume models"},
		"unknown callee": {on("web", func(s *stacks.Service) {
			s.Calls = []string{"gone"}
		}), "services.web.calls" + cannot},
		"no health check": {on("store", func(s *stacks.Service) {
			s.Health.Command = nil
		}), "services.store.health.command: is empty"},
		"path of a file": {on("store", func(s *stacks.Service) {
			s.Files[0].Path = "/etc/store/a b"
		}), "services.store.files./etc/store/a b" + cannot},
		"name of the Job": {more("model"), "services.model.name" + cannot},
		"name of digits":  {more("1store"), "services.1store.name" + cannot},
		"foreign namespace": {func(_ *stacks.Stack, o *kubernetes.Options) {
			o.Namespace = "kube-system"
		}, `kubernetes.namespace: "kube-system" is the cluster's own`},
		"wrong namespace": {func(_ *stacks.Stack, o *kubernetes.Options) {
			o.Namespace = "A.b"
		}, `kubernetes.namespace: "A.b" is no DNS label`},
		"wrong domain": {func(_ *stacks.Stack, o *kubernetes.Options) {
			o.Domain = "cluster.local."
		}, `kubernetes.domain: "cluster.local." is no domain`},
		"route to nothing": {func(s *stacks.Stack, _ *kubernetes.Options) {
			s.Remove("edge")
		}, "route" + cannot},
		"large weights": {func(s *stacks.Stack, o *kubernetes.Options) {
			if err := os.Truncate(o.Root+"/modelfiles/lab/lora.gguf", 1<<20); err != nil {
				panic(err)
			}
		}, "model.modelfile" + cannot + "modelfiles/lab/Modelfile and what it names are more than the 1 MiB"},
		"missing Modelfile": {func(s *stacks.Stack, _ *kubernetes.Options) {
			s.Model.Modelfile = "modelfiles/gone"
		}, "model.modelfile: modelfiles/gone: there is no such Modelfile"},
		"invalid contract": {on("ml", func(s *stacks.Service) {
			s.Contract = &mlenv.Config{}
		}), "services.ml.contract: LOG_LEVEL"},
		"variable twice": {on("ml", func(s *stacks.Service) {
			s.Env = map[string]string{"LOG_LEVEL": "info"}
		}), "services.ml.env.LOG_LEVEL: is set twice"},
		"missing Dockerfile": {on("ml", func(s *stacks.Service) {
			s.Image.Build.Dockerfile = "gone"
		}), "services.ml.image.build.dockerfile: open gone"},
		"circle": {on("store", func(s *stacks.Service) {
			s.DependsOn = []string{"web"}
		}), "dependsOn: the services wait for each other in a circle"},
		"secret not set": {func(s *stacks.Stack, _ *kubernetes.Options) {
			s.Secrets[0].ConfigKey = "other"
		}, "secrets.redis-password: the config has no codexcontinue:other: set it with `pulumi config set --secret"},
		"unknown secret": {on("store", func(s *stacks.Service) {
			s.Files[1].Secret = "gone"
		}), `services.store: files./etc/store/auth.conf: there is no secret "gone"`},
	} {
		t.Run(name, func(t *testing.T) {
			stack, root := labStack(t)
			opts := kubernetes.Options{Root: root}
			tc.change(&stack, &opts)
			_, err := record(stack, opts)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	stack, root := labStack(t)
	stack.Service("ollama").GPU.Count = stacks.AllGPUs
	stack.Service("web").Ports[0].Host = 8000
	resources, err := record(stack, kubernetes.Options{Root: root, Namespace: "default"})
	for _, want := range []string{"services.ollama.gpu.count", "services.web.ports.http.host", "kubernetes.namespace"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}

	if len(resources) != 0 {
		t.Errorf("%d resources were registered", len(resources))
	}
}
