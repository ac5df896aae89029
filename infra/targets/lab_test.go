package targets_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// both are the targets.
var both = []stacks.Target{stacks.Docker, stacks.Kubernetes}

// labRoot returns a project's root in which the lab's stack can be planned.
func labRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	files := fstest.MapFS{
		"services/ml/Dockerfile": {Data: []byte("FROM scratch AS production\n" +
			"COPY ml /ml\n")},
		"services/ml/Dockerfile.dockerignore": {Data: []byte("**\n!ml\n")},
		"services/ml/Other": {Data: []byte("FROM scratch AS production\n" +
			"COPY ml /other\n")},
		"services/ml/Other.dockerignore": {Data: []byte("**\n!ml\n")},
		"services/ml/ml":                 {Data: []byte("another binary")},
		"ml":                             {Data: []byte("binary")},
		"modelfiles/lab/Modelfile":       {Data: []byte("FROM ./base.gguf\nADAPTER ./lora.gguf\n")},
		"modelfiles/lab/base.gguf":       {Data: []byte("base\xff")},
		"modelfiles/lab/lora.gguf":       {Data: []byte("weights\xff")},
		"modelfiles/lab/evals.yaml":      {Data: []byte("cases: [{name: a, prompt: b, must: [c]}]\n")},
		"modelfiles/lab2/Modelfile":      {Data: []byte("FROM llama3\n")},
		"other/file":                     {Data: []byte("other")},
	}

	if err := os.CopyFS(root, files); err != nil {
		t.Fatal(err)
	}

	return root
}

// labStack uses every part of the model that both targets can express.
func labStack(t *testing.T, root string) stacks.Stack {
	t.Helper()
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

		s.Replicas = 1
		s.Resources = stacks.Resources{CPU: 500, Memory: 512 * stacks.MiB, PIDs: 64}
		s.Security.UID, s.Security.GID = 65532, 65533
		s.Health.Command = []string{"/probe", "healthcheck"}
		if s.Health.LivePath != "" {
			s.Health.Command = []string{"/probe",
				fmt.Sprintf("http://127.0.0.1:%d%s", s.Ports[0].Container, s.Health.LivePath)}
		}

		s.Health.Interval, s.Health.Timeout = 2*time.Second, 3*time.Second
		s.Health.StartPeriod, s.Health.Retries = 40*time.Second, 4
		s.StopGrace, s.StartTimeout = 20*time.Second, time.Minute
		s.Log = stacks.Log{MaxSize: 10 * stacks.MiB, MaxFiles: 3}
		return s
	}

	edge := service(stacks.Edge, stacks.Service{
		Ports: []stacks.Port{{
			Name:      "http",
			Container: 8080,
			Host:      9090,
			Address:   "127.0.0.1",
		}},
		Health:     stacks.Health{LivePath: "/live", ReadyPath: "/ready"},
		DependsOn:  []string{"web"},
		Calls:      []string{"web"},
		Entrypoint: []string{"/probe"},
		Command:    []string{"serve"},
		Env:        map[string]string{"WEB": "http://web:8000"},
	})

	edge.Security.KeepCapabilities = map[string]string{"NET_BIND_SERVICE": "the binary carries it"}
	web := service("web", stacks.Service{
		Ports: []stacks.Port{
			{Name: "http", Container: 8000}, {Name: "metrics", Container: 9000},
		},
		Health:    stacks.Health{LivePath: "/live"},
		DependsOn: []string{"ml", "store"},
		Calls: []string{"ml",
			"store"},
		Networks: []string{"main", "private"},
		Env:      map[string]string{"ML": "http://ml:5000", "STORE": "redis://store:6379/0"},
		Mounts: []stacks.Mount{{
			Kind:   stacks.MountTmpfs,
			Target: "/tmp",
			Size:   16 * stacks.MiB,
			Exec:   true,
		},
			{Kind: stacks.MountTmpfs, Target: "/cache", Size: 8 * stacks.MiB}},
		Outside: []stacks.Outside{{Host: "10.1.2.3", Port: 5432, Reason: "an address"}},
	})

	web.Replicas = 2
	web.Security.WritableRoot = "writes where it likes"
	ml := service("ml", stacks.Service{
		Image: stacks.Image{Build: &stacks.Build{Repository: "codexcontinue/ml", Context: ".",
			Dockerfile: "services/ml/Dockerfile", Target: "production",
			Args: map[string]string{"GO_IMAGE": "golang:1.26"}}},
		Contract: &mlenv.Config{
			Common: contract.Common{Environment: "lab", LogLevel: "info",
				ListenAddr: ":5000", DrainTimeout: 10 * time.Second},
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
		Mounts: []stacks.Mount{{Kind: stacks.MountModel, Target: "/models/ollama",
			ReadOnly: true}},
		DependsOn: []string{"ollama"}, Calls: []string{"ollama"},
	})

	ollama := service("ollama", stacks.Service{
		Ports:   []stacks.Port{{Name: "ollama", Container: 11434}},
		Health:  stacks.Health{LivePath: "/", ReadyPath: "/api/version"},
		Mounts:  []stacks.Mount{{Kind: stacks.MountVolume, Source: "models", Target: "/ollama"}},
		Outside: []stacks.Outside{{Port: 443, Reason: "downloads models"}},
	})

	store := service("store", stacks.Service{
		Ports: []stacks.Port{{Name: "redis", Container: 6379}}, Networks: []string{"private"},
		Mounts: []stacks.Mount{{Kind: stacks.MountVolume, Source: "data", Target: "/data"}},
		Files: []stacks.File{{Path: "/etc/store/store.conf", Content: "bind *\n"},
			{Path: "/run/secrets/auth.conf", Content: "password #" + stacks.SecretHashToken + "\n",
				Secret: "redis-password"}},
	})

	return stacks.Stack{
		Name:     "lab",
		Networks: []stacks.Network{{Name: "main"}, {Name: "private", Internal: true}},
		Volumes: []stacks.Volume{{Name: "data", Size: stacks.GiB},
			{Name: "models", Size: 10 * stacks.GiB, PerReplica: true}},
		Secrets:  []stacks.Secret{{Name: "redis-password", ConfigKey: stacks.RedisPasswordKey}},
		Services: []stacks.Service{edge, web, ml, ollama, store},
		Model: stacks.Model{
			Name:      "lab",
			Modelfile: "modelfiles/lab/Modelfile",
			Digest:    model.Digest,
		},
	}
}

