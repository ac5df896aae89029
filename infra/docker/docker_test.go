package docker_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// labRoot is a project's root in which the lab's stack can be planned.
func labRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	files := fstest.MapFS{
		"services/built/Dockerfile":              {Data: []byte("FROM scratch AS production\nCOPY probe /probe\n")},
		"services/built/Dockerfile.dockerignore": {Data: []byte("**\n!probe\n!src/**\n**/*_test.go\n")},
		"probe":                                  {Data: []byte("binary")},
		"src/deep/a.go":                          {Data: []byte("package a")},
	}
	if err := os.CopyFS(root, files); err != nil {
		t.Fatal(err)
	}
	return root
}

// change applies f to the named service of the lab's stack.
func change(name string, f func(*stacks.Service)) func(*stacks.Stack) {
	return func(s *stacks.Stack) {
		for i := range s.Services {
			if s.Services[i].Name == name {
				f(&s.Services[i])
			}
		}
	}
}

func TestWhatDockerCannotExpress(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*stacks.Stack)
		want   string
	}{
		"memory in bytes":   {change("store", func(s *stacks.Service) { s.Resources.Memory++ }), "services.store.resources.memory: 67108865 bytes is not a whole number of MiB"},
		"memory of zero":    {change("store", func(s *stacks.Service) { s.Resources.Memory = 0 }), "services.store.resources.memory: "},
		"too little CPU":    {change("store", func(s *stacks.Service) { s.Resources.CPU = 9 }), "services.store.resources.cpu: 9m is less than the kernel can limit to: use 10m or more"},
		"shared host port":  {change("web", func(s *stacks.Service) { s.Replicas = 2 }), "services.web.replicas: 2 containers cannot share the host port 8080"},
		"internal port":     {func(s *stacks.Stack) { s.Networks[0].Internal = true }, "services.web.ports: the host port 8080 cannot be published: the service is on internal networks only"},
		"no health check":   {change("web", func(s *stacks.Service) { s.Health.Command = nil }), "services.web.health.command: is empty"},
		"unknown network":   {change("web", func(s *stacks.Service) { s.Networks = []string{"dmz"} }), `services.web.networks: there is no network "dmz"`},
		"unknown volume":    {change("store", func(s *stacks.Service) { s.Mounts[0].Source = "gone" }), `services.store.mounts./data: there is no volume "gone"`},
		"bind outside":      {change("web", func(s *stacks.Service) { s.Mounts[0].Source = "../etc" }), `services.web.mounts./services: "../etc" is not below the project's root`},
		"unknown mount":     {change("web", func(s *stacks.Service) { s.Mounts[0].Kind = "nfs" }), `services.web.mounts./services: docker knows no mount of kind "nfs"`},
		"both GPU requests": {change("web", func(s *stacks.Service) { s.GPU = &stacks.GPU{Count: 1, Devices: []string{"0"}} }), "services.web.gpu: set count or devices, not both"},
		"empty GPU request": {change("web", func(s *stacks.Service) { s.GPU = &stacks.GPU{} }), "services.web.gpu: asks for no device"},
		"invalid contract":  {change("web", func(s *stacks.Service) { s.Contract = &frontendenv.Config{} }), "services.web.contract: LOG_LEVEL"},
		"variable twice": {change("web", func(s *stacks.Service) {
			s.Env, s.GPU = map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}, &stacks.GPU{Count: 1}
		}), "services.web.env.NVIDIA_VISIBLE_DEVICES: is set twice"},
		"missing Dockerfile": {change("built", func(s *stacks.Service) { s.Image.Build.Dockerfile = "services/gone/Dockerfile" }), "services.built.image.build.dockerfile: open services/gone/Dockerfile"},
		"registry":           {func(s *stacks.Stack) { s.Registry = "registry.example.com" }, "registry: the docker target cannot express it"},
		"route":              {func(s *stacks.Stack) { s.Route = &stacks.Route{Host: "a.example"} }, "route.host: the docker target cannot express it"},
		"storage class":      {func(s *stacks.Stack) { s.Volumes[0].Class = "fast" }, ".class: the docker target cannot express it"},
		"shared volume":      {func(s *stacks.Stack) { s.Volumes[0].Shared = true }, ".shared: the docker target cannot express it"},
		"volume per replica": {func(s *stacks.Stack) {
			s.Volumes[0].PerReplica = true
			s.Services[0].Replicas = 2
			s.Service("store").Replicas = 2
		}, "services.store.replicas: the docker target cannot express it"},
		"autoscale": {change("web", func(s *stacks.Service) { s.Autoscale = &stacks.Autoscale{Min: 1, Max: 2} }), "services.web.autoscale: the docker target cannot express it"},
		"GPU slice": {change("web", func(s *stacks.Service) { s.GPU = &stacks.GPU{Count: 1, Resource: "nvidia.com/mig-1g.10gb"} }), "services.web.gpu.resource: the docker target cannot express it"},
		"GPU node": {change("web", func(s *stacks.Service) {
			s.GPU = &stacks.GPU{Count: 1, NodeSelector: map[string]string{"a": "b"}, Tolerations: []stacks.Toleration{{Key: "a"}}, RuntimeClass: "nvidia"}
		}), "services.web.gpu.nodeSelector: the docker target cannot express it"},
		"no way out": {func(s *stacks.Stack) {
			for i := range s.Networks {
				s.Networks[i].Internal = true
			}
			s.Service("store").Outside = []stacks.Outside{{Port: 443, Reason: "updates"}}
		}, "services.store.outside: the docker target cannot express it"},
		"circle":             {change("store", func(s *stacks.Service) { s.DependsOn = []string{"web"} }), "dependsOn: the services wait for each other in a circle"},
		"unknown dependency": {change("store", func(s *stacks.Service) { s.DependsOn = []string{"gone"} }), `services.store.dependsOn: there is no service "gone"`},
		"secret not set":     {func(s *stacks.Stack) { s.Secrets[0].ConfigKey = "otherPassword" }, "secrets.redis-password: the config has no codexcontinue:otherPassword: set it with `pulumi config set --secret"},
		"unknown secret":     {change("store", func(s *stacks.Service) { s.Files[0].Secret = "gone" }), `services.store: files./run/secrets/redis-password: there is no secret "gone"`},
	} {
		t.Run(name, func(t *testing.T) {
			stack := labStack("lab", "probe:1", 8080)
			tc.change(&stack)
			_, _, err := record(stack, labRoot(t))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	stack := labStack("lab", "probe:1", 8080)
	change("web", func(s *stacks.Service) { s.Resources.Memory, s.Resources.CPU = 1, 0 })(&stack)
	change("store", func(s *stacks.Service) { s.GPU = &stacks.GPU{} })(&stack)
	_, _, err := record(stack, labRoot(t))
	for _, want := range []string{"services.web.resources.memory", "services.web.resources.cpu", "services.store.gpu"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestGPU(t *testing.T) {
	const devices, capabilities = "NVIDIA_VISIBLE_DEVICES=", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
	for name, tc := range map[string]struct {
		gpu           *stacks.GPU
		gpus, runtime any
		env           []any
	}{
		"none":    {nil, nil, nil, []any{}},
		"all":     {&stacks.GPU{Count: stacks.AllGPUs}, "all", nil, []any{}},
		"count":   {&stacks.GPU{Count: 2}, nil, "nvidia", []any{capabilities, devices + "0,1"}},
		"devices": {&stacks.GPU{Devices: []string{"GPU-1b2c", "3"}}, nil, "nvidia", []any{capabilities, devices + "GPU-1b2c,3"}},
	} {
		t.Run(name, func(t *testing.T) {
			stack := labStack("lab", "probe:1", 8080)
			change("web", func(s *stacks.Service) { s.GPU = tc.gpu })(&stack)
			in := containersOf(mustRecord(t, stack, labRoot(t)))["web"][0].Inputs
			env, _ := in["envs"].([]any)
			if in["gpus"] != tc.gpus || in["runtime"] != tc.runtime || cmp.Diff(tc.env, env) != "" {
				t.Errorf("got gpus %v, runtime %v, environment %v", in["gpus"], in["runtime"], env)
			}
		})
	}
}

func TestBuildDigest(t *testing.T) {
	tag := func(root string) string {
		stack := labStack("lab", "probe:1", 8080)
		image, _ := containersOf(mustRecord(t, stack, root))["built"][0].Inputs["image"].(string)
		return image
	}
	first := tag(labRoot(t))
	if !strings.HasPrefix(first, "codexcontinue-lab-built:") || len(first) != len("codexcontinue-lab-built:")+12 {
		t.Errorf("the image is %q", first)
	}
	for name, tc := range map[string]struct {
		edit  func(root string) error
		moves bool
	}{
		"nothing":         {func(string) error { return nil }, false},
		"a file":          {func(r string) error { return os.WriteFile(r+"/src/deep/a.go", []byte("package b"), 0o644) }, true},
		"a new file":      {func(r string) error { return os.WriteFile(r+"/src/b.go", nil, 0o644) }, true},
		"a renamed file":  {func(r string) error { return os.Rename(r+"/src/deep/a.go", r+"/src/deep/b.go") }, true},
		"the executable":  {func(r string) error { return os.Chmod(r+"/probe", 0o755) }, true},
		"the umask":       {func(r string) error { return os.Chmod(r+"/probe", 0o600) }, false},
		"a test":          {func(r string) error { return os.WriteFile(r+"/src/a_test.go", nil, 0o644) }, false},
		"an ignored file": {func(r string) error { return os.WriteFile(r+"/notes.txt", nil, 0o644) }, false},
		"a link":          {func(r string) error { return os.Symlink("deep", r+"/src/link") }, true},
		"the Dockerfile": {func(r string) error {
			return os.WriteFile(r+"/services/built/Dockerfile", []byte("FROM scratch\n"), 0o644)
		}, true},
		"the patterns": {func(r string) error {
			return os.WriteFile(r+"/services/built/Dockerfile.dockerignore", []byte("**\n!src/**\n"), 0o644)
		}, true},
		"an unread ignored": {func(r string) error { return os.MkdirAll(r+"/.state/x", 0o000) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := labRoot(t)
			if err := tc.edit(root); err != nil {
				t.Fatal(err)
			}
			if moved := tag(root) != first; moved != tc.moves {
				t.Errorf("the tag changed: %v, want %v", moved, tc.moves)
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	_, out, err := record(labStack("lab", "probe:1", 8080), labRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string][]string{"web": {"http://127.0.0.1:8080"}}, out.URLs); d != "" {
		t.Errorf("URLs (-want +got):\n%s", d)
	}
	if got := out.Images["store"]; got != "probe:1" {
		t.Errorf("the image of store is %q", got)
	}
	if len(out.Containers) != 3 || len(out.ImageIDs) != 3 {
		t.Errorf("got containers of %d and image IDs of %d services, want 3", len(out.Containers), len(out.ImageIDs))
	}
}
