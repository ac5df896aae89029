package targets_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// edit changes one field of the lab's stack.
type edit struct {
	field string

	// before makes the stack that the field is changed in; nil is the lab's as it is.
	before func(*stacks.Stack)
	change func(*stacks.Stack)

	// docker and kubernetes are what must come of it: the end of "type name" of a resource that
	// changes, or the path that the error names where the field is refused. Nothing changes
	// where they are empty.
	docker, kubernetes string

	// dockerFate and kubernetesFate take the place of the table's, for a value that has
	// another fate than the rest.
	dockerFate, kubernetesFate fate

	// err is part of the error that shows that the field is looked at.
	err string

	// only is the one target that is asked; both unless it is set.
	only stacks.Target
}

func service(name string, f func(*stacks.Service)) func(*stacks.Stack) {
	return func(s *stacks.Stack) { f(s.Service(name)) }
}

func volume(name string, f func(*stacks.Volume)) func(*stacks.Stack) {
	return func(s *stacks.Stack) {
		i := slices.IndexFunc(s.Volumes, func(v stacks.Volume) bool { return v.Name == name })
		f(&s.Volumes[i])
	}
}

func gpu(f func(*stacks.GPU)) func(*stacks.Stack) {
	return service("ollama", func(s *stacks.Service) {
		if s.GPU == nil {
			s.GPU = &stacks.GPU{Count: 1}
		}
		f(s.GPU)
	})
}

func route(f func(*stacks.Route)) func(*stacks.Stack) {
	return func(s *stacks.Stack) {
		if s.Route == nil {
			s.Route = &stacks.Route{
				Host:    "chat.example.com",
				Gateway: &stacks.Gateway{Class: "envoy"},
			}
		}
		f(s.Route)
	}
}

func tls(f func(*stacks.TLS)) func(*stacks.Stack) {
	return route(func(r *stacks.Route) { r.TLS = &stacks.TLS{}; f(r.TLS) })
}

func endTLS(f func(*stacks.EdgeTLS)) func(*stacks.Stack) {
	return func(s *stacks.Stack) {
		if s.TLS == nil {
			s.TLS = &stacks.EdgeTLS{}
		}
		f(s.TLS)
	}
}

func acme(f func(*stacks.ACME)) func(*stacks.Stack) {
	return endTLS(func(e *stacks.EdgeTLS) {
		if e.ACME == nil {
			e.ACME = &stacks.ACME{}
		}
		f(e.ACME)
	})
}

func autoscaled(least, most, cpu int) func(*stacks.Stack) {
	return service("web", func(s *stacks.Service) {
		s.Autoscale = &stacks.Autoscale{Min: least, Max: most, CPU: cpu}
	})
}

// withoutSecrets leaves the store the file that is none: a secret hides all uploads of a container.
func withoutSecrets(s *stacks.Stack) { s.Service("store").Files = s.Service("store").Files[:1] }

// wholeSecret has the store's file be the value itself, which alone can be the cluster's.
func wholeSecret(s *stacks.Stack) { s.Service("store").Files[1].Content = "" }

// kept takes the secret from a Secret that is there already.
func kept(from stacks.ExistingSecret) func(*stacks.Stack) {
	from.Name, from.Key = cmp.Or(from.Name, "passwords"), cmp.Or(from.Key, "redis")
	return func(s *stacks.Stack) {
		wholeSecret(s)
		s.Secrets[0].Existing = &from
	}
}

// fetched takes the secret from a store.
func fetched(from stacks.ExternalSecret) func(*stacks.Stack) {
	from.Store, from.Kind = cmp.Or(from.Store, "vault"), cmp.Or(from.Kind, "SecretStore")
	from.Key = cmp.Or(from.Key, "chat/redis")
	return func(s *stacks.Stack) {
		wholeSecret(s)
		s.Secrets[0].External = &from
	}
}

func nothing[T any](*T) {}

// waiver changes a waiver, which the policy alone reads.
func waiver(f func(*stacks.Waiver)) func(*stacks.Stack) {
	return func(s *stacks.Stack) {
		s.Waivers = []stacks.Waiver{{Rule: "limits", Subject: "web", Reason: "a reason",
			Expires: time.Unix(0, 0)}}
		f(&s.Waivers[0])
	}
}