// recordedPassword is the secret of the recorded stacks.
const recordedPassword = secret.Placeholder + "hunter2"

// unset is a secret that nobody has set.
const unset = "redisOther"

// config returns that of a recorded stack: its secrets.
func config(stack stacks.Stack) (values map[string]string, secrets []string) {
	values = map[string]string{}
	for _, key := range stack.SecretKeys() {
		if key == unset {
			continue
		}

		key = "codexcontinue:" + key
		values[key] = recordedPassword
		secrets = append(secrets, key)
	}

	return values, secrets
}

// program provisions the stack on the target.
func program(stack stacks.Stack, target stacks.Target, root string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		if target == stacks.Kubernetes {
			rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: root})
			if err != nil {
				return err
			}
			_, err = kubernetes.Provision(ctx, rendered)
			return err
		}

		r, err := docker.Render(os.DirFS(root), stack)
		if err == nil {
			_, err = docker.Provision(ctx, r, root)
		}

		return err
	}
}

// record returns the plan of the stack on the target.
func record(stack stacks.Stack, target stacks.Target, root string) ([]plan.Resource, error) {
	values, secrets := config(stack)
	return recorder.Record(context.Background(), recorder.Stack{Project: stacks.Project, Name: stack.Name,
		Config: values, Secrets: secrets}, program(stack, target, root))
}

func mustRecord(
	t *testing.T, stack stacks.Stack, target stacks.Target, root string,
) []plan.Resource {
	t.Helper()
	resources, err := record(stack, target, root)
	if err != nil {
		t.Fatalf("%s on %s: %v", stack.Name, target, err)
	}
	return resources
}
