package stacks_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

func TestExternalRedis(t *testing.T) {
	v := withPassword()
	v.Redis = &stacks.RedisSettings{
		URL:       "rediss://redis.example.com:6380/2",
		Sentinels: []string{"10.0.0.1:26379"},
		Master:    "main",
	}

	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Service(stacks.Redis) != nil {
		t.Error("the stack's own Redis is still there")
	}

	for _, volume := range s.Volumes {
		if volume.Name == stacks.RedisData {
			t.Error("the volume of the stack's own Redis is still there")
		}
	}

	b := s.Service(stacks.Backend)
	want := []stacks.Outside{{
		Host:   "10.0.0.1",
		Port:   26379,
		Reason: "the Redis that keeps the conversations",
	},
		{Port: 6380, Reason: "the Redis master that the Sentinels name"}}

	if d := cmp.Diff(want, b.Outside); d != "" {
		t.Errorf("outside (-want +got):\n%s", d)
	}

	c := b.Contract.(*backendenv.Config)
	if c.RedisURL != v.Redis.URL || c.RedisMaster != "main" || len(c.RedisSentinels) != 1 ||
		c.RedisPasswordFile == "" {
		t.Errorf("backend gets %+v", c)
	}

	ml := s.Service(stacks.ML)
	if d := cmp.Diff(want, ml.Outside); d != "" {
		t.Errorf("ml: outside (-want +got):\n%s", d)
	}

	if m := ml.Contract.(*mlenv.Config); m.RedisURL != c.RedisURL || m.RedisMaster != "main" ||
		len(m.RedisSentinels) != 1 || m.RedisPasswordFile != c.RedisPasswordFile {
		t.Errorf("ml gets %+v", m)
	}
}

func TestExternalRedisCluster(t *testing.T) {
	v := withPassword()
	v.Redis = &stacks.RedisSettings{
		URL:     "rediss://redis.example.com:6379",
		Cluster: []string{"10.0.0.1:6379", "10.0.0.2:6379"},
		CA:      "the PEM",
	}

	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	b := s.Service(stacks.Backend)
	any := stacks.Outside{Port: 6379, Reason: "the nodes that a Redis Cluster names"}
	if len(b.Outside) != 3 || b.Outside[2] != any {
		t.Errorf("outside: %+v", b.Outside)
	}

	ml := s.Service(stacks.ML)
	c, m := b.Contract.(*backendenv.Config), ml.Contract.(*mlenv.Config)
	if m.RedisCAFile != c.RedisCAFile || len(m.RedisCluster) != 2 || len(ml.Outside) != 3 {
		t.Errorf("ml gets %+v and reaches %+v", m, ml.Outside)
	}

	for _, svc := range []*stacks.Service{b, ml} {
		ca := stacks.File{Path: b.Contract.(*backendenv.Config).RedisCAFile, Content: "the PEM"}
		if !slices.Contains(svc.Files, ca) {
			t.Errorf("%s has no file %q", svc.Name, ca.Path)
		}
	}
}

// TestParallel: Ollama has as many slots as ml sends it answers to write, two unless the
// settings say otherwise.
func TestParallel(t *testing.T) {
	for _, name := range stacks.Overlays() {
		for _, target := range []stacks.Target{stacks.Docker, stacks.Kubernetes} {
			for set, want := range map[int]int{0: 2, 8: 8} {
				v := withPassword()
				v.Target, v.Model.Parallel = target, set
				s := load(t, name, v)
				slots := s.Service(stacks.Ollama).Env["OLLAMA_NUM_PARALLEL"]
				sent := s.Service(stacks.ML).Contract.(*mlenv.Config).MaxParallel
				if slots != strconv.Itoa(want) || sent != want {
					t.Errorf("%s on %s with %d: Ollama has %s slots, ml sends %d",
						name, target, set, slots, sent)
				}
			}
		}
	}
}

