package kubernetes_test

import (
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// labStack uses every part of the model that a cluster provisions: a route with TLS, a shared
// volume and a claim, secrets and files in one directory, tmpfs, autoscale, a slice of a GPU, a
// registry, networks with and without a way out.
func labStack(t *testing.T) (stacks.Stack, string) {
	t.Helper()
	root := t.TempDir()
	files := fstest.MapFS{
		"services/ml/Dockerfile": {Data: []byte("FROM scratch AS production\n" +
			"COPY ml /ml\n")},
		"services/ml/Dockerfile.dockerignore": {Data: []byte("**\n!ml\n")},
		"ml":                                  {Data: []byte("binary")},
		"modelfiles/lab/Modelfile":            {Data: []byte("FROM llama3\nADAPTER ./lora.gguf\n")},
		"modelfiles/lab/lora.gguf":            {Data: []byte("weights\xff")},
		"modelfiles/lab/notes.md":             {Data: []byte("nobody's business")},
	}

	if err := os.CopyFS(root, files); err != nil {
		t.Fatal(err)
	}

	model, err := modelfiles.Load(os.DirFS(root), "modelfiles/lab/Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}

	service := func(name string, s stacks.Service) stacks.Service {
		s.Name = name
		if s.Image.Build == nil {
			s.Image.Ref = "probe:1"
		}
		if s.Networks == nil {
			s.Networks = []string{"main"}
		}
		if s.Replicas == 0 {
			s.Replicas = 1
		}

		s.Resources.PIDs = 64
		if s.Resources.CPU == 0 {
			s.Resources.CPU, s.Resources.Memory = 500, 64*stacks.MiB
		}

		s.Security.UID, s.Security.GID = 65532, 65533
		s.Health.Command = []string{"/probe", "healthcheck"}
		s.Health.Interval, s.Health.Timeout = time.Second, 2*time.Second
		s.Health.StartPeriod, s.Health.Retries = time.Minute, 3
		s.StopGrace, s.StartTimeout = 20*time.Second, time.Minute
		s.Log = stacks.Log{MaxSize: 10 * stacks.MiB, MaxFiles: 3}
		return s
	}

	edge := service(stacks.Edge, stacks.Service{
		Ports:     []stacks.Port{{Name: "http", Container: 8080, Host: 80, Address: "0.0.0.0"}},
		Health:    stacks.Health{LivePath: "/live", ReadyPath: "/ready"},
		DependsOn: []string{"web"}, Calls: []string{"web"},
		Entrypoint: []string{"/probe"}, Command: []string{"serve"},
	})

	edge.Security.KeepCapabilities = map[string]string{"NET_BIND_SERVICE": "the binary carries it"}
	web := service("web", stacks.Service{
		Ports: []stacks.Port{
			{Name: "http", Container: 8000}, {Name: "metrics", Container: 9000},
		},
		Health:    stacks.Health{LivePath: "/live"},
		Autoscale: &stacks.Autoscale{Min: 2, Max: 5, CPU: 70},
		DependsOn: []string{"ml", "store"},
		Calls:     []string{"ml", "store"},
		Networks:  []string{"main", "private"},
		Env:       map[string]string{"B": "2", "A": "1"},
		Mounts: []stacks.Mount{{
			Kind:   stacks.MountTmpfs,
			Target: "/tmp",
			Size:   16 * stacks.MiB,
			Exec:   true,
		},
			{Kind: stacks.MountTmpfs, Target: "/cache", Size: 8 * stacks.MiB, ReadOnly: true}},
		Outside: []stacks.Outside{{Host: "redis.example.com", Port: 6379, Reason: "a name"},
			{Host: "10.1.2.3", Port: 5432, Reason: "an address"},
			{Host: "2001:db8::1", Port: 443, Reason: "an address of six"}},
	})

	web.Security.WritableRoot = "writes where it likes"
	ml := service("ml", stacks.Service{
		Image: stacks.Image{Build: &stacks.Build{
			Repository: "codexcontinue/ml",
			Context:    ".",
			Dockerfile: "services/ml/Dockerfile",
			Target:     "production",
			Args:       map[string]string{"GO_IMAGE": "golang:1.26"},
		}},
		Contract: &mlenv.Config{
			Common: contract.Common{
				Environment:  "lab",
				LogLevel:     "info",
				ListenAddr:   ":5000",
				DrainTimeout: 10 * time.Second,
			},
			OllamaURL:         "http://ollama:11434",
			DefaultModel:      "lab",
			ModelfilePath:     "/models/ollama/lab/Modelfile",
			ModelfileDigest:   model.Digest,
			ApplyModel:        true,
			MaxParallel:       2,
			MaxQueue:          4,
			GenerationTimeout: 5 * time.Second,
			KeepAlive:         time.Minute,
		},
		Ports:  []stacks.Port{{Name: "http", Container: 5000}},
		Health: stacks.Health{LivePath: "/health", ReadyPath: "/ready"},
		Mounts: []stacks.Mount{{
			Kind:     stacks.MountModel,
			Target:   "/models/ollama",
			ReadOnly: true,
		}},
		DependsOn: []string{"ollama"},
		Calls:     []string{"ollama"},
	})

	ollama := service("ollama", stacks.Service{
		Ports:     []stacks.Port{{Name: "ollama", Container: 11434}},
		Health:    stacks.Health{LivePath: "/", ReadyPath: "/api/version"},
		Replicas:  3,
		Resources: stacks.Resources{CPU: 4000, Memory: 8 * stacks.GiB},
		Env:       map[string]string{"HOME": "/ollama", "OLLAMA_MODELS": "/ollama/models"},
		Mounts: []stacks.Mount{{
			Kind:     stacks.MountVolume,
			Source:   "models",
			Target:   "/ollama",
			ReadOnly: true,
		},
			{Kind: stacks.MountTmpfs, Target: "/tmp", Size: 256 * stacks.MiB}},
		GPU: &stacks.GPU{
			Count:        1,
			Resource:     "nvidia.com/mig-1g.10gb",
			RuntimeClass: "nvidia",
			NodeSelector: map[string]string{"gpu": "h100"},
			Tolerations: []stacks.Toleration{
				{Key: "team", Value: "chat", Effect: "NoSchedule"}, {Key: "spot"},
			},
		},
		Outside: []stacks.Outside{{Port: 443, Reason: "downloads models"}},
	})

	store := service("store", stacks.Service{
		Ports:    []stacks.Port{{Name: "redis", Container: 6379}},
		Networks: []string{"private"},
		Mounts:   []stacks.Mount{{Kind: stacks.MountVolume, Source: "data", Target: "/data"}},
		Files: []stacks.File{{Path: "/etc/store/store.conf", Content: "bind *\n"},
			{
				Path:    "/etc/store/auth.conf",
				Content: "password #" + stacks.SecretHashToken + "\n",
				Secret:  "redis-password",
			},
			{Path: "/run/secrets/redis-password", Secret: "redis-password"}},
	})

	return stacks.Stack{
		Name:     "lab",
		Networks: []stacks.Network{{Name: "main"}, {Name: "private", Internal: true}},
		Volumes: []stacks.Volume{
			{Name: "data", Size: stacks.GiB, Class: "fast"},
			{Name: "models", Size: 10 * stacks.GiB, Shared: true},
		},
		Secrets:  []stacks.Secret{{Name: "redis-password", ConfigKey: stacks.RedisPasswordKey}},
		Services: []stacks.Service{edge, web, ml, ollama, store},
		Model: stacks.Model{
			Name:      "lab",
			Modelfile: "modelfiles/lab/Modelfile",
			Digest:    model.Digest,
		},
		Route: &stacks.Route{
			Host:    "chat.example.com",
			Gateway: &stacks.Gateway{Class: "envoy"},
			TLS:     &stacks.TLS{ClusterIssuer: "letsencrypt"},
		},
		Registry: "registry.example.com/team",
	}, root
}
