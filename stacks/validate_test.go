package stacks_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*stacks.Stack)
		want   string
	}{
		"stack name": {func(s *stacks.Stack) {
			s.Name = "Prod_1"
		}, `name: "Prod_1" is no DNS label`},
		"replicas": {func(s *stacks.Stack) {
			s.Service("backend").Replicas = -1
		}, "services.backend.replicas: must be 1 or more, got -1"},
		"no image": {func(s *stacks.Stack) {
			s.Service("redis").Image = stacks.Image{}
		}, "services.redis.image: set a reference or a build"},
		"latest": {func(s *stacks.Stack) {
			s.Service("redis").Image.Ref = "redis:latest"
		}, `services.redis.image.ref: "redis:latest" is not pinned`},
		"no tag": {func(s *stacks.Stack) {
			s.Service("redis").Image.Ref = "redis"
		}, `services.redis.image.ref: "redis" is not pinned`},
		"root": {func(s *stacks.Stack) {
			s.Service("ml").Security.UID = 0
		}, "services.ml.security: must run as a user and a group other than root, got 0:65532"},
		"capability": {func(s *stacks.Stack) {
			s.Service("ml").Security.KeepCapabilities = map[string]string{"SYS_ADMIN": ""}
		}, "services.ml.security.keepCapabilities.SYS_ADMIN: needs its reason"},
		"no memory": {func(s *stacks.Stack) {
			s.Service("ml").Resources.Memory = 0
		}, "services.ml.resources.memory: must be 6Mi or more"},
		"no cpu": {func(s *stacks.Stack) {
			s.Service("ml").Resources.CPU = 0
		}, "services.ml.resources.cpu: must be 10m or more"},
		"no pids": {func(s *stacks.Stack) {
			s.Service("ml").Resources.PIDs = 0
		}, "services.ml.resources.pids: must be 1 or more"},
		"no health": {func(s *stacks.Stack) {
			s.Service("ml").Health.Command = nil
		}, "services.ml.health: needs a command"},
		"unknown network": {func(s *stacks.Stack) {
			s.Service("ml").Networks = []string{"dmz"}
		}, `services.ml.networks: there is no network "dmz"`},
		"no network": {func(s *stacks.Stack) {
			s.Service("ml").Networks = nil
		}, "services.ml.networks: is empty"},
		"unknown dependency": {func(s *stacks.Stack) {
			s.Service("ml").DependsOn = []string{"Gone"}
		}, `services.ml.dependsOn: there is no service "Gone"`},
		"circle": {func(s *stacks.Stack) {
			s.Service("ollama").DependsOn = []string{"backend"}
		}, "in a circle: "},
		"unknown volume": {func(s *stacks.Stack) {
			s.Volumes = s.Volumes[1:]
		}, `services.redis.mounts./data: there is no volume "redis-data"`},
		"bind outside": {func(s *stacks.Stack) {
			s.Service("ml").Mounts[0] = stacks.Mount{
				Kind: stacks.MountBind, Source: "../etc", Target: "/src", ReadOnly: true,
			}
		}, `services.ml.mounts./src: "../etc" must be a path inside the repository`},
		"source of the model": {func(s *stacks.Stack) {
			s.Service("ml").Mounts[0].Source = "modelfiles"
		}, `services.ml.mounts./models/ollama: the files of the model have no source`},
		"big tmpfs": {func(s *stacks.Stack) {
			s.Service("edge").Mounts[0].Size = stacks.GiB
		}, "services.edge.mounts./tmp: a tmpfs counts against the memory"},
		"mount twice": {func(s *stacks.Stack) {
			m := &s.Service("edge").Mounts
			*m = append(*m, (*m)[0])
		}, "services.edge.mounts./tmp: is there twice"},
		"file in mount": {func(s *stacks.Stack) {
			s.Service("redis").Files[0].Path = "/data/redis.conf"
		}, "services.redis.files./data/redis.conf: its directory holds the mount /data"},
		"unknown secret": {func(s *stacks.Stack) {
			s.Secrets = nil
		}, `services.backend.files./run/secrets/redis-password: there is no secret "redis-password"`},
		"token only": {func(s *stacks.Stack) {
			s.Service("redis").Files[1].Secret = ""
		}, "holds a token of a secret and names no secret"},
		"port twice": {func(s *stacks.Stack) {
			s.Service("ml").Ports[0].Host = 8080
		}, "services.ml.ports.http.host: 8080 is edge's already"},
		"port range": {func(s *stacks.Stack) {
			s.Service("edge").Ports[0].Host = 70000
		}, "services.edge.ports.http.host: must be from 1 to 65535, got 70000"},
		"address": {func(s *stacks.Stack) {
			s.Service("edge").Ports[0].Address = "everywhere"
		}, `services.edge.ports.http.address: "everywhere" is no IP address`},
		"grace": {func(s *stacks.Stack) {
			s.Service("ml").StopGrace = 1
		}, "services.ml.stopGrace: 1ns must be longer than the drain timeout"},
		"gpu": {func(s *stacks.Stack) {
			s.Service("ollama").GPU = &stacks.GPU{}
		}, "services.ollama.gpu: set either count or devices"},
		"log": {func(s *stacks.Stack) {
			s.Service("ml").Log = stacks.Log{}
		}, "services.ml.log: must be bounded"},
		"redis url": {func(s *stacks.Stack) {
			s.Service("backend").Contract.(*backendenv.Config).RedisURL = "http://redis"
		}, `services.backend.contract: REDIS_URL: scheme "http" is none of redis, rediss`},
		"tokenless secret": {func(s *stacks.Stack) {
			s.Service("redis").Files[1].Content = "x"
		}, `services.redis.files./run/secrets/redis-auth.conf: names the secret ` +
			`"redis-password" and has no place for it`},
		"empty file": {func(s *stacks.Stack) {
			s.Service("edge").Files[0].Content = ""
		}, "services.edge.files./etc/caddy/Caddyfile: is empty"},
		"file twice": {func(s *stacks.Stack) {
			r := s.Service("redis")
			r.Files = append(r.Files, r.Files[0])
		}, "services.redis.files./etc/redis/redis.conf: is there twice"},
		"file in the root": {func(s *stacks.Stack) {
			s.Service("edge").Files[0].Path = "/Caddyfile"
		}, "services.edge.files./Caddyfile: must be a clean absolute path in a directory of its own"},
		"relative mount": {func(s *stacks.Stack) {
			s.Service("redis").Mounts[0].Target = "data/"
		}, "services.redis.mounts.data/: the target must be a clean absolute path"},
		"mount kind": {func(s *stacks.Stack) {
			s.Service("redis").Mounts[0].Kind = "nfs"
		}, `services.redis.mounts./data: unknown kind "nfs"`},
		"writable repository": {func(s *stacks.Stack) {
			s.Service("ml").Mounts[0] = stacks.Mount{
				Kind: stacks.MountBind, Source: ".", Target: "/src",
			}
		}, "services.ml.mounts./src: must be read-only"},
		"writable model": {func(s *stacks.Stack) {
			s.Service("ml").Mounts[0].ReadOnly = false
		}, "services.ml.mounts./models/ollama: must be read-only"},
		"tmpfs source": {func(s *stacks.Stack) {
			s.Service("edge").Mounts[0].Source = "x"
		}, "services.edge.mounts./tmp: a tmpfs has no source"},
		"two writers": {func(s *stacks.Stack) {
			s.Service("redis").Replicas = 2
		}, "services.redis.replicas: 2 containers cannot write to the volume redis-data"},
		"published backend": {func(s *stacks.Stack) {
			s.Service("redis").Ports[0].Host = 6379
		}, "services.redis.ports.redis.host: only the edge publishes a port outside development"},
		"beyond the machine": {func(s *stacks.Stack) {
			s.Development, s.Service("redis").Ports[0].Host, s.Service("redis").Ports[0].Address = true, 6379, "0.0.0.0"
		}, "services.redis.ports.redis.address: only the edge is published beyond the machine, got 0.0.0.0"},
		"same container port": {func(s *stacks.Stack) {
			e := s.Service("edge")
			e.Ports = append(e.Ports, stacks.Port{Name: "more", Container: 8080})
		}, "services.edge.ports.more.container: 8080 is there twice"},
		"port name": {func(s *stacks.Stack) {
			s.Service("edge").Ports[0].Name = ""
		}, `services.edge.ports: "" is no name`},
		"every capability": {func(s *stacks.Stack) {
			s.Service("ml").Security.KeepCapabilities = map[string]string{"ALL": "easy"}
		}, "services.ml.security.keepCapabilities.ALL: is no single capability"},
		"ready path": {func(s *stacks.Stack) {
			s.Service("ml").Health.ReadyPath = "ready"
		}, `services.ml.health.readyPath: "ready" must be a path`},
		"build outside": {func(s *stacks.Stack) {
			s.Service("ml").Image.Build.Context = "/"
		}, `services.ml.image.build.context: "/" must be a path inside the repository`},
		"build and reference": {func(s *stacks.Stack) {
			s.Service("ml").Image.Ref = "x:1"
		}, "services.ml.image: set a reference or a build, not both"},
		"build target": {func(s *stacks.Stack) {
			s.Service("ml").Image.Build.Target = ""
		}, "services.ml.image.build: repository and target are both needed"},
		"depends twice": {func(s *stacks.Stack) {
			s.Service("ml").DependsOn = []string{"redis", "redis"}
		}, `services.ml.dependsOn: "redis" is there twice`},
		"network twice": {func(s *stacks.Stack) {
			s.Service("ml").Networks = []string{"codexcontinue-network", "codexcontinue-network"}
		}, `services.ml.networks: "codexcontinue-network" is there twice`},
		"variable": {func(s *stacks.Stack) {
			s.Service("ollama").Env["ollama debug"] = "1"
		}, "services.ollama.env.ollama debug: is no name of a variable"},
		"two of a name": {func(s *stacks.Stack) {
			s.Service("backend").Env = map[string]string{"REDIS_URL": "x"}
		}, "services.backend.env.REDIS_URL: is the contract's"},
		"start timeout": {func(s *stacks.Stack) {
			s.Service("edge").StartTimeout = 0
		}, "services.edge.startTimeout: must be positive"},
		"no grace": {func(s *stacks.Stack) {
			s.Service("edge").StopGrace = 0
		}, "services.edge.stopGrace: must be positive"},
		"secret key": {func(s *stacks.Stack) {
			s.Secrets[0].ConfigKey = "password"
		}, `secrets.redis-password.configKey: "password" is no secret key of the config ` +
			`(valid: redisPassword, oidcClientSecret, tlsKey, internalAuthority, ` +
			`backupSecretKey)`},
		"volume size": {func(s *stacks.Stack) {
			s.Volumes[0].Size = 0
		}, "volumes.redis-data.size: must be positive"},
		"model name": {func(s *stacks.Stack) {
			s.Model.Name = "m:latest"
		}, `model.name: "m:latest" is no name`},
		"model undigested": {func(s *stacks.Stack) {
			s.Model.Digest = ""
		}, "model.digest: is empty"},
		"no services": {func(s *stacks.Stack) { s.Services = nil }, "services: the stack has none"},
		"short drain": {func(s *stacks.Stack) {
			s.Service("ml").Contract.(*mlenv.Config).DrainTimeout = time.Minute
		}, "services.ml.contract: DRAIN_TIMEOUT: 1m0s must not be shorter than the generation timeout of 10m0s"},
		"service twice": {func(s *stacks.Stack) {
			s.Services = append(s.Services, s.Services[0])
		}, "services.edge: is there twice"},
		"call of nobody": {func(s *stacks.Stack) {
			s.Service("ml").Calls = []string{"Nobody"}
		}, `services.ml.calls: there is no service "Nobody"`},
		"call across networks": {func(s *stacks.Stack) {
			s.Networks = append(s.Networks, stacks.Network{Name: "other"})
			s.Service("redis").Networks = []string{"other"}
		}, "services.backend.calls: no network has both backend and redis"},
		"outside without reason": {func(s *stacks.Stack) {
			s.Service("ml").Outside = []stacks.Outside{{Port: 443}}
		}, "services.ml.outside: needs a port from 1 to 65535 and a reason"},
		"autoscale upside down": {func(s *stacks.Stack) {
			s.Service("backend").Autoscale = &stacks.Autoscale{Min: 3, Max: 2, CPU: 70}
		}, "services.backend.autoscale: needs 1 <= min <= max"},
		"writers, one each": {func(s *stacks.Stack) {
			s.Volumes[0].PerReplica, s.Service("redis").Replicas = true, 2
		}, "services.redis.replicas: 2 containers cannot write to the volume redis-data"},
		"autoscale of Redis": {func(s *stacks.Stack) {
			s.Service("redis").Autoscale = &stacks.Autoscale{Min: 1, Max: 2, CPU: 70}
		}, "services.redis.replicas: 2 containers cannot write to the volume redis-data"},
		"autoscale of models": {func(s *stacks.Stack) {
			s.Service("ollama").Autoscale = &stacks.Autoscale{Min: 1, Max: 2, CPU: 70}
		}, "services.ollama.autoscale: a new replica would come up with an empty volume ollama-data"},
		"registry with scheme": {func(s *stacks.Stack) {
			s.Registry = "https://example.com"
		}, `registry: "https://example.com" is no registry`},
		"route of a port": {func(s *stacks.Stack) {
			s.Route = &stacks.Route{Host: "a.example:80", Ingress: &stacks.Ingress{Class: "x"}}
		}, `route.host: "a.example:80" is no DNS name`},
		"waiver without reason": {func(s *stacks.Stack) {
			s.Waivers = []stacks.Waiver{{Rule: "r", Subject: "edge"}}
		}, "waivers.r: needs a rule, a subject, a reason"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "prod", withPassword())
			tc.change(&s)
			err := s.Validate()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestValidateReportsEveryProblem: all of them, in the order of their paths, each time.
func TestValidateReportsEveryProblem(t *testing.T) {
	s := load(t, "prod", withPassword())
	s.Service("edge").Security.KeepCapabilities = map[string]string{
		"B": "",
		"A": "",
		"D": "",
		"C": "",
	}

	s.Service("backend").Replicas, s.Service("ml").Resources.PIDs, s.Service("redis").Image.Ref = 0, 0, "redis"
	err := s.Validate()
	for _, want := range []string{
		"services.backend.replicas: ", "services.ml.resources.pids: ", "services.redis.image.ref: ",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}

	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 7 || !slices.IsSorted(lines) {
		t.Errorf("want seven lines in order, got:\n%v", err)
	}
}

func TestOverlays(t *testing.T) {
	published := func(s stacks.Stack) (out []string) {
		for _, svc := range s.Services {
			for _, p := range svc.Ports {
				if p.Host != 0 {
					out = append(out, svc.Name)
				}
				if p.Host != 0 && p.Address != "127.0.0.1" {
					t.Errorf("%s: %s is published on %s", s.Name, svc.Name, p.Address)
				}
			}
		}

		return slices.Compact(out)
	}

	for _, name := range []string{"prod", "healthcare"} {
		if got := published(load(t, name, withPassword())); !slices.Equal(got, []string{"edge"}) {
			t.Errorf("%s publishes %v, want the edge only", name, got)
		}
	}

	dev := load(t, "dev", stacks.Settings{})
	if got := published(dev); len(got) != len(dev.Services) {
		t.Errorf("dev publishes %v, want all %d", got, len(dev.Services))
	}
	if len(dev.Secrets) != 0 {
		t.Error("dev asks for a secret")
	}
	if u := dev.Service("backend").Security.UID; u != 1000 {
		t.Errorf("dev's backend runs as %d, want the owner of the checkout", u)
	}
	if !dev.Service("ml").Contract.(*mlenv.Config).Debug {
		t.Error("dev does not debug")
	}

	rooted, err := stacks.Load("dev", stacks.Settings{}, stacks.Checkout{FS: os.DirFS("..")})
	if err != nil {
		t.Fatal(err)
	}
	if err := rooted.Validate(); err != nil {
		t.Errorf("a checkout of root: %v", err)
	}

	for _, svc := range load(t, "healthcare", withPassword()).Services {
		if svc.Name != "edge" && !slices.Equal(svc.Networks, []string{"codexcontinue-private"}) {
			t.Errorf("healthcare's %s is on %v", svc.Name, svc.Networks)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		stack    string
		settings stacks.Settings
		checkout stacks.Checkout
		want     string
	}{
		// Upper case: `codexctl new` gives nobody such a name.
		"unknown stack": {"Staging", stacks.Settings{}, checkout(),
			`stack "Staging" has no overlay: set one with`},
		"unknown overlay": {"x", stacks.Settings{Overlay: "Test"}, checkout(),
			`codexcontinue:overlay: "Test" is none of ` + strings.Join(stacks.Overlays(), ", ")},
		"missing secret": {"prod", stacks.Settings{}, checkout(),
			"codexcontinue:redisPassword: is not set, and this stack needs it: pulumi config set --secret"},
		"unknown service": {"dev",
			stacks.Settings{Services: map[string]stacks.ServiceSettings{"bakend": {}}}, checkout(),
			"codexcontinue:services.bakend: this stack has no such service (it has edge, "},
		"unknown domain": {"dev", stacks.Settings{Domain: "No-Domain"}, checkout(),
			`codexcontinue:domain: "No-Domain" is none of `},
		"a domain elsewhere": {"dev", stacks.Settings{Domain: "../stacks"}, checkout(),
			`codexcontinue:domain: "../stacks" is none of `},
		"no Modelfile": {"dev",
			stacks.Settings{Model: stacks.ModelSettings{Modelfile: "modelfiles/gone/Modelfile"}},
			checkout(), "modelfiles/gone/Modelfile: there is no such Modelfile"},
		"both at once": {"prod",
			stacks.Settings{Model: stacks.ModelSettings{Modelfile: "modelfiles/gone/Modelfile"}},
			checkout(), "redisPassword\ncodexcontinue:model.modelfile: "},
		"Modelfile outside": {"dev", stacks.Settings{Model: stacks.ModelSettings{Modelfile: "other/Modelfile"}},
			stacks.Checkout{FS: fstest.MapFS{"other/Modelfile": {Data: []byte("FROM x\n")}}},
			"does not lie in modelfiles/"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stacks.Load(tc.stack, tc.settings, tc.checkout)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestSettingsChangeTheStack(t *testing.T) {
	three := 3
	s := load(t, "mine", stacks.Settings{
		Overlay:     "dev",
		PortOffset:  1000,
		Domain:      "healthcare",
		DomainTitle: "Care",
		Secrets:     map[string]bool{"redisPassword": true},
		Edge:        stacks.EdgeSettings{Port: 80, Address: "0.0.0.0"},
		GPU:         &stacks.GPU{Count: 1},
		Model:       stacks.ModelSettings{Base: "tiny"},
		Services: map[string]stacks.ServiceSettings{
			"redis":    {Memory: stacks.GiB},
			"frontend": {Replicas: &three},
		},
	})

	if p := s.Service("edge").Ports[0]; p.Host != 1080 || p.Address != "0.0.0.0" {
		t.Errorf("the edge's port is %+v", p)
	}

	if c := s.Service("redis").Files[0].Content; !strings.Contains(c, "maxmemory 805306368\n") ||
		!strings.Contains(strings.Join(s.Service("redis").Command, " "), "/run/secrets/redis-auth.conf") {
		t.Errorf("redis.conf:\n%s", c)
	}

	ml := s.Service("ml").Contract.(*mlenv.Config)
	if ml.BaseModel != "tiny" || ml.ModelfileDigest != s.Model.Digest ||
		ml.ModelfilePath != "/models/ollama/codexcontinue/Modelfile" {
		t.Errorf("ml gets %+v", ml)
	}

	if s.Service("ollama").GPU == nil || s.Service("frontend").Replicas != 3 {
		t.Error("a setting was dropped")
	}

	texts := s.Service("frontend").Files[0].Content
	if !strings.Contains(texts, `"title": "Care"`) ||
		!strings.Contains(texts, "Not a medical device") {
		t.Errorf("people see %s", texts)
	}

	if other := load(t, "dev", stacks.Settings{}); other.Model.Digest == s.Model.Digest {
		t.Error("another base model has the same digest")
	}
}

func TestRemove(t *testing.T) {
	s := load(t, "dev", stacks.Settings{})
	s.Remove("redis")
	if s.Service("redis") != nil || slices.Contains(s.Service("backend").DependsOn, "redis") {
		t.Error("redis is still there")
	}
}

func TestFileText(t *testing.T) {
	for name, tc := range map[string]struct {
		file stacks.File
		want string
	}{
		"plain":     {stacks.File{Content: "port 1 ${secret}"}, "port 1 ${secret}"},
		"raw":       {stacks.File{Secret: "s"}, "pass"},
		"in a text": {stacks.File{Secret: "s", Content: "a ${secret} b ${secret}\n"}, "a pass b pass\n"},
		"as a hash": {stacks.File{Secret: "s", Content: "#${secret.sha256}"},
			"#d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1"},
		"both": {stacks.File{Secret: "s", Content: "${secret}${secret.sha256}"},
			"passd74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1"},
		"derived": {stacks.File{Secret: "s", Content: "a " + stacks.SecretFor("redis user ml")},
			"a 70038fa30b427d0919ae0a00f439c7452915f33bfc45c51439a75ff405e97955"},
		"derived, as a hash": {
			stacks.File{Secret: "s", Content: "#" + stacks.SecretHashFor("redis user ml") + "\n"},
			"#2d71694d2bd7c8d6a0f463802ca562d8bc1620bc8b1faac9cd0f1fbbe120282a\n"},
		"like shell": {stacks.File{Secret: "s", Content: "$secret ${other}"}, "$secret ${other}"},
	} {
		if got := tc.file.Text("pass\r\n"); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