func TestSharedVolume(t *testing.T) {
	v, yes, four := withPassword(), true, 4
	v.Target = stacks.Kubernetes
	v.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {
		Size:   stacks.GiB,
		Class:  "nfs",
		Shared: &yes,
	}}

	v.Services = map[string]stacks.ServiceSettings{stacks.Ollama: {Replicas: &four}}
	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	for _, m := range s.Service(stacks.Ollama).Mounts {
		if m.Source == stacks.OllamaData && !m.ReadOnly {
			t.Error("a replica can write to the shared volume")
		}
	}

	if home := s.Service(stacks.Ollama).Env["HOME"]; home != "/tmp" {
		t.Errorf("the home of Ollama is %s, which it cannot write to", home)
	}

	v.Volumes = map[string]stacks.VolumeSettings{stacks.RedisData: {Shared: &yes}, "models": {}}
	_, err := stacks.Load("prod", v, checkout())
	for _, want := range []string{
		"codexcontinue:volumes.redis-data.shared: the volume's data belong to one container",
		"codexcontinue:volumes.models: this stack has no such volume (it has redis-data, ollama-data)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to hold %q", err, want)
		}
	}
}

// TestDevOnACluster has what containers that cannot see the checkout can do: production
// images with debug logs.
func TestDevOnACluster(t *testing.T) {
	s := load(t, "dev", stacks.Settings{Target: stacks.Kubernetes})
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	for _, svc := range s.Services {
		if svc.Image.Build != nil && svc.Image.Build.Target != "production" {
			t.Errorf("%s runs the stage %s", svc.Name, svc.Image.Build.Target)
		}

		for _, m := range svc.Mounts {
			if m.Source == "." {
				t.Errorf("%s mounts the checkout", svc.Name)
			}
		}
	}

	if !s.Service(stacks.Backend).Contract.(*backendenv.Config).Debug {
		t.Error("no debug logs")
	}
}

func TestPIDsOnACluster(t *testing.T) {
	v := stacks.Settings{
		Target:   stacks.Kubernetes,
		Services: map[string]stacks.ServiceSettings{stacks.ML: {PIDs: 100}},
	}

	_, err := stacks.Load("dev", v, checkout())
	if err == nil || !strings.Contains(err.Error(),
		"codexcontinue:services.ml.pids: the kubernetes target cannot express it") {
		t.Errorf("got %v", err)
	}
}

// TestVolumeSize: storage is reserved where the target does that; where it does not,
// asking for it is an error.
func TestVolumeSize(t *testing.T) {
	v := withPassword()
	v.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Size: 80 * stacks.GiB}}
	v.Target = stacks.Kubernetes
	for _, volume := range load(t, "prod", v).Volumes {
		if volume.Name == stacks.OllamaData && volume.Size != 80*stacks.GiB {
			t.Errorf("the volume is of %d bytes", volume.Size)
		}
	}

	v.Target = stacks.Docker
	_, err := stacks.Load("prod", v, checkout())
	if err == nil || !strings.Contains(err.Error(),
		"codexcontinue:volumes.ollama-data.size: the docker target cannot express it: ") {
		t.Errorf("got %v", err)
	}
}

// TestCacheOnACluster: the cache, which only the commands in a development container have there,
// may be of a class, and no other stack has it.
func TestCacheOnACluster(t *testing.T) {
	v := stacks.Settings{
		Target:  stacks.Kubernetes,
		Volumes: map[string]stacks.VolumeSettings{stacks.GoCache: {Class: "fast"}},
	}
	s := load(t, "dev", v)
	if volume, ok := s.Volume(stacks.GoCache); ok {
		t.Errorf("the stack itself has %+v", volume)
	}

	s, err := stacks.Load("dev", v, stacks.Checkout{FS: os.DirFS(".."), Mountable: true})
	if volume, _ := s.Volume(stacks.GoCache); err != nil || volume.Class != "fast" {
		t.Errorf("got %+v, %v", volume, err)
	}

	v.Secrets = withPassword().Secrets
	_, err = stacks.Load("prod", v, checkout())
	if err == nil || !strings.Contains(err.Error(), "volumes.go-cache: this stack has no such") {
		t.Errorf("a stack without development containers: %v", err)
	}
}

// TestFsync holds that the stack's own Redis acknowledges only what is on the disk, where the
// settings ask for that.
func TestFsync(t *testing.T) {
	for when, want := range map[string]string{"": "everysec", "everysec": "everysec", "always": "always"} {
		v := withPassword()
		if when != "" {
			v.Redis = &stacks.RedisSettings{Fsync: when}
		}

		s := load(t, "prod", v)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}

		r := s.Service(stacks.Redis)
		if r == nil || !strings.Contains(r.Files[0].Content, "\nappendfsync "+want+"\n") {
			t.Errorf("with %q redis.conf does not say %q:\n%+v", when, want, r)
		}
	}
}