// The ends of resources.
const (
	webContainer, webPods   = "container:Container codexcontinue-lab-web", "apps/v1:Deployment web"
	edgeContainer, edgePods = "container:Container codexcontinue-lab-edge", "apps/v1:Deployment edge"
	edgeComponent           = "codexcontinue:docker:Service edge"
	mlContainer, mlPods     = "container:Container codexcontinue-lab-ml", "apps/v1:Deployment ml"
	storeContainer          = "container:Container codexcontinue-lab-store"
	storePods               = "apps/v1:StatefulSet store"
	ollamaContainer         = "container:Container codexcontinue-lab-ollama"
	ollamaPods              = "apps/v1:StatefulSet ollama"
	httpRoute, edgeIngress  = "HTTPRoute edge", "networking.k8s.io/v1:Ingress edge"
	edgeService, modelJob   = "core/v1:Service edge", "batch/v1:Job model"
	autoscaler              = "autoscaling/v2:HorizontalPodAutoscaler web"
	externalSecret          = "external-secrets.io/v1:ExternalSecret redis-password"
	carrier                 = "container:Container codexcontinue-lab-store-files"
	modelCarrier            = "container:Container codexcontinue-lab-ml-files"
)

var edits = []edit{
	{
		field: "Stack.Name",
		change: func(s *stacks.Stack) {
			s.Name = "lab2"
		},
		docker:     "container:Container codexcontinue-lab2-web",
		kubernetes: "core/v1:Namespace namespace",
	},
	{field: "Stack.Development", change: func(s *stacks.Stack) { s.Development = true }},
	{field: "Stack.Domain", change: func(s *stacks.Stack) { s.Domain = "healthcare" }},
	{field: "Stack.Safeguarded", change: func(s *stacks.Stack) { s.Safeguarded = true }},
	{
		field:      "Stack.Route",
		change:     route(nothing[stacks.Route]),
		docker:     "route.host",
		kubernetes: httpRoute,
	},
	{field: "Stack.TLS", change: endTLS(nothing[stacks.EdgeTLS]), docker: edgeComponent,
		kubernetes: "edge.tls"},
	{field: "Stack.TrustedProxies", change: func(s *stacks.Stack) {
		s.TrustedProxies = []string{"10.0.0.0/8"}
	}},
	{field: "Stack.Registry", change: func(s *stacks.Stack) { s.Registry = "registry.example.com" },
		docker: "registry", kubernetes: "image:Image ml"},
	{field: "Stack.AuditRetention", change: func(s *stacks.Stack) {
		s.AuditRetention = time.Hour
	}},
	{field: "Stack.BackupWeights", change: func(s *stacks.Stack) { s.BackupWeights = true }},
	{field: "Stack.RatingsChosen", change: func(s *stacks.Stack) { s.RatingsChosen = true }},
	{field: "Network.Name", change: func(s *stacks.Stack) {
		s.Networks[1].Name = "store-only"
		s.Service("store").Networks, s.Service("web").Networks = []string{"store-only"}, []string{
			"main", "store-only",
		}
	}, docker: "network:Network store-only"},
	{field: "Network.Internal", change: func(s *stacks.Stack) { s.Networks[1].Internal = false },
		docker: "network:Network private"},
	{
		field: "Network.Inbound",
		before: func(s *stacks.Stack) {
			for i := range s.Services {
				s.Services[i].Outside = nil
			}
		},
		change: func(s *stacks.Stack) { s.Networks[0].Inbound = true },
		docker: "network:Network main",
	},
	{
		field: "Network.Internal",
		before: service("store", func(s *stacks.Service) {
			s.Networks = []string{"main"}
			s.Outside = []stacks.Outside{{Host: "example.com", Port: 443, Reason: "test"}}
		}),
		change: service("store", func(s *stacks.Service) {
			s.Networks = []string{"private"}
		}),
		docker:         "services.store.outside",
		kubernetes:     "services.store.outside",
		dockerFate:     fateRefused,
		kubernetesFate: fateRefused,
	},
	{field: "Volume.Name", change: func(s *stacks.Stack) {
		s.Volumes[0].Name = "other"
		s.Service("store").Mounts[0].Source = "other"
	}, docker: "volume:Volume other", kubernetes: storePods},
	{field: "Volume.Size", change: volume("data", func(v *stacks.Volume) { v.Size++ }),
		kubernetes: storePods},
	{field: "Volume.Class", change: volume("data", func(v *stacks.Volume) { v.Class = "fast" }),
		docker: "volumes.data.class", kubernetes: storePods},
	{field: "Volume.PerReplica",
		change: volume("models", func(v *stacks.Volume) {
			v.PerReplica = false
		}), kubernetes: ollamaPods},
	{field: "Volume.PerReplica",
		change: service("ollama", func(s *stacks.Service) {
			s.Replicas = 2
		}), docker: "services.ollama.replicas", dockerFate: fateRefused, kubernetes: ollamaPods},
	{
		field: "Volume.PerReplica",
		before: volume("models", func(v *stacks.Volume) {
			v.PerReplica = false
		}),
		change: service("ollama",
			func(s *stacks.Service) { s.Replicas = 2 }),
		only:           stacks.Kubernetes,
		kubernetes:     "services.ollama.replicas",
		kubernetesFate: fateRefused,
	},
	{field: "Volume.SingleWriter",
		change: volume("data", func(v *stacks.Volume) {
			v.SingleWriter = true
		}), docker: storeContainer},
	{field: "Volume.Shared", change: func(s *stacks.Stack) {
		volume("models", func(v *stacks.Volume) { v.PerReplica, v.Shared = false, true })(s)
		s.Service("ollama").Mounts[0].ReadOnly = true
	}, docker: "volumes.models.shared", kubernetes: "core/v1:PersistentVolumeClaim models"},
	{field: "Secret.Name", change: func(s *stacks.Stack) {
		s.Secrets[0].Name, s.Service("store").Files[1].Secret = "renamed", "renamed"
	}},
	{field: "Secret.ConfigKey", change: func(s *stacks.Stack) {
		s.Secrets[0].ConfigKey = unset
	}, err: "the config has no codexcontinue:redisOther"},
	{field: "Secret.Existing", before: wholeSecret, change: kept(stacks.ExistingSecret{}),
		docker: "secrets.redis-password", kubernetes: storePods},
	{field: "ExistingSecret.Name", before: kept(stacks.ExistingSecret{}),
		change: kept(stacks.ExistingSecret{Name: "other"}),
		docker: "secrets.redis-password", kubernetes: storePods},
	{field: "ExistingSecret.Key", before: kept(stacks.ExistingSecret{}),
		change: kept(stacks.ExistingSecret{Key: "other"}),
		docker: "secrets.redis-password", kubernetes: storePods},
	{field: "Secret.External", before: wholeSecret, change: fetched(stacks.ExternalSecret{}),
		docker: "secrets.redis-password", kubernetes: externalSecret},
	{field: "ExternalSecret.Store", before: fetched(stacks.ExternalSecret{}),
		change: fetched(stacks.ExternalSecret{Store: "other"}),
		docker: "secrets.redis-password", kubernetes: externalSecret},
	{field: "ExternalSecret.Kind", before: fetched(stacks.ExternalSecret{}),
		change: fetched(stacks.ExternalSecret{Kind: "ClusterSecretStore"}),
		docker: "secrets.redis-password", kubernetes: externalSecret},
	{field: "ExternalSecret.Key", before: fetched(stacks.ExternalSecret{}),
		change: fetched(stacks.ExternalSecret{Key: "other"}),
		docker: "secrets.redis-password", kubernetes: externalSecret},
	{field: "ExternalSecret.Property", before: fetched(stacks.ExternalSecret{}),
		change: fetched(stacks.ExternalSecret{Property: "password"}),
		docker: "secrets.redis-password", kubernetes: externalSecret},
	{field: "Service.Name", change: func(s *stacks.Stack) {
		s.Service("edge").DependsOn, s.Service("edge").Calls = []string{"site"}, []string{"site"}
		s.Service("web").Name = "site"
	}, docker: "container:Container codexcontinue-lab-site", kubernetes: "apps/v1:Deployment site"},
	{field: "Service.Entrypoint",
		change: service("edge", func(s *stacks.Service) {
			s.Entrypoint = []string{"/other"}
		}), docker: edgeContainer, kubernetes: edgePods},
	{field: "Service.Command",
		change: service("edge", func(s *stacks.Service) {
			s.Command = []string{"other"}
		}), docker: edgeContainer, kubernetes: edgePods},
	{field: "Service.Contract", change: service("ml", func(s *stacks.Service) {
		s.Contract.(*mlenv.Config).MaxQueue++
	}), docker: mlContainer, kubernetes: mlPods},
	{field: "Service.Env", change: service("web", func(s *stacks.Service) { s.Env["MORE"] = "1" }),
		docker: webContainer, kubernetes: webPods},
	{field: "Service.Networks",
		change: service("web", func(s *stacks.Service) {
			s.Networks = []string{"private", "main"}
		}), docker: webContainer},
	{field: "Service.DependsOn",
		change: service("edge", func(s *stacks.Service) {
			s.DependsOn = nil
		}), docker: edgeContainer, kubernetes: edgePods},
	{field: "Service.Calls",
		change: service("edge", func(s *stacks.Service) {
			s.Calls = []string{"web", "ml"}
		}), kubernetes: "NetworkPolicy ml"},
	{field: "Service.Calls",
		change: service("edge", func(s *stacks.Service) {
			s.Calls = []string{"web",
				"ml"}
		}), only: stacks.Kubernetes, kubernetes: "NetworkPolicy edge"},
	{field: "Service.SpeaksTLS", change: service("web", func(s *stacks.Service) {
		s.SpeaksTLS = true
	})},
	{field: "Service.Replicas", change: service("web", func(s *stacks.Service) { s.Replicas = 3 }),
		docker: webContainer + "-3", kubernetes: webPods},
	{field: "Service.Autoscale", change: autoscaled(2, 5, 60), docker: "services.web.autoscale",
		kubernetes: autoscaler},
	{
		field:      "Service.GPU",
		change:     gpu(nothing[stacks.GPU]),
		docker:     ollamaContainer,
		kubernetes: ollamaPods,
	},
	{field: "Service.StopGrace",
		change: service("web", func(s *stacks.Service) {
			s.StopGrace += time.Second
		}), docker: webContainer, kubernetes: webPods},
	{field: "Service.StartTimeout",
		change: service("web", func(s *stacks.Service) {
			s.StartTimeout += time.Second
		}), kubernetes: webPods},

	{field: "Service.DataFormat", change: service("web", func(s *stacks.Service) {
		s.DataFormat = 2
	})},

	{field: "Image.Ref",
		change: service("web", func(s *stacks.Service) {
			s.Image.Ref = "probe:2"
		}), docker: "remoteImage:RemoteImage web", kubernetes: webPods},
	{field: "Image.Build", change: service("web", func(s *stacks.Service) {
		s.Image = stacks.Image{Build: &stacks.Build{Repository: "codexcontinue/web", Context: ".",
			Dockerfile: "services/ml/Dockerfile", Target: "production"}}
	}), docker: "image:Image web", kubernetes: webPods},
	{field: "Image.Kept", change: service("ml", func(s *stacks.Service) {
		s.Image.Kept = "codexcontinue/ml:0123456789ab"
	}), docker: "remoteImage:RemoteImage ml", kubernetes: mlPods},
	{field: "Build.Repository",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.Repository = "codexcontinue/other"
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Build.Context",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.Context = "services/ml"
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Build.Dockerfile",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.Dockerfile = "services/ml/Other"
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Build.Target",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.Target = "development"
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Build.Args",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.Args["GO_IMAGE"] = "golang:1.27"
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Build.BaseIDs",
		change: service("ml", func(s *stacks.Service) {
			s.Image.Build.BaseIDs = map[string]string{"golang:1.26": "sha256:1"}
		}), docker: "image:Image ml", kubernetes: mlPods},
	{field: "Image.ID", change: service("web", func(s *stacks.Service) { s.Image.ID = "sha256:1" })},
	{field: "Stack.Platforms", change: func(s *stacks.Stack) { s.Platforms = []string{"linux/arm64"} },
		docker: "image:Image ml", kubernetes: mlPods},

	{field: "Port.Name",
		change: service("edge", func(s *stacks.Service) {
			s.Ports[0].Name = "web"
		}), docker: "docker:Service edge", kubernetes: edgeService},
	{field: "Port.Container",
		change: service("edge", func(s *stacks.Service) {
			s.Ports[0].Container++
		}), docker: edgeContainer, kubernetes: "NetworkPolicy edge"},
	{field: "Port.Container",
		change: service("ml", func(s *stacks.Service) {
			s.Ports[0].Container++
		}), only: stacks.Kubernetes, kubernetes: "core/v1:Service ml"},
	{field: "Port.UDP", change: service("edge", func(s *stacks.Service) { s.Ports[0].UDP = true }),
		docker: edgeContainer, kubernetes: edgeService},
	{field: "Port.UDP", change: service("edge", func(s *stacks.Service) { s.Ports[0].UDP = true }),
		only: stacks.Kubernetes, kubernetes: edgePods},
	{field: "Port.UDP", change: service("ml", func(s *stacks.Service) { s.Ports[0].UDP = true }),
		only: stacks.Kubernetes, kubernetes: "NetworkPolicy web"},
	{field: "Port.UDP", change: service("ml", func(s *stacks.Service) { s.Ports[0].UDP = true }),
		only: stacks.Kubernetes, kubernetes: "NetworkPolicy ml"},
	{field: "Port.Host", change: service("edge", func(s *stacks.Service) { s.Ports[0].Host++ }),
		docker: edgeContainer, kubernetes: edgeService},
	{
		field: "Port.Host",
		change: service("ml", func(s *stacks.Service) {
			s.Ports[0].Host, s.Ports[0].Address = 5000, "127.0.0.1"
		}),
		docker:         mlContainer,
		kubernetes:     "services.ml.ports.http.host",
		kubernetesFate: fateRefused,
	},
	{field: "Port.Address",
		change: service("edge", func(s *stacks.Service) {
			s.Ports[0].Address = "0.0.0.0"
		}), docker: edgeContainer, kubernetes: edgeService},
	{
		field: "Port.Address",
		change: service("edge", func(s *stacks.Service) {
			s.Ports[0].Address = "10.0.0.1"
		}),
		docker:         edgeContainer,
		kubernetes:     "services.edge.ports.http.address",
		kubernetesFate: fateRefused,
	},

	{field: "Mount.Kind", change: service("web", func(s *stacks.Service) {
		s.Mounts[1] = stacks.Mount{Kind: stacks.MountModel, Target: "/cache", ReadOnly: true}
	}), docker: webContainer, kubernetes: webPods},
	{field: "Mount.Source", change: func(s *stacks.Stack) {
		s.Volumes = append(s.Volumes, stacks.Volume{Name: "new", Size: stacks.GiB})
		s.Service("store").Mounts[0].Source = "new"
	}, docker: storeContainer, kubernetes: storePods},
	{
		field: "Mount.Source",
		change: service("ml", func(s *stacks.Service) {
			s.Mounts = append(s.Mounts, stacks.Mount{
				Kind: stacks.MountBind, Source: "other", Target: "/other", ReadOnly: true,
			})
		}),
		docker:         mlContainer,
		kubernetes:     "services.ml.mounts./other",
		kubernetesFate: fateRefused,
	},
	{field: "Mount.Target",
		change: service("store", func(s *stacks.Service) {
			s.Mounts[0].Target = "/other"
		}), docker: storeContainer, kubernetes: storePods},
	{field: "Mount.ReadOnly",
		change: service("store", func(s *stacks.Service) {
			s.Mounts[0].ReadOnly = true
		}), docker: storeContainer, kubernetes: storePods},
	{field: "Mount.ReadOnly",
		change: service("web", func(s *stacks.Service) {
			s.Mounts[1].ReadOnly = true
		}), docker: webContainer, kubernetes: webPods},
	{field: "Mount.Size",
		change: service("web", func(s *stacks.Service) {
			s.Mounts[1].Size += stacks.MiB
		}), docker: webContainer, kubernetes: webPods},
	{field: "Mount.Exec",
		change: service("web", func(s *stacks.Service) {
			s.Mounts[1].Exec = true
		}), docker: webContainer},

	{field: "File.Path", before: withoutSecrets,
		change: service("store", func(s *stacks.Service) {
			s.Files[0].Path = "/etc/store/other.conf"
		}), docker: carrier, kubernetes: storePods},
	{field: "File.Content",
		change: service("store", func(s *stacks.Service) {
			s.Files[0].Content += "more\n"
		}), before: withoutSecrets, docker: carrier, kubernetes: "core/v1:ConfigMap store-files"},
	{field: "File.Secret",
		before: service("store", func(s *stacks.Service) {
			s.Files[1] = stacks.File{Path: "/run/secrets/auth.conf", Content: "plain"}
		}),
		change: service("store", func(s *stacks.Service) {
			s.Files[1] = stacks.File{Path: "/run/secrets/auth.conf", Secret: "redis-password"}
		}), docker: carrier, kubernetes: "core/v1:Secret store-files"},
	{field: "File.Live", before: withoutSecrets,
		change: service("store", func(s *stacks.Service) {
			s.Files[0].Live = true
		}), docker: "container:Container codexcontinue-lab-store-live"},

	{field: "Outside.Host",
		change: service("web", func(s *stacks.Service) {
			s.Outside[0].Host = "10.1.2.4"
		}), kubernetes: "NetworkPolicy web"},
	{field: "Outside.Port", change: service("web", func(s *stacks.Service) { s.Outside[0].Port++ }),
		kubernetes: "NetworkPolicy web"},
	{field: "Outside.Reason",
		change: service("web", func(s *stacks.Service) { s.Outside[0].Reason = "another" })},

	{field: "Health.Command",
		change: service("store", func(s *stacks.Service) {
			s.Health.Command = []string{"/other"}
		}), docker: storeContainer, kubernetes: storePods},
	{field: "Health.LivePath",
		change: service("ml", func(s *stacks.Service) {
			s.Health.LivePath = "/other"
		}), kubernetes: mlPods},
	{field: "Health.ReadyPath",
		change: service("ml", func(s *stacks.Service) {
			s.Health.ReadyPath = "/other"
		}), kubernetes: mlPods},
	{field: "Health.Interval",
		change: service("ml", func(s *stacks.Service) {
			s.Health.Interval += time.Second
		}), docker: mlContainer, kubernetes: mlPods},
	{field: "Health.Timeout",
		change: service("ml", func(s *stacks.Service) {
			s.Health.Timeout += time.Second
		}), docker: mlContainer, kubernetes: mlPods},
	{field: "Health.StartPeriod",
		change: service("ml", func(s *stacks.Service) {
			s.Health.StartPeriod += time.Second
		}), docker: mlContainer},
	{field: "Health.Retries", change: service("ml", func(s *stacks.Service) { s.Health.Retries++ }),
		docker: mlContainer, kubernetes: mlPods},

	{field: "Autoscale.Min", before: autoscaled(2, 5, 60), change: autoscaled(3, 5, 60),
		docker: "services.web.autoscale", kubernetes: autoscaler},
	{field: "Autoscale.Max", before: autoscaled(2, 5, 60), change: autoscaled(2, 6, 60),
		docker: "services.web.autoscale", kubernetes: autoscaler},
	{field: "Autoscale.CPU", before: autoscaled(2, 5, 60), change: autoscaled(2, 5, 70),
		docker: "services.web.autoscale", kubernetes: autoscaler},

	{field: "Resources.CPU",
		change: service("web", func(s *stacks.Service) {
			s.Resources.CPU += 100
		}), docker: webContainer, kubernetes: webPods},
	{field: "Resources.Memory",
		change: service("web", func(s *stacks.Service) {
			s.Resources.Memory += stacks.MiB
		}), docker: webContainer, kubernetes: webPods},
	{field: "Resources.Memory",
		change: service("web", func(s *stacks.Service) {
			s.Resources.Memory += stacks.MiB
		}), only: stacks.Kubernetes, kubernetes: "core/v1:ResourceQuota quota"},
	{field: "Resources.PIDs",
		change: service("web", func(s *stacks.Service) {
			s.Resources.PIDs++
		}), docker: webContainer},

	{field: "GPU.Count", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Count = 2
		}), docker: ollamaContainer, kubernetes: ollamaPods},
	{
		field:  "GPU.Count",
		before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Count = stacks.AllGPUs
		}),
		docker:         ollamaContainer,
		kubernetes:     "services.ollama.gpu.count",
		kubernetesFate: fateRefused,
	},
	{field: "GPU.Devices", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Count, g.Devices = 0, []string{"GPU-1"}
		}), docker: ollamaContainer, kubernetes: "services.ollama.gpu.devices"},
	{field: "GPU.Resource", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Resource = "amd.com/gpu"
		}), docker: "services.ollama.gpu.resource", kubernetes: ollamaPods},
	{field: "GPU.RuntimeClass", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.RuntimeClass = "nvidia"
		}), docker: "services.ollama.gpu.runtimeClass", kubernetes: ollamaPods},
	{field: "GPU.NodeSelector", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.NodeSelector = map[string]string{"gpu": "h100"}
		}), docker: "services.ollama.gpu.nodeSelector", kubernetes: ollamaPods},
	{field: "Toleration.Key", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Tolerations = []stacks.Toleration{{Key: "team"}}
		}), docker: "services.ollama.gpu.tolerations", kubernetes: ollamaPods},
	{field: "Toleration.Value", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Tolerations = []stacks.Toleration{{Key: "team",
				Value: "chat"}}
		}), docker: "services.ollama.gpu.tolerations", kubernetes: ollamaPods},
	{field: "Toleration.Effect", before: gpu(nothing[stacks.GPU]),
		change: gpu(func(g *stacks.GPU) {
			g.Tolerations = []stacks.Toleration{{Key: "team",
				Effect: "NoExecute"}}
		}), docker: "services.ollama.gpu.tolerations", kubernetes: ollamaPods},
	{field: "Toleration.Value", only: stacks.Kubernetes,
		before: gpu(func(g *stacks.GPU) {
			g.Tolerations = []stacks.Toleration{{Key: "team"}}
		}), change: gpu(func(g *stacks.GPU) {
			g.Tolerations[0].Value = "chat"
		}), kubernetes: ollamaPods},
	{field: "Toleration.Effect", only: stacks.Kubernetes,
		before: gpu(func(g *stacks.GPU) {
			g.Tolerations = []stacks.Toleration{{Key: "team"}}
		}), change: gpu(func(g *stacks.GPU) {
			g.Tolerations[0].Effect = "NoExecute"
		}), kubernetes: ollamaPods},

	{field: "Security.UID", change: service("web", func(s *stacks.Service) { s.Security.UID++ }),
		docker: webContainer, kubernetes: webPods},
	{field: "Security.GID", change: service("web", func(s *stacks.Service) { s.Security.GID++ }),
		docker: webContainer, kubernetes: webPods},
	{field: "Security.WritableRoot",
		change: service("web", func(s *stacks.Service) {
			s.Security.WritableRoot = ""
		}), docker: webContainer, kubernetes: webPods},
	{field: "Security.KeepCapabilities",
		change: service("edge", func(s *stacks.Service) {
			s.Security.KeepCapabilities = nil
		}), docker: edgeContainer, kubernetes: edgePods},
	{field: "Security.KeepCapabilities",
		change: service("edge", func(s *stacks.Service) {
			s.Security.KeepCapabilities = map[string]string{"CHOWN": "a reason"}
		}), docker: edgeContainer,
		kubernetes: "services.edge.security.keepCapabilities.CHOWN", kubernetesFate: fateRefused},

	{field: "Log.MaxSize",
		change: service("web", func(s *stacks.Service) {
			s.Log.MaxSize += stacks.MiB
		}), docker: webContainer},
	{field: "Log.MaxFiles", change: service("web", func(s *stacks.Service) { s.Log.MaxFiles++ }),
		docker: webContainer},

	{field: "Model.Name", change: func(s *stacks.Stack) { s.Model.Name = "other" }},
	{field: "Model.Modelfile", change: func(s *stacks.Stack) {
		s.Model.Modelfile = "modelfiles/lab2/Modelfile"
	}, docker: modelCarrier, kubernetes: "core/v1:ConfigMap modelfiles"},
	{field: "Model.Base", change: func(s *stacks.Stack) { s.Model.Base = "tiny" },
		docker: modelCarrier, kubernetes: "core/v1:ConfigMap modelfiles"},
	{field: "Model.Digest", change: func(s *stacks.Stack) { s.Model.Digest = "another" },
		docker: modelCarrier, kubernetes: modelJob},
	{field: "Model.Weights", change: func(s *stacks.Stack) {
		s.Model.Weights = map[string]string{"team.gguf": "another"}
	}},
	{field: "Model.Evals", change: func(s *stacks.Stack) { s.Model.Evals = "another" },
		docker: modelCarrier, kubernetes: "core/v1:ConfigMap modelfiles"},

	{field: "Route.Host", change: route(func(r *stacks.Route) { r.Host = "other.example.com" }),
		before: route(nothing[stacks.Route]), docker: "route.host", kubernetes: httpRoute},
	{field: "Route.Gateway",
		change: route(func(r *stacks.Route) {
			r.Gateway, r.Ingress = nil, &stacks.Ingress{Class: "nginx"}
		}), before: route(nothing[stacks.Route]), docker: "route.host", kubernetes: httpRoute},
	{field: "Route.Ingress",
		change: route(func(r *stacks.Route) {
			r.Gateway, r.Ingress = nil, &stacks.Ingress{Class: "nginx"}
		}), before: route(nothing[stacks.Route]), docker: "route.host", kubernetes: edgeIngress},
	{
		field:      "Route.TLS",
		change:     tls(func(t *stacks.TLS) { t.Secret = "certificate" }),
		before:     route(nothing[stacks.Route]),
		docker:     "route.host",
		kubernetes: "HTTPRoute edge-https",
	},
	{field: "Gateway.Name", before: route(nothing[stacks.Route]),
		change: route(func(r *stacks.Route) {
			r.Gateway = &stacks.Gateway{Name: "main"}
		}), docker: "route.host", kubernetes: httpRoute},
	{field: "Gateway.Namespace",
		before: route(func(r *stacks.Route) {
			r.Gateway = &stacks.Gateway{Name: "main"}
		}), change: route(func(r *stacks.Route) {
			r.Gateway.Namespace = "gateways"
		}), docker: "route.host", kubernetes: httpRoute},
	{field: "Gateway.Class", before: route(nothing[stacks.Route]),
		change: route(func(r *stacks.Route) {
			r.Gateway.Class = "cilium"
		}), docker: "route.host", kubernetes: "Gateway edge"},
	{field: "Ingress.Class",
		before: route(func(r *stacks.Route) {
			r.Gateway, r.Ingress = nil, &stacks.Ingress{Class: "nginx"}
		}), change: route(func(r *stacks.Route) {
			r.Ingress.Class = "other"
		}), docker: "route.host", kubernetes: edgeIngress},
	{field: "TLS.Secret", before: tls(func(t *stacks.TLS) { t.Secret = "one" }),
		change: tls(func(t *stacks.TLS) {
			t.Secret = "two"
		}), docker: "route.host", kubernetes: "Gateway edge"},
	{field: "TLS.Issuer", before: tls(func(t *stacks.TLS) { t.Issuer = "one" }),
		change: tls(func(t *stacks.TLS) {
			t.Issuer = "two"
		}), docker: "route.host", kubernetes: "Gateway edge"},
	{field: "TLS.ClusterIssuer", before: tls(func(t *stacks.TLS) { t.Issuer = "one" }),
		change: tls(func(t *stacks.TLS) {
			t.ClusterIssuer = "one"
		}), docker: "route.host", kubernetes: "Gateway edge"},

	{field: "EdgeTLS.Host", change: endTLS(func(e *stacks.EdgeTLS) { e.Host = "x.example.com" }),
		before: endTLS(nothing[stacks.EdgeTLS]), docker: edgeComponent, kubernetes: "edge.tls"},
	{field: "EdgeTLS.ACME",
		change: endTLS(func(e *stacks.EdgeTLS) {
			e.ACME = &stacks.ACME{Email: "a@example.com"}
		}), before: endTLS(nothing[stacks.EdgeTLS]), kubernetes: "edge.tls"},
	{field: "EdgeTLS.Certificate",
		change: endTLS(func(e *stacks.EdgeTLS) {
			e.Certificate = "PEM"
		}), before: endTLS(nothing[stacks.EdgeTLS]), kubernetes: "edge.tls"},
	{field: "EdgeTLS.Internal", change: endTLS(func(e *stacks.EdgeTLS) { e.Internal = true }),
		before: endTLS(nothing[stacks.EdgeTLS]), kubernetes: "edge.tls"},
	{field: "ACME.Email", change: acme(func(a *stacks.ACME) { a.Email = "b@example.com" }),
		before: acme(nothing[stacks.ACME]), kubernetes: "edge.tls"},
	{field: "ACME.Directory", change: acme(func(a *stacks.ACME) { a.Directory = "https://x" }),
		before: acme(nothing[stacks.ACME]), kubernetes: "edge.tls"},

	{field: "Waiver.Rule", change: waiver(func(w *stacks.Waiver) { w.Rule = "other" })},
	{field: "Waiver.Subject", change: waiver(func(w *stacks.Waiver) { w.Subject = "other" })},
	{field: "Waiver.Reason", change: waiver(func(w *stacks.Waiver) { w.Reason = "other" })},
	{field: "Waiver.Expires", change: waiver(func(w *stacks.Waiver) {
		w.Expires = time.Unix(1, 0)
	})},
}
